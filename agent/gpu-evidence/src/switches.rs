//! Evidence of a machine's switches, over any library. The driver lists them; the first in the order of their UUIDs has the
//! first name. Which of them is at which address nobody asks: a verifier knows them by what they sign.

use std::collections::BTreeSet;

use crate::{
    answer::{Answer, TakenFromSwitch},
    failure::Failure,
    request::SwitchRequest,
    switch_evidence::{RawSwitch, SwitchEvidence, SwitchMode},
    switch_library::{SwitchLibrary, Uuid},
};

/// As many switches as were asked for, each with evidence or an error.
pub(crate) fn report(
    library: &impl SwitchLibrary,
    request: &SwitchRequest,
) -> Result<Answer, Failure> {
    let listed = library.uuids()?;
    let switches: BTreeSet<Uuid> = listed.iter().copied().collect();
    if switches.len() != listed.len() {
        return Err(Failure::SwitchTwice);
    }
    let (found, asked) = (switches.len(), request.names.len());
    if found != asked {
        return Err(Failure::SwitchCount { found, asked });
    }
    let architectures = library.architectures()?;
    let judged = switches.iter().zip(&request.names).map(|(switch, name)| {
        let evidence = take(library, switch, &architectures, name, &request.challenge);
        (name.clone(), evidence)
    });
    Ok(Answer::switches(judged.collect()))
}

fn take(
    library: &impl SwitchLibrary,
    switch: &Uuid,
    architectures: &[(Uuid, i8)],
    name: &str,
    challenge: &[u8; 32],
) -> TakenFromSwitch {
    let own = architectures.iter().filter(|(uuid, _)| uuid == switch).copied().collect();
    let architecture = crate::observation::only(own, switch, "switch's architecture")?;
    // Off, it has neither certificates nor a report; and a lock does not open before a reset.
    let mode = SwitchMode::of(library.state(switch)?)?;
    let raw = RawSwitch {
        architecture,
        certificates: library.certificates(switch)?,
        report: library.report(switch, challenge)?,
    };
    Ok((SwitchEvidence::of(&raw, name, challenge)?, mode))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::simulated_switches::{Fault, Simulated};
    use crate::switch_library::{AnswerFault, SwitchCallError};

    fn request(count: usize) -> SwitchRequest {
        let names = (0..count).map(|number| format!("s{number}")).collect();
        SwitchRequest { challenge: [7; 32], names }
    }

    fn answered(library: &Simulated, count: usize) -> (Value, bool) {
        let (line, is_complete) = report(library, &request(count)).unwrap().to_line();
        (serde_json::from_slice(&line).unwrap(), is_complete)
    }

    #[test]
    fn every_switch_answers_under_the_name_of_its_place() {
        // As the driver lists them, and as they are named.
        let (answer, is_complete) = answered(&Simulated::with(&[3, 1, 4, 2]), 4);
        assert!(is_complete, "{answer}");
        for number in 0..4 {
            let switch = &answer["switches"][number];
            assert_eq!(switch["name"], format!("s{number}"));
            assert_eq!(switch["mode"], "locked");
            let evidence: Value =
                serde_json::from_str(switch["evidence"].as_str().unwrap()).unwrap();
            assert_eq!(evidence["device"], format!("s{number}"));
            assert_eq!(evidence["architecture"], "ls10");
        }
        let again = answered(&Simulated::with(&[1, 2, 3, 4]), 4);
        assert_eq!(again.0, answer, "the order of the driver's list does not count");
    }

    #[test]
    fn the_driver_must_have_as_many_as_were_asked_for() {
        let code = |numbers: &[u8], asked| {
            report(&Simulated::with(numbers), &request(asked)).unwrap_err().code().as_str()
        };
        assert_eq!(code(&[], 4), "ST-GPUE-65");
        assert_eq!(code(&[1, 2, 3], 4), "ST-GPUE-65");
        assert_eq!(code(&[1, 2, 3, 4, 5], 4), "ST-GPUE-65");
        assert_eq!(code(&[1, 2, 3, 3], 4), "ST-GPUE-66");
        assert_eq!(code(&[1, 2, 3, 3], 3), "ST-GPUE-66");
    }

    /// One fault at a time: where it is said, and as what.
    #[test]
    fn each_fault_has_its_code() {
        for fault in [Fault::Call("uuids"), Fault::Call("architectures")] {
            let failure = report(&Simulated::with(&[1]).failing(fault), &request(1)).unwrap_err();
            assert_eq!(failure.code().as_str(), "ST-GPUE-63", "{fault:?}: {failure}");
        }
        for (fault, code) in [
            (Fault::Call("state"), "ST-GPUE-63"),
            (Fault::Call("certificates"), "ST-GPUE-63"),
            (Fault::Call("report"), "ST-GPUE-63"),
            (Fault::NoArchitecture, "ST-GPUE-64"),
            (Fault::TwoArchitectures, "ST-GPUE-64"),
            (Fault::Architecture(1), "ST-GPUE-67"),
            (Fault::Mode(0), "ST-GPUE-69"),
            (Fault::Mode(9), "ST-GPUE-68"),
            (Fault::StaleReport, "ST-GPUE-43"),
            (Fault::ReportLength(9000), "ST-GPUE-40"),
            (Fault::ReportLength(100), "ST-GPUE-40"),
            (Fault::ReportLength(u32::MAX), "ST-GPUE-40"),
            (Fault::CertificateLength(0), "ST-GPUE-45"),
            (Fault::CertificateLength(u32::MAX), "ST-GPUE-44"),
            (Fault::NoBios, "ST-GPUE-70"),
        ] {
            let (answer, is_complete) = answered(&Simulated::with(&[1, 2]).failing(fault), 2);
            for switch in answer["switches"].as_array().unwrap() {
                assert_eq!(switch["error"]["code"], code, "{fault:?}");
                assert!(switch.get("evidence").is_none() && switch.get("mode").is_none());
            }
            assert!(!is_complete);
        }
    }

    /// A switch that is not locked has evidence, which says so; the agent is told.
    #[test]
    fn what_is_not_locked_is_said() {
        for (number, word) in [(-1, "unknown"), (1, "enabled"), (2, "failed")] {
            let (answer, is_complete) =
                answered(&Simulated::with(&[1]).failing(Fault::Mode(number)), 1);
            assert!(is_complete, "{answer}");
            assert_eq!(answer["switches"][0]["mode"], word);
        }
    }

    #[test]
    fn words_of_the_library_are_in_the_failure() {
        let code = SwitchCallError::Code { call: "x", code: 1 };
        assert_eq!(code.to_string(), "x: code 1 (library and driver do not fit together)");
        let answer = SwitchCallError::Answer { what: "y", fault: AnswerFault::Repeated };
        assert!(answer.to_string().ends_with("it gave more than one"), "{answer}");
    }

    /// The largest answer: eight switches with full buffers.
    #[test]
    fn the_largest_answer_fits() {
        let library = Simulated::with(&[1, 2, 3, 4, 5, 6, 7, 8]).with_full_buffers();
        let (line, is_complete) = report(&library, &request(8)).unwrap().to_line();
        assert!(is_complete, "{}", String::from_utf8_lossy(&line[..300]));
        assert!((125 << 10..160 << 10).contains(&line.len()), "{} bytes", line.len());
    }
}
