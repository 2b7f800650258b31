//! The host's part in evidence: boot measurements, image identity, collateral, and with the feature `simulated-tee`
//! the stand-in for the hardware.

use std::path::Path;

use base64::Engine as _;
use sealtune_evidence::{
    BootFiles, BootMeasurement, EventLog, EvidenceBundle, GpuEvidence, ImageIdentity, Shape, Tee,
    bundle::MAX_CCEL_BYTES, layout1, logs::CcelLog,
};
use sealtune_wire::v1::{Evidence, GpuPart, HostReply, HostRequest};

use super::{definition::VmDefinition, image::GuestImage};
use crate::store::{Store, StoreError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum TeeError {
    #[error("read {path}: {error}")]
    Read { path: String, error: std::io::Error },
    #[error("measure the VM: {0}")]
    Measure(#[from] sealtune_seal::canonical::CanonicalError),
    #[error("understand the agent's evidence")]
    AgentEvidence,
    #[error("understand evidence of the agent's TEE, which this daemon does not know")]
    UnknownTee,
    #[error("accept the agent's GPU evidence: it is out of its limits")]
    GpuBounds,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[cfg(not(feature = "simulated-tee"))]
    #[error("stand in for the TEE: this build has no simulated TEE")]
    NoSimulation,
    #[cfg(feature = "simulated-tee")]
    #[error("simulate: {0}")]
    Simulated(#[from] sealtune_evidence::simulated::SimulatedError),
}

impl TeeError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "ST-VM-30",
            Self::Measure(_) => "ST-VM-31",
            Self::AgentEvidence => "ST-VM-32",
            Self::UnknownTee => "ST-VM-35",
            Self::GpuBounds => "ST-VM-36",
            Self::Store(error) => error.code(),
            #[cfg(not(feature = "simulated-tee"))]
            Self::NoSimulation => "ST-VM-33",
            #[cfg(feature = "simulated-tee")]
            Self::Simulated(_) => "ST-VM-34",
        }
    }
}

/// Measures the files that a VM will be started from. Done once, before it starts: what the operator does to the
/// files afterwards changes nothing for a running VM.
pub(crate) fn measure(
    firmware: &Path,
    image: &GuestImage,
    shape: Shape,
) -> Result<BootMeasurement, TeeError> {
    let digest = |path: &Path| {
        std::fs::read(path)
            .map(|bytes| layout1::file_digest(&bytes))
            .map_err(|error| TeeError::Read { path: path.display().to_string(), error })
    };
    let files = BootFiles {
        firmware: digest(firmware)?,
        kernel: digest(&image.kernel)?,
        initramfs: digest(&image.initramfs)?,
        cmdline: image.command_line.clone(),
    };
    Ok(layout1::measure(&files, shape)?)
}

/// Whether an agent's text is the log of a firmware. What it says is for verifiers; here only its form and length count.
pub(crate) fn is_boot_log(text: &str) -> bool {
    let decoded = || base64::engine::general_purpose::STANDARD.decode(text).ok();
    text.len() <= MAX_CCEL_BYTES.div_ceil(3) * 4
        && decoded().is_some_and(|log| log.len() <= MAX_CCEL_BYTES && CcelLog::parse(&log).is_ok())
}

/// What stands in for the hardware, or says that it does not.
#[derive(Debug)]
pub(crate) struct HostTee {
    #[cfg(feature = "simulated-tee")]
    platform: sealtune_evidence::simulated::SimulatedPlatform,
}

impl HostTee {
    #[cfg(not(feature = "simulated-tee"))]
    pub(crate) fn open(_state: &std::path::Path) -> Result<Self, TeeError> {
        Ok(Self {})
    }

    /// Loads the development platform of this state directory, or makes it.
    #[cfg(feature = "simulated-tee")]
    pub(crate) fn open(state: &std::path::Path) -> Result<Self, TeeError> {
        use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};

