//! The two things that this program does, over any library.

use std::collections::BTreeMap;

use crate::{
    answer::Answer,
    bus::Bus,
    evidence::{CcState, Evidence, Raw, is_ready, text},
    failure::Failure,
    library::{Library, if_supported},
    request::{MAX_DEVICES, Request},
};

const READY: u32 = 1;

/// Evidence of every GPU in the request, and no other GPU may be there.
pub(crate) fn report(library: &impl Library, request: &Request) -> Result<Answer, Failure> {
    let present = gpus(library)?;
    let settings = library.settings()?;
    // Off or unknown states end it here, before a GPU is asked.
    CcState::of(settings, false)?;
    let driver_version = library.driver_version()?;
    if let Some(bus) =
        present.keys().find(|bus| !request.devices.iter().any(|one| one.bus == **bus))
    {
        return Err(Failure::DeviceUnasked(bus.to_string()));
    }
    let ready_before = is_ready(library.gpus_ready()?)?;
    let taken: Vec<_> = request
        .devices
        .iter()
        .map(|asked| {
            let raw = match present.get(&asked.bus) {
                Some(gpu) => take(library, *gpu, &driver_version, &request.challenge),
                None => Err(Failure::DeviceMissing(present.len())),
            };
            (asked, raw)
        })
        .collect();
    // Whoever set them ready in between did it before the evidence was complete.
    let is_ready = ready_before || is_ready(library.gpus_ready()?)?;
    let cc = CcState::of(settings, is_ready)?;
    let judged = taken.into_iter().map(|(asked, raw)| {
        let evidence = raw.and_then(|raw| Evidence::of(&raw, cc, &asked.name, &request.challenge));
        (asked.bus, evidence)
    });
    Ok(Answer::devices(judged.collect()))
}

/// Every GPU of the machine takes work from here on.
pub(crate) fn ready(library: &impl Library) -> Result<Answer, Failure> {
    CcState::of(library.settings()?, false)?;
    if !is_ready(library.gpus_ready()?)? {
        library.set_gpus_ready(READY)?;
    }
    match library.gpus_ready()? {
        READY => Ok(Answer::ready()),
        other => Err(Failure::ReadyRefused(other)),
    }
}

/// The driver's GPUs with their numbers.
fn gpus(library: &impl Library) -> Result<BTreeMap<Bus, u32>, Failure> {
    let mut gpus = BTreeMap::new();
    let count = library.count()?;
    for gpu in 0..count.min(MAX_DEVICES as u32 + 1) {
        let address = text(&library.bus(gpu)?, "PCI address").map_err(|_| Failure::Bus)?;
        let bus = Bus::parse(&address).ok_or(Failure::Bus)?;
        if gpus.insert(bus, gpu).is_some() {
            return Err(Failure::DeviceUnasked(bus.to_string()));
        }
    }
    Ok(gpus)
}

