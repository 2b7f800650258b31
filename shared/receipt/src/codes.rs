//! Every reason for which a receipt is refused or doubted. Reasons about its evidence have `ST-EVID` codes.

use sealtune_evidence::codes::CodeEntry;

sealtune_evidence::code_table! {
    PackageTooLong "ST-RCPT-01"
        "the receipt file is longer than 16 MiB"
        "ask for the receipt again"
    PackageUnreadable "ST-RCPT-02"
        "the receipt file is not a JSON document of this form, or has unknown or repeated fields"
        "pass the file as the provider sent it; check the release on both sides"
    PackageVersion "ST-RCPT-03"
        "the receipt file has a version that this program does not know"
        "update this program"
    PackageField "ST-RCPT-04"
        "a part of the receipt file is out of its limits"
        "ask for the receipt again"
    EnvelopeType "ST-RCPT-10"
        "the envelope holds something other than an in-toto statement"
        "do not trust this receipt"
    EnvelopeSignatures "ST-RCPT-11"
        "the envelope does not have exactly one signature"
        "do not trust this receipt"
    SignatureInvalid "ST-RCPT-12"
        "the signature is not that of the VM's receipt key over this statement"
        "do not trust this receipt; it was edited, or signed by another VM"
    KeyOther "ST-RCPT-13"
        "the envelope names another key than the evidence"
        "do not trust this receipt"
    StatementUnreadable "ST-RCPT-14"
        "the statement is too long, not canonical JSON, or has unknown fields"
        "pass the file as the provider sent it; check the release on both sides"
    StatementType "ST-RCPT-15"
        "the statement is of another type or version"
        "update this program, or do not trust this receipt"
    StatementField "ST-RCPT-16"
        "a value in the statement is out of its limits or contradicts another"
        "do not trust this receipt"
    StatementJob "ST-RCPT-20"
        "the statement is about another job, attempt or specification than its evidence"
        "do not trust this receipt"
    StatementLaunch "ST-RCPT-21"
        "the statement names another launch configuration or release than its evidence"
        "do not trust this receipt"
    StatementPrevious "ST-RCPT-22"
        "the statement does not follow the start evidence in the package"
        "do not trust this receipt; its parts are of different VMs or jobs"
    StatementGpu "ST-RCPT-23"
        "the statement names other GPU evidence than its evidence"
        "do not trust this receipt"
    JobFailed "ST-RCPT-24"
        "the job failed: this is a record of a failure, not of a result"
        "see the reason in the record; the detail is in the owner's sealed log"
    OfferAbsent "ST-RCPT-25"
        "the offer that the job was released to is not in the package"
        "compare its digest with the one in your job specification"
    OpeningUnknown "ST-RCPT-26"
        "the receipt has no commitment of the opening's name"
        "take the opening of the same job"
    OpeningMismatch "ST-RCPT-27"
        "the opening does not open the receipt's commitment"
        "the value is not the one that the job used; take the opening of the same job and attempt"
    ResultOther "ST-RCPT-28"
        "the result file is not the one that the receipt is about"
        "fetch the result again"
    NoClaims "ST-RCPT-29"
        "the evidence has no readable claims, so the signature cannot be checked"
        "look at the evidence's own findings"
    SigningFailed "ST-RCPT-30"
        "the statement could not be written"
        "report this against the agent's release"
}

/// The row for `code`, of receipts or of evidence.
pub fn explain(code: &str) -> Option<CodeEntry> {
    Code::ALL
        .iter()
        .map(|known| known.entry())
        .find(|entry| entry.code.eq_ignore_ascii_case(code))
        .or_else(|| sealtune_evidence::codes::explain(code))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_in_the_readme() {
        let readme = include_str!("../README.md");
        let mut seen = BTreeSet::new();
        for entry in Code::ALL.iter().map(|code| code.entry()) {
            assert!(seen.insert(entry.code), "{} is used twice", entry.code);
            let row = format!("| {} | {} | {} |", entry.code, entry.cause, entry.fix);
            assert!(readme.contains(&row), "the README lacks: {row}");
        }
        assert_eq!(readme.matches("| ST-RCPT-").count(), Code::ALL.len());
    }
}
