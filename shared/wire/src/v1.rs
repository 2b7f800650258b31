//! Protocol version 1: the messages of a control connection.
//!
//! The supervisor sends requests; the agent answers each once and reports events. Events are numbered from 1 and kept
//! by the agent until they are acknowledged, so that a supervisor that dies loses none and handles none twice.
//! With a simulated TEE the agent has requests of its own ([`HostRequest`]): the host stands in for the hardware.

use sealtune_content::ContentId;
use sealtune_job::{ExitClass, Hex, JobId, JobPhase, JobTerms};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type", deny_unknown_fields)]
pub enum ToAgent {
    Request {
        id: u64,
        request: AgentRequest,
    },
    /// Answer to a [`HostRequest`].
    Reply {
        id: u64,
        outcome: Outcome<HostReply>,
    },
    /// Everything up to here is on the supervisor's disk.
    Acknowledge {
        sequence: u64,
    },
    Ping {
        nonce: u64,
    },
    Pong {
        nonce: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type", deny_unknown_fields)]
pub enum ToSupervisor {
    Reply { id: u64, outcome: Outcome<AgentReply> },
    Request { id: u64, request: HostRequest },
    Event { sequence: u64, event: AgentEvent },
    Ping { nonce: u64 },
    Pong { nonce: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Outcome<T> {
    Ok(T),
    /// A stable code and no more: detail is for the owner.
    Error {
        code: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request", deny_unknown_fields)]
pub enum AgentRequest {
    /// Must be the first. Canonical bytes of the launch configuration, base64. Sent again after a reconnect, it must
    /// be the same and gives the same answer.
    Launch {
        configuration: String,
    },
    /// `identity` or `offer` evidence for a verifier's nonce.
    Evidence {
        purpose: OutsidePurpose,
        nonce: Hex<32>,
    },
    /// A sealed job: what its owner sealed to this VM's key.
    Release {
        job: JobId,
        attempt: u32,
        release: SealedRelease,
    },
    /// A plain job, in the clear.
    Start {
        terms: Box<JobTerms>,
    },
    Cancel {
        job: JobId,
    },
    Status,
    /// End in order; the VM powers itself off.
    Shutdown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutsidePurpose {
    Identity,
    Offer,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRelease {
    pub suite: String,
    /// Encapsulated key, base64.
    pub enc: String,
    /// Base64.
    pub ciphertext: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer", deny_unknown_fields)]
pub enum AgentReply {
    Launched(Launched),
    Evidence(Evidence),
    /// The job's specification was opened (or its plain terms accepted); it starts now.
    Accepted {
        job: JobId,
    },
    Status(Status),
    Done,
}

/// The agent's answer to the launch configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launched {
    /// Random, the same in all evidence of this boot.
    pub instance: Hex<32>,
    /// Guest uptime when the agent began to listen, milliseconds.
    pub listening_ms: u64,
    pub rtmr3: Rtmr3,
    /// Resident memory of the serving process, KiB.
    pub resident_kib: u64,
    pub kernel: String,
    /// The boot log of the firmware (ACPI table CCEL) where there is one: base64, without padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ccel: Option<String>,
}

/// Whether the guest can extend RTMR3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rtmr3 {
    Available,
    Unavailable,
}

/// Evidence as the agent made it. The supervisor adds image identity and collateral to make the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// `tdx`, `snp`, `dstack` or `simulated`.
    pub tee: String,
    /// Base64.
    pub quote: String,
    /// JSON text of the events that the guest made (RTMR3).
    pub event_log: String,
    /// The claims, canonical JSON text, verbatim.
    pub claims: String,
    /// Evidence of every GPU of the VM, and behind it of every switch, in the order of the claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpu: Vec<GpuPart>,
    /// Of a dstack VM: its guest agent's event log, verbatim, base64. The log above is then empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dstack_log: Option<String>,
}

/// One device's evidence; the claims name its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuPart {
    /// As the launch configuration calls a GPU, and the agent a switch.
    pub device: String,
    /// Base64.
    pub evidence: String,
}

/// Longest log of a dstack VM, before base64: real ones have some 20 KiB.
pub const MAX_DSTACK_LOG_BYTES: usize = 128 << 10;
/// Most GPUs with evidence.
pub const MAX_GPU_PARTS: usize = 32;
/// Longest evidence of one GPU, before base64.
pub const MAX_GPU_PART_BYTES: usize = 64 << 10;
/// Longest evidence of all GPUs, before base64: it fits into a control frame with everything beside it.
pub const MAX_GPU_BYTES: usize = 512 << 10;

impl Evidence {
    /// Whether the GPUs' parts are within their limits, judged by their length before anything is decoded.
    pub fn gpu_is_within_bounds(&self) -> bool {
        let lengths = || self.gpu.iter().map(|part| part.evidence.len());
        self.gpu.len() <= MAX_GPU_PARTS
            && lengths().all(|length| length <= base64_length(MAX_GPU_PART_BYTES))
            // Each part may have been rounded up to four letters.
            && lengths().sum::<usize>() <= base64_length(MAX_GPU_BYTES) + 4 * MAX_GPU_PARTS
    }
}

fn base64_length(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    pub uptime_ms: u64,
    pub resident_kib: u64,
    pub job: Option<JobId>,
    pub phase: Option<JobPhase>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event", deny_unknown_fields)]
pub enum AgentEvent {
    Phase {
        job: JobId,
        phase: JobPhase,
    },
    /// The agent wants one transfer: the supervisor opens a stream connection with this id.
    StreamWanted {
        stream: Hex<16>,
        job: JobId,
        what: Transfer,
    },
    /// Coarse in a sealed job: steps of 5.
    Percent {
        job: JobId,
        percent: u8,
    },
    /// How the owner opens the frames and the result, base64.
    OwnerEnvelope {
        job: JobId,
        envelope: String,
    },
    /// One sealed frame of fixed size, base64.
    OwnerFrame {
        job: JobId,
        stream: FrameStream,
        number: u64,
        frame: String,
    },
    /// Log text of a plain job or one disclosed to the host.
    PlainLog {
        job: JobId,
        stream: LogStream,
        text: String,
    },
    /// Metric of a plain job or one disclosed to the host: the event's JSON text.
    PlainMetric {
        job: JobId,
        metric: String,
    },
    Exited {
        job: JobId,
        exit: ExitClass,
    },
    /// `start` evidence, made once.
    Started {
        job: JobId,
        evidence: Evidence,
    },
    /// The whole result has been produced; what it must hash to once it has arrived.
    Result {
        job: JobId,
        sha256: ContentId,
        root: ContentId,
    },
    /// A signed receipt or failure record (DSSE, JSON text) and its evidence, made once.
    Receipt {
        job: JobId,
        envelope: String,
        evidence: Option<Evidence>,
    },
    /// The job cannot go on.
    Failed {
        job: JobId,
        failure: AgentFailure,
    },
    /// Everything for this job was sent.
    Done {
        job: JobId,
    },
    /// The agent itself cannot go on and powers off.
    Fatal {
        code: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum AgentFailure {
    Refused { code: String },
    Input { code: String },
    Guest { code: String },
    Training { exit: ExitClass },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what", deny_unknown_fields)]
pub enum Transfer {
    /// Into the guest: content by id.
    Content { id: ContentId },
    /// Into the guest: the segment roots of `zg:` content, 32 bytes each.
    SegmentRoots { id: ContentId },
    /// Into the guest: the customer's sealed dataset.
    SealedDataset { id: ContentId },
    /// Out of the guest: the result object.
    Result,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrameStream {
    Log,
    Metric,
    Failure,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogStream {
    Stdout,
    Stderr,
    Progress,
}

/// What the agent of a dev image asks of the supervisor, which stands in for the TEE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request", deny_unknown_fields)]
pub enum HostRequest {
    SimulatedReport,
    SimulatedExtend { name: String, payload: String },
    SimulatedQuote { report_data: Hex<64> },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer", deny_unknown_fields)]
pub enum HostReply {
    SimulatedReport {
        mr_config_id: Hex<48>,
    },
    Extended,
    /// Base64.
    SimulatedQuote {
        quote: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{CONTROL_LIMIT, decode, encode};

    fn evidence(lengths: &[usize]) -> Evidence {
        let part = |(number, length): (usize, &usize)| GpuPart {
            device: format!("{number:0128}"),
            evidence: "A".repeat(base64_length(*length)),
        };
        Evidence {
            tee: "simulated".into(),
            quote: "A".repeat(base64_length(16 << 10)),
            event_log: "x".repeat(4 << 10),
            claims: "x".repeat(32 << 10),
            gpu: lengths.iter().enumerate().map(part).collect(),
            dstack_log: None,
        }
    }

    #[test]
    fn evidence_without_gpus_is_written_as_before_there_were_any() {
        let text = serde_json::to_string(&evidence(&[])).expect("writes");
        assert!(!text.contains("gpu"));
        assert_eq!(serde_json::from_str::<Evidence>(&text).expect("reads"), evidence(&[]));
    }

    /// With the largest quote, claims and receipt beside it.
    #[test]
    fn the_evidence_of_all_gpus_fits_into_a_frame() {
        for lengths in [
            vec![MAX_GPU_BYTES / 16; 16],
            vec![MAX_GPU_BYTES / MAX_GPU_PARTS; MAX_GPU_PARTS],
            vec![MAX_GPU_PART_BYTES; MAX_GPU_BYTES / MAX_GPU_PART_BYTES],
        ] {
            let evidence = evidence(&lengths);
            assert!(evidence.gpu_is_within_bounds());
            let event = AgentEvent::Receipt {
                job: JobId::from_bytes([1; 16]),
                envelope: "x".repeat(base64_length(128 << 10)),
                evidence: Some(evidence),
            };
            let message = ToSupervisor::Event { sequence: u64::MAX, event };
            let frame = encode(&message, CONTROL_LIMIT).expect("fits");
            assert_eq!(decode::<ToSupervisor>(&frame[4..]).expect("reads"), message);
        }
    }

    #[test]
    fn too_many_too_long_and_too_much_are_out_of_bounds() {
        for lengths in [
            vec![1; MAX_GPU_PARTS + 1],
            vec![MAX_GPU_PART_BYTES + 3],
            vec![MAX_GPU_PART_BYTES; MAX_GPU_BYTES / MAX_GPU_PART_BYTES + 1],
        ] {
            assert!(!evidence(&lengths).gpu_is_within_bounds(), "{}", lengths.len());
        }
    }
}
