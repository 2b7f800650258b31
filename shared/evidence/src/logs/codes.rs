//! Why a foreign event log is refused: one code for one cause. The table in this folder's README has the same texts.

crate::code_table! {
    // 01 was a missing log: boot registers without one are held against reference values whole.
    TooLong "ST-LOG-02"
        "the event log is longer than its limit, or has more events than its limit"
        "do not trust this log; real ones are far shorter"
    Replay "ST-LOG-03"
        "the event log does not lead to all four registers of the quote"
        "do not trust this evidence; log and quote are not of one VM and moment"
    PayloadDigest "ST-LOG-04"
        "an event's payload is not what its digest covers"
        "do not trust this evidence; its log was edited"
    OtherBank "ST-LOG-05"
        "a record has another digest than one of SHA-384, or more than one"
        "ask for a log of the SHA-384 bank; the registers hold nothing else"
    NoActionDigest "ST-LOG-06"
        "an event that is never extended carries a digest"
        "do not trust this log; its firmware or its editor breaks the format"
    RegisterOutOfRange "ST-LOG-07"
        "an event names a register that does not exist"
        "do not trust this log; registers count from 1 to 4 in CCEL and from 0 to 3 in JSON"
    LateIdentity "ST-LOG-08"
        "an identity event comes after the boot marker, where any program in the guest can write one"
        "do not trust this VM; a program in it claims another identity"
    MarkerMissing "ST-LOG-09"
        "the log has no boot marker, so nothing says where the boot ends"
        "ask for evidence of a VM that has finished booting"
    Repeated "ST-LOG-10"
        "an event that occurs once per boot occurs twice"
        "do not trust this VM; its identity is ambiguous"
    NameAmbiguous "ST-LOG-11"
        "a run-time event's name is empty, too long, or holds `:` or a control character"
        "do not trust this log; such names let two events have one digest"
    DigestVersion "ST-LOG-12"
        "a run-time event has a digest version that this program does not know"
        "update this program"
    RuntimeDigest "ST-LOG-13"
        "a run-time event's digest is not the one that its version gives"
        "do not trust this evidence; its log was edited or its version changed"
    Preimage "ST-LOG-14"
        "a run-time event lacks its preimage or has another than its version gives"
        "ask the guest's agent for the log again, unedited"
    Truncated "ST-LOG-15"
        "the log ends inside a record"
        "pass the whole log as the guest has it"
    Trailing "ST-LOG-16"
        "bytes other than padding follow the end of the log"
        "pass the log as the guest has it; nothing may be appended"
    SeparatorMissing "ST-LOG-17"
        "a firmware register holds no separator, so nothing says that the firmware's phase ended"
        "do not appraise single events of this log; its firmware did not finish measuring"
    HeaderMalformed "ST-LOG-18"
        "the log does not begin with a specification record of the crypto-agile format"
        "pass the bytes of the CCEL data area, from its first byte"
    JsonUnreadable "ST-LOG-19"
        "the JSON log is not a list of events of this form, or has unknown fields"
        "take the log from the guest's agent unchanged"
    EventForm "ST-LOG-20"
        "an event's type does not belong into its register, or its digest is missing"
        "do not trust this log; its guest is not of a known generation"
    EventOrder "ST-LOG-21"
        "the identity events are not in the order in which a boot makes them"
        "do not trust this VM; something other than its boot wrote them"
    EventUnknown "ST-LOG-22"
        "an event before the boot marker is not one that a known boot makes"
        "do not trust this VM, or update this program"
    IdentityMissing "ST-LOG-23"
        "an identity event that every boot makes is missing"
        "do not trust this VM; its boot is not the known one"
    IdentityValue "ST-LOG-24"
        "an identity event's payload has another form than its name asks for"
        "do not trust this VM; its boot is not the known one"
    TwoPlaces "ST-LOG-25"
        "evidence holds boot events beside the firmware's own log, or that log extends register 3"
        "ask for new evidence; the parts of one log contradict each other"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::check_table;

    #[test]
    fn codes_are_unique_and_in_the_readme() {
        let entries = Code::ALL.iter().map(|code| code.entry());
        check_table("ST-LOG", include_str!("README.md"), entries);
    }
}