        use sealtune_evidence::simulated::{PlatformFiles, SimulatedPlatform};
        let path = state.join("simulated-platform.json");
        let failed = |error| TeeError::Read { path: path.display().to_string(), error };
        let files = if path.exists() {
            PlatformFiles::from_json(&std::fs::read(&path).map_err(failed)?)?
        } else {
            let seed = sealtune_seal::Secret::random()
                .map_err(|error| failed(std::io::Error::other(error)))?;
            let files = SimulatedPlatform::create(&seed, now_seconds())?;
            let mut file = tempfile::Builder::new()
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .tempfile_in(state)
                .map_err(failed)?;
            file.write_all(&files.to_json()?).map_err(failed)?;
            file.as_file().sync_all().map_err(failed)?;
            file.persist(&path).map_err(|error| failed(error.error))?;
            files
        };
        let platform = SimulatedPlatform::load(&files)?;
        // For `--simulated-root`: public, and useless outside this machine's development.
        let root = state.join("simulated-root.der");
        let mut options = std::fs::OpenOptions::new();
        options.create(true).write(true).truncate(true).mode(0o644);
        let mut file = options.open(&root).map_err(failed)?;
        file.write_all(&platform.root_der()).map_err(failed)?;
        Ok(Self { platform })
    }

    pub(crate) fn name(&self) -> &'static str {
        if cfg!(feature = "simulated-tee") { "simulated" } else { "tdx" }
    }

    /// Answers the agent of one VM, for that VM only. The agent sends a request again, under the same id, when the
    /// connection was lost before the answer: an extension is not performed twice.
    pub(crate) async fn answer(
        &self,
        definition: &VmDefinition,
        store: &Store,
        id: u64,
        request: &HostRequest,
    ) -> Result<HostReply, TeeError> {
        #[cfg(not(feature = "simulated-tee"))]
        {
            let _ = (definition, store, id, request);
            Err(TeeError::NoSimulation)
        }
        #[cfg(feature = "simulated-tee")]
        self.simulate(definition, store, id, request).await
    }

    #[cfg(feature = "simulated-tee")]
    async fn simulate(
        &self,
        definition: &VmDefinition,
        store: &Store,
        id: u64,
        request: &HostRequest,
    ) -> Result<HostReply, TeeError> {
        use sealtune_evidence::{Event, event_log::RUNTIME_REGISTER};
        let mut log: EventLog = serde_json::from_str(&store.rtmr3(&definition.id).await?)
            .map_err(|_| TeeError::AgentEvidence)?;
        match request {
            HostRequest::SimulatedReport => {
                Ok(HostReply::SimulatedReport { mr_config_id: definition.mr_config_id })
            }
            HostRequest::SimulatedExtend { name, payload } => {
                let payload = hex::decode(payload).map_err(|_| TeeError::AgentEvidence)?;
                log.push(Event::new(3, name.as_str(), payload));
                log.check_events().map_err(|_| TeeError::AgentEvidence)?;
                let text = serde_json::to_string(&log).map_err(|_| TeeError::AgentEvidence)?;
                store.extend_rtmr3(&definition.id, id, &text).await?;
                Ok(HostReply::Extended)
            }
            HostRequest::SimulatedQuote { report_data } => {
                let registers = &definition.registers;
                let quote = self.platform.quote(&sealtune_evidence::simulated::QuoteRequest {
                    mrtd: registers.mrtd,
                    rtmr: [
                        registers.rtmr0,
                        registers.rtmr1,
                        registers.rtmr2,
                        log.replay()[RUNTIME_REGISTER],
                    ],
                    mr_config_id: definition.mr_config_id.0.into(),
                    report_data: report_data.0,
                })?;
                let quote = base64::engine::general_purpose::STANDARD.encode(quote);
                Ok(HostReply::SimulatedQuote { quote })
            }
        }
    }

    /// Makes a bundle of what the agent sent and what the host knows.
    pub(crate) fn bundle(
        &self,
        definition: &VmDefinition,
        evidence: &Evidence,
    ) -> Result<EvidenceBundle, TeeError> {
        let decode = |text: &str| {
            base64::engine::general_purpose::STANDARD
                .decode(text)
                .map_err(|_| TeeError::AgentEvidence)
        };
        let guest: EventLog =
            serde_json::from_str(&evidence.event_log).map_err(|_| TeeError::AgentEvidence)?;
        // What stands in for the CPU measured the boot itself; a real machine's is in the log of its firmware.
        let mut event_log = match evidence.tee.as_str() {
            SIMULATED => definition.boot_log.clone(),
            _ => EventLog::default(),
        };
        let ccel = match (evidence.tee.as_str(), &definition.ccel) {
            ("tdx", Some(log)) => Some(decode(log)?.into()),
            _ => None,
        };
        for event in guest.events {
            event_log.push(event);
        }
        let dstack_log = evidence.dstack_log.as_deref().map(decode).transpose()?.map(Into::into);
        let tee = bundle_tee(&evidence.tee)?;
        // The stand-in's platform vouches for its own quotes only.
        #[cfg(feature = "simulated-tee")]
        let collateral = match evidence.tee.as_str() {
            SIMULATED => Some(self.platform.collateral(now_seconds())?),
            _ => None,
        };
        #[cfg(not(feature = "simulated-tee"))]
        let collateral = None;
        let bundle = EvidenceBundle {
            version: 1,
            tee,
            quote: decode(&evidence.quote)?.into(),
            event_log,
            dstack_log,
            launch: definition.launch.as_bytes().to_vec().into(),
            claims: evidence.claims.as_bytes().to_vec().into(),
            image: ImageIdentity {
                name: definition.image_name.clone(),
                version: definition.image_version.clone(),
            },
            gpu: gpu_evidence(evidence)?,
            ccel,
            collateral,
            snp_collateral: None,
            gpu_collateral: None,
        };
        bundle.validate().map_err(|_| TeeError::AgentEvidence)?;
        Ok(bundle)
    }
}