fn take(
    library: &impl Library,
    gpu: u32,
    driver_version: &[u8],
    challenge: &[u8; 32],
) -> Result<Raw, Failure> {
    Ok(Raw {
        architecture: library.architecture(gpu)?,
        uuid: if_supported(library.uuid(gpu))?,
        report: library.report(gpu, challenge)?,
        certificates: library.certificates(gpu)?,
        driver_version: driver_version.to_vec(),
        vbios_version: library.vbios_version(gpu)?,
        mig: if_supported(library.mig_mode(gpu))?,
        virtualization: if_supported(library.virtualization(gpu))?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::simulated::{Fault, Simulated};

    fn request(buses: &[&str]) -> Request {
        let devices: Vec<String> = buses
            .iter()
            .enumerate()
            .map(|(number, bus)| format!(r#"{{"bus":"{bus}","name":"gpu{number}"}}"#))
            .collect();
        let text = format!(
            r#"{{"version":1,"challenge":"{}","devices":[{}]}}"#,
            "07".repeat(32),
            devices.join(",")
        );
        Request::parse(text.as_bytes()).unwrap()
    }

    fn answered(library: &Simulated, buses: &[&str]) -> (Value, bool) {
        let answer = report(library, &request(buses)).unwrap();
        let (line, is_complete) = answer.to_line();
        (serde_json::from_slice(&line).unwrap(), is_complete)
    }

    const ONE: &str = "0000:01:00.0";
    const TWO: &str = "0000:02:00.0";

    #[test]
    fn every_gpu_that_was_asked_for_answers_under_its_name() {
        let library = Simulated::with(&[TWO, ONE]);
        let (answer, is_complete) = answered(&library, &[ONE, TWO]);
        assert!(is_complete, "{answer}");
        for (number, bus) in [ONE, TWO].iter().enumerate() {
            let device = &answer["devices"][number];
            assert_eq!(device["bus"], *bus);
            let evidence: Value =
                serde_json::from_str(device["evidence"].as_str().unwrap()).unwrap();
            assert_eq!(evidence["device"], format!("gpu{number}"));
            assert_eq!(evidence["cc"]["gpus_ready"], false);
        }
    }

    #[test]
    fn a_gpu_of_the_driver_that_nobody_asked_for_ends_it() {
        let library = Simulated::with(&[ONE, TWO]);
        let failure = report(&library, &request(&[ONE])).unwrap_err();
        assert_eq!(failure.code().as_str(), "ST-GPUE-21");
        let twice = Simulated::with(&[ONE, ONE]);
        let failure = report(&twice, &request(&[ONE])).unwrap_err();
        assert_eq!(failure.code().as_str(), "ST-GPUE-21");
    }

    #[test]
    fn a_gpu_that_the_driver_lacks_is_named() {
        let (answer, is_complete) = answered(&Simulated::with(&[ONE]), &[ONE, TWO]);
        assert!(!is_complete);
        assert!(answer["devices"][0]["evidence"].is_string());
        assert_eq!(answer["devices"][1]["error"]["code"], "ST-GPUE-20");
    }

    /// One fault at a time: where it is said, and as what.
    #[test]
    fn each_fault_has_its_code() {
        for (fault, code) in [
            (Fault::Call("nvmlSystemGetConfComputeSettings"), "ST-GPUE-12"),
            (Fault::Missing("nvmlSystemGetConfComputeSettings"), "ST-GPUE-11"),
            (Fault::Call("nvmlSystemGetConfComputeGpusReadyState"), "ST-GPUE-12"),
            (Fault::Call("nvmlDeviceGetCount_v2"), "ST-GPUE-12"),
            (Fault::Call("nvmlDeviceGetPciInfo_v3"), "ST-GPUE-12"),
            (Fault::Bus(b"nonsense\0"), "ST-GPUE-14"),
            (Fault::Bus(b"00000000:01:00.0 without an end"), "ST-GPUE-14"),
            (Fault::CcOff, "ST-GPUE-30"),
            (Fault::ReadyState(2), "ST-GPUE-31"),
        ] {
            let library = Simulated::with(&[ONE]).failing(fault);
            let failure = report(&library, &request(&[ONE])).unwrap_err();
            assert_eq!(failure.code().as_str(), code, "{fault:?}: {failure}");
        }
        for (fault, code) in [
            (Fault::Call("nvmlDeviceGetConfComputeGpuAttestationReport"), "ST-GPUE-12"),
            (Fault::Call("nvmlDeviceGetConfComputeGpuCertificate"), "ST-GPUE-12"),
            (Fault::Call("nvmlDeviceGetUUID"), "ST-GPUE-12"),
            (Fault::Architecture(8), "ST-GPUE-32"),
            (Fault::StaleReport, "ST-GPUE-43"),
            (Fault::ReportLength(9000), "ST-GPUE-40"),
            (Fault::ReportLength(100), "ST-GPUE-40"),
            (Fault::CertificateLength(6000), "ST-GPUE-44"),
            (Fault::CertificateLength(10), "ST-GPUE-45"),
        ] {
            let (answer, is_complete) = answered(&Simulated::with(&[ONE]).failing(fault), &[ONE]);
            assert_eq!(answer["devices"][0]["error"]["code"], code, "{fault:?}");
            assert!(!is_complete && answer["devices"][0].get("evidence").is_none());
        }
    }

    #[test]
    fn what_is_not_supported_is_said_to_be_unknown() {
        let library = Simulated::with(&[ONE]).failing(Fault::Unsupported);
        let (answer, is_complete) = answered(&library, &[ONE]);
        assert!(is_complete, "{answer}");
        let text = answer["devices"][0]["evidence"].as_str().unwrap();
        assert!(text.contains(r#""mig":"unknown""#) && !text.contains("uuid_digest"), "{text}");
    }

    #[test]
    fn gpus_that_become_ready_meanwhile_were_ready() {
        let library = Simulated::with(&[ONE]).failing(Fault::ReadyMeanwhile);
        let (answer, _) = answered(&library, &[ONE]);
        let text = answer["devices"][0]["evidence"].as_str().unwrap();
        assert!(text.contains(r#""gpus_ready":true"#), "{text}");
    }

    #[test]
    fn ready_is_set_once_and_read_back() {
        let library = Simulated::with(&[ONE]);
        assert_eq!(ready(&library), Ok(Answer::ready()));
        assert_eq!(ready(&library), Ok(Answer::ready()));
        assert_eq!(library.times_set(), 1);
        for (fault, code) in [
            (Fault::ReadyIsLost, "ST-GPUE-50"),
            (Fault::Call("nvmlSystemSetConfComputeGpusReadyState"), "ST-GPUE-12"),
            (Fault::CcOff, "ST-GPUE-30"),
        ] {
            let failure = ready(&Simulated::with(&[ONE]).failing(fault)).unwrap_err();
            assert_eq!(failure.code().as_str(), code, "{fault:?}");
        }
    }

    /// The largest answer: 16 GPUs with full buffers. The agent reads no more than 512 KiB.
    #[test]
    fn the_largest_answer_fits() {
        let buses: Vec<String> = (0..16).map(|bus| format!("0000:{bus:02x}:00.0")).collect();
        let buses: Vec<&str> = buses.iter().map(String::as_str).collect();
        let answer =
            report(&Simulated::with(&buses).with_full_buffers(), &request(&buses)).unwrap();
        let (line, is_complete) = answer.to_line();
        assert!(is_complete, "{}", String::from_utf8_lossy(&line[..300]));
        assert!((250 << 10..512 << 10).contains(&line.len()), "{} bytes", line.len());
    }
}
