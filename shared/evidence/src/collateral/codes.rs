//! Every reason for which collateral cannot be asked for, read or remembered.

crate::code_table! {
    Subject "ST-COLL-01"
        "the quote does not say for which machine collateral is needed"
        "ask for new evidence; its quote must carry the machine's certificate chain"
    Base "ST-COLL-02"
        "the address of the collateral service cannot be used"
        "give an https address without path, query or user; plain http only for this machine itself"
    Answer "ST-COLL-03"
        "the collateral service gave an answer of another form than expected"
        "try again later, or ask another service"
    Unreachable "ST-COLL-04"
        "the collateral service cannot be reached, or refuses"
        "check your network and proxy; try again later; or pass collateral as a file"
    EvaluationFell "ST-COLL-05"
        "the TCB info is older than one that you have seen for such machines"
        "fetch new collateral; if you once took the early set, take it again"
    QeEvaluationFell "ST-COLL-06"
        "the identity of the quoting enclave is older than one that you have seen"
        "fetch new collateral; if you once took the early set, take it again"
    RootCrlFell "ST-COLL-07"
        "the revocation list of the root is older than one that you have seen"
        "fetch new collateral; do not use the sender's"
    PckCrlFell "ST-COLL-08"
        "the revocation list of machines is older than one that you have seen"
        "fetch new collateral; do not use the sender's"
    MemoryUnreadable "ST-COLL-09"
        "the memory of collateral is too long, not JSON of this form, or has unknown fields"
        "restore the file from a copy; removing it forgets what you have seen"
    MemoryField "ST-COLL-10"
        "a value in the memory of collateral is out of its limits"
        "restore the file from a copy; removing it forgets what you have seen"
    Facts "ST-COLL-11"
        "the numbers in the collateral contradict each other"
        "fetch collateral again"
    Amd "ST-COLL-12"
        "the report does not say which certificate of the machine is needed"
        "the provider must not mask the chip's id; or ask for a VLEK"
    NotRemembered "ST-COLL-13"
        "collateral is held against your memory at the present time only"
        "nothing to do; the second verdict, at your clock, is held against it"
    NoMemory "ST-COLL-14"
        "there is no memory to hold the collateral against"
        "name a file with --memory, and keep it"
    Product "ST-COLL-15"
        "the report does not say of which processor it is, and no certificates came with it"
        "ask for evidence with its certificates; or pass them with --snp-collateral"
    Vlek "ST-COLL-16"
        "the report is signed with a VLEK, whose certificate AMD hands to the cloud provider only"
        "ask for evidence with its certificates; or pass them with --snp-collateral"
    Gpu "ST-COLL-17"
        "the GPUs' evidence does not say in the right form which RIM files and OCSP responses it needs"
        "ask for new evidence; or pass the files with --gpu-collateral"
    OcspNonce "ST-COLL-18"
        "an OCSP response carries the nonce of another request"
        "ask again; ask another responder if it stays so; or pass the files with --gpu-collateral"
    AmdCrlFell "ST-COLL-19"
        "AMD's revocation list is older than one that you have seen"
        "fetch new certificates and list; do not use the sender's"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::check_table;

    #[test]
    fn codes_are_unique_and_in_the_readme() {
        let entries = Code::ALL.iter().map(|code| code.entry());
        check_table("ST-COLL", include_str!("README.md"), entries);
    }
}
