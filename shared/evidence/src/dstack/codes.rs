//! Causes of dstack's own: one code for one cause. The table in this folder's README has the same texts.

crate::code_table! {
    Unreachable "ST-DSTA-01"
        "dstack's guest agent does not take or keep a connection"
        "check that its socket is mounted into the agent's container and that the agent may open it"
    Slow "ST-DSTA-02"
        "dstack's guest agent did not answer within 30 seconds"
        "see its log; the host's quote generation service may be missing"
    TooLong "ST-DSTA-03"
        "the answer of dstack's guest agent is longer than 4 MiB"
        "see its log; real answers are far shorter"
    Http "ST-DSTA-04"
        "the answer of dstack's guest agent is not one whole HTTP response"
        "check that nothing else listens on its socket"
    Refused "ST-DSTA-05"
        "dstack's guest agent refuses the request"
        "read the reason that it gives; see its log"
    Missing "ST-DSTA-06"
        "dstack's guest agent does not know the method"
        "use a dstack image of generation 0.4 or later"
    Answer "ST-DSTA-07"
        "the answer of dstack's guest agent is not JSON of the form that its generation gives"
        "update this program, or use a dstack image of a known generation"
    Quote "ST-DSTA-08"
        "what dstack's guest agent calls a quote is not one of a TDX VM"
        "use a TDX host; on other hardware take Sealtune's own image"
    LogOther "ST-DSTA-09"
        "the event log in the answer does not lead to the quote in it, or is of an unknown form"
        "ask again; if it stays so, something in the guest extends the register beside its agent"
    NoJobs "ST-DSTA-10"
        "Sealtune's agent gives evidence in a dstack image and runs no jobs there yet"
        "start jobs in VMs of Sealtune's own image"
    LaunchBySoftware "ST-DSTA-20"
        "the launch configuration is bound by the software of the compose file, not by the CPU"
        "use Sealtune's own image, or say `launch = \"software\"` in your policy if you trust that software"
    RegisterClosed "ST-DSTA-21"
        "the log has no event of Sealtune's agent, so that a job has started, or none has, is that agent's word"
        "believe it as far as you believe the software of the compose file"
    EventOrder "ST-DSTA-22"
        "the log holds a `job-start` without a `sealtune-launch` before it"
        "do not trust this VM; something other than Sealtune's agent wrote to its log"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::check_table;

    #[test]
    fn codes_are_unique_and_in_the_readme() {
        let entries = Code::ALL.iter().map(|code| code.entry());
        check_table("ST-DSTA", include_str!("README.md"), entries);
    }
}