const SIMULATED: &str = "simulated";

/// Which parser the agent's TEE needs. The simulated one makes TDX quotes.
fn bundle_tee(name: &str) -> Result<Tee, TeeError> {
    match name {
        "tdx" | SIMULATED => Ok(Tee::Tdx),
        "snp" => Ok(Tee::Snp),
        "dstack" => Ok(Tee::Dstack),
        _ => Err(TeeError::UnknownTee),
    }
}

/// As the agent sent it, in its order: the claims and the quote say what it must be, and a verifier looks.
fn gpu_evidence(evidence: &Evidence) -> Result<Vec<GpuEvidence>, TeeError> {
    if !evidence.gpu_is_within_bounds() {
        return Err(TeeError::GpuBounds);
    }
    let decode = |part: &GpuPart| {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(&part.evidence)
            .map_err(|_| TeeError::AgentEvidence)?;
        Ok(GpuEvidence { device: part.device.clone(), evidence: bytes.into() })
    };
    evidence.gpu.iter().map(decode).collect()
}

#[cfg(feature = "simulated-tee")]
fn now_seconds() -> u64 {
    jiff::Timestamp::now().as_second().unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(gpu: Vec<GpuPart>) -> Evidence {
        Evidence {
            tee: SIMULATED.into(),
            quote: "AAAA".into(),
            event_log: r#"{"events":[]}"#.into(),
            claims: "{}".into(),
            gpu,
            dstack_log: None,
        }
    }

    fn part(device: &str, evidence: &str) -> GpuPart {
        GpuPart { device: device.into(), evidence: evidence.into() }
    }

    #[test]
    fn the_agents_word_chooses_the_parser_and_an_unknown_one_is_an_error() {
        let known =
            [("tdx", Tee::Tdx), (SIMULATED, Tee::Tdx), ("snp", Tee::Snp), ("dstack", Tee::Dstack)];
        for (name, tee) in known {
            assert_eq!(bundle_tee(name).unwrap(), tee);
        }
        for name in ["", "TDX", "sgx", "tdx "] {
            assert_eq!(bundle_tee(name).unwrap_err().code(), "ST-VM-35", "{name:?}");
        }
    }

    #[test]
    fn gpu_evidence_is_passed_on_in_its_order() {
        assert!(gpu_evidence(&evidence(vec![])).unwrap().is_empty());
        let passed = gpu_evidence(&evidence(vec![part("b", "AAEC"), part("a", "")])).unwrap();
        let expected = [("b", vec![0, 1, 2]), ("a", vec![])]
            .map(|(device, bytes)| GpuEvidence { device: device.into(), evidence: bytes.into() });
        assert_eq!(passed, expected);
    }

    #[test]
    fn gpu_evidence_out_of_its_limits_is_refused_before_it_is_decoded() {
        let long = "A".repeat((sealtune_wire::v1::MAX_GPU_PART_BYTES + 3).div_ceil(3) * 4);
        let full = "A".repeat(sealtune_wire::v1::MAX_GPU_PART_BYTES / 3 * 4);
        for (gpu, code) in [
            (vec![part("a", "not base64")], "ST-VM-32"),
            (vec![part("a", &long)], "ST-VM-36"),
            (vec![part("a", ""); 33], "ST-VM-36"),
            (vec![part("a", &full); 9], "ST-VM-36"),
        ] {
            assert_eq!(gpu_evidence(&evidence(gpu)).unwrap_err().code(), code);
        }
    }
}
