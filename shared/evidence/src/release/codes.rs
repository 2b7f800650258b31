//! Every reason for which a release manifest, its keys or the memory of releases is refused.

crate::code_table! {
    TooLong "ST-REL-01"
        "the release manifest is longer than 4 MiB"
        "check that you passed the right file"
    Unreadable "ST-REL-02"
        "the release manifest is not a DSSE envelope, or has unknown fields"
        "take the file of the release unchanged"
    PayloadType "ST-REL-03"
        "the envelope holds something other than an in-toto statement"
        "take the file of the release unchanged"
    Signatures "ST-REL-04"
        "the envelope has no signature, more than 16, or two of one key"
        "take the file of the release unchanged"
    SignatureInvalid "ST-REL-05"
        "a signature under a trusted key's name is not that key's signature of this manifest"
        "do not trust this manifest; it was edited"
    Threshold "ST-REL-06"
        "too few holders of trusted keys signed the manifest"
        "take the manifest with all its signatures; check that your key set is the current one"
    StatementUnreadable "ST-REL-07"
        "the manifest's statement is too long, not canonical JSON, or has unknown fields"
        "take the file of the release unchanged; or update this program"
    StatementType "ST-REL-08"
        "the statement is of another type or version than a release"
        "check that you passed a release manifest; or update this program"
    Field "ST-REL-09"
        "a value in the manifest is out of its limits or contradicts another"
        "report this to the makers of the release"
    NotYetValid "ST-REL-10"
        "the manifest is not valid yet"
        "check your clock"
    Expired "ST-REL-11"
        "the manifest is no longer valid"
        "take the current manifest of the release, or a newer release"
    KeysUnreadable "ST-REL-12"
        "the key set is too long, not JSON of this form, or has unknown fields"
        "take the key set of the project unchanged; or update this program"
    KeysField "ST-REL-13"
        "a value in the key set is out of its limits or contradicts another"
        "take the key set of the project unchanged"
    ReferenceOther "ST-REL-14"
        "the manifest names other reference values than these"
        "take the reference values that were published with the manifest"
    RolledBack "ST-REL-15"
        "a newer edition of this release's manifest was seen before"
        "take the newest manifest of the release"
    BelowMinimum "ST-REL-16"
        "a newer release says that this one is not to be used any more"
        "take a newer release; the provider must run it"
    Equivocation "ST-REL-17"
        "there are two different manifests of the same release and edition"
        "trust neither, and tell the makers of the release"
    Revoked "ST-REL-18"
        "something that the manifest lists was revoked"
        "take a newer release; the provider must run it"
    MemoryUnreadable "ST-REL-19"
        "the memory of releases is too long, not JSON of this form, or has unknown fields"
        "restore the file from a copy; removing it forgets what was revoked"
    MemoryField "ST-REL-20"
        "a value in the memory of releases is out of its limits"
        "restore the file from a copy; removing it forgets what was revoked"
    MergeOther "ST-REL-21"
        "the two envelopes hold different statements"
        "both holders must sign the same manifest: compare it field by field"
    SignedAlready "ST-REL-22"
        "this key has signed the manifest already"
        "have another holder sign it"
    MergeConflict "ST-REL-23"
        "the two envelopes have different signatures under the same key id"
        "one of them was edited: ask its holder to sign again"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_in_the_readme() {
        let readme = include_str!("README.md");
        let mut seen = BTreeSet::new();
        for entry in Code::ALL.iter().map(|code| code.entry()) {
            assert!(seen.insert(entry.code), "{} is used twice", entry.code);
            let row = format!("| {} | {} | {} |", entry.code, entry.cause, entry.fix);
            assert!(readme.contains(&row), "the README lacks: {row}");
        }
        assert_eq!(readme.matches("| ST-REL-").count(), Code::ALL.len());
    }
}
