//! Evidence of a dstack VM, as its guest agent hands it out: quote, event log, report data.
//!
//! dstack's CPU measures firmware, kernel and initramfs; which application runs is said by that software in register 3. So
//! its words count only where the boot registers are ones that the verifier trusts. The launch configuration, claims and
//! roles of Sealtune do not exist there.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Context, Expectation, Parts, boot::judge_profile, check_clock, platform};
use crate::{
    anchor::Anchor,
    base64_bytes::Base64Bytes,
    bundle::{EvidenceBundle, ImageIdentity, Tee},
    claims::Purpose,
    codes::Code,
    event_log::EventLog,
    fixed_hex::{Hex32, Hex48},
    launch::LaunchDigest,
    layout1::BootRegisters,
    logs::{DstackIdentity, DstackLog, LogError},
    policy::ImageRule,
    quote::{TdxQuote, without_padding},
    reference::{ReferenceValues, RegisterRow},
    verdict::{Findings, Verdict},
};

pub const MAX_DSTACK_REPORT_BYTES: usize = 4 * 1024 * 1024;

/// The answer of dstack's guest agent to a request for a quote, or a file that holds its fields among others.
#[derive(Debug, Clone)]
pub struct DstackReport {
    quote: Vec<u8>,
    event_log: Vec<u8>,
}

#[derive(Deserialize)]
struct ReportFile<'a> {
    quote: String,
    /// JSON in a string, or the list itself.
    #[serde(borrow)]
    event_log: &'a RawValue,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read the report: {0}")]
pub struct DstackReportError(String);

impl DstackReportError {
    pub fn entry(&self) -> Code {
        Code::DstackReport
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl DstackReport {
    /// Other fields are the sender's words and are not read.
    pub fn parse(bytes: &[u8]) -> Result<Self, DstackReportError> {
        let failed = |text: String| DstackReportError(text);
        if bytes.len() > MAX_DSTACK_REPORT_BYTES {
            return Err(failed("longer than 4 MiB".to_owned()));
        }
        let file: ReportFile<'_> =
            serde_json::from_slice(bytes).map_err(|error| failed(error.to_string()))?;
        let quote = file.quote.strip_prefix("0x").unwrap_or(&file.quote);
        let quote = hex::decode(quote).map_err(|error| failed(format!("its quote: {error}")))?;
        let text = file.event_log.get();
        let event_log = match serde_json::from_str::<String>(text) {
            Ok(inner) => inner.into_bytes(),
            Err(_) => text.as_bytes().to_vec(),
        };
        Ok(Self { quote, event_log })
    }

    /// As it came, with padding.
    pub fn quote(&self) -> &[u8] {
        &self.quote
    }

    /// Verbatim.
    pub fn event_log(&self) -> &[u8] {
        &self.event_log
    }

    /// The parts of a bundle that the judgement of the machine reads.
    pub fn as_bundle(&self) -> EvidenceBundle {
        let quote = without_padding(&self.quote).unwrap_or(&self.quote);
        EvidenceBundle {
            version: 1,
            tee: Tee::Tdx,
            quote: Base64Bytes(quote.to_vec()),
            event_log: EventLog::default(),
            dstack_log: None,
            launch: Base64Bytes(vec![]),
            claims: Base64Bytes(vec![]),
            image: ImageIdentity { name: "dstack".to_owned(), version: "unknown".to_owned() },
            gpu: vec![],
            ccel: None,
            collateral: None,
            snp_collateral: None,
            gpu_collateral: None,
        }
    }
}

/// Judges a report against the policy's lists, the verifier's reference registers and the report data that he asked for.
pub fn appraise_dstack(
    report: &DstackReport,
    report_data: Option<&[u8; 64]>,
    context: &Context<'_>,
) -> Verdict {
    let mut findings = Findings::default();
    let bundle = report.as_bundle();
    let quote = match TdxQuote::parse(&bundle.quote.0) {
        Ok(quote) => Some(quote),
        Err(error) => {
            findings.refuse("quote", "", error.entry(), error.to_string());
            None
        }
    };
    check_clock(context, &mut findings);
    let parts = Parts {
        report_data: quote.as_ref().map(|quote| quote.report_data),
        quote,
        claims: None,
        launch: None,
        launch_digest: LaunchDigest::of(&[]),
    };
    // Nothing is known of when it was made: age is not judged, as with what was kept.
    let mut expectation = Expectation::new(Purpose::Identity, None);
    expectation.archived = true;
    let anchor = platform::judge(&bundle, &parts, context, &expectation, &mut findings);
    judge_report_data(&parts, report_data, &mut findings);
    if let Some(quote) = &parts.quote {
        judge_boot(quote, context, anchor, &mut findings);
        let log = &report.event_log;
        if let Some(identity) = judge_application(quote, log, "launch", context, &mut findings)
            && !identity.claims.is_empty()
        {
            let value = format!("{} events after the boot", identity.claims.len());
            findings.open("runtime-events", value, Code::SaidByGuest, "");
        }
    } else {
        for claim in ["boot", "event-log", "launch", "compose", "os-image"] {
            findings.unjudged(claim, Code::NotChecked, "the quote did not parse");
        }
    }
    if anchor.is_none() {
        findings.withdraw(Code::NotChecked, "the quote did not verify");
    }
    let simulated = anchor.map_or(context.anchors.simulated_root.is_some(), |it| it.is_simulated());
    let (policy, now) = (context.policy.identity(), context.time.seconds());
    findings.into_verdict("evidence of a dstack VM", simulated, policy, now)
}

fn judge_report_data(parts: &Parts, expected: Option<&[u8; 64]>, findings: &mut Findings) {
    match (&parts.report_data, expected) {
        (Some(quoted), Some(expected)) if quoted == expected => {
            findings.affirm("report-data", hex::encode(quoted), "you", "made for your report data");
        }
        (Some(quoted), Some(_)) => {
            findings.refuse("report-data", hex::encode(quoted), Code::NonceOther, "");
        }
        (_, None) => findings.unjudged("report-data", Code::ReportDataNotGiven, ""),
        (None, Some(_)) => {
            findings.unjudged("report-data", Code::NotChecked, "the quote did not parse");
        }
    }
}

/// Whole rows of the verifier's reference values; a dstack VM says nothing measured about its shape.
pub(super) fn judge_boot<'a>(
    quote: &TdxQuote,
    context: &Context<'a>,
    anchor: Option<Anchor>,
    findings: &mut Findings,
) -> Option<(&'a ReferenceValues, &'a RegisterRow)> {
    let measured = BootRegisters {
        mrtd: quote.mrtd,
        rtmr0: quote.rtmr[0],
        rtmr1: quote.rtmr[1],
        rtmr2: quote.rtmr[2],
    };
    let row = context.references.iter().find_map(|values| {
        let row = values.registers.iter().find(|row| row.registers() == Some(measured))?;
        Some((values, row))
    });
    match row {
        Some((values, row)) => {
            findings.affirm(
                "boot",
                format!("{}, {} vCPUs", values.release, row.vcpus),
                "reference values",
                "firmware, shape, kernel, command line and initramfs are ones that you trust",
            );
            let allowed = &context.policy.rules.releases;
            if !allowed.is_empty() && !allowed.contains(&values.release) {
                findings.refuse("boot", &values.release, Code::ReleaseNotAllowed, "");
            }
            judge_profile(values, anchor, findings);
        }
        None => findings.refuse("boot", measured.mrtd.to_string(), Code::FirmwareUnknown, ""),
    }
    row
}

/// Who runs, by register 3. `config_claim` is what the finding about MRCONFIGID is called.
pub(super) fn judge_application(
    quote: &TdxQuote,
    event_log: &[u8],
    config_claim: &str,
    context: &Context<'_>,
    findings: &mut Findings,
) -> Option<DstackIdentity> {
    let identity = match read_log(quote, event_log) {
        Ok((identity, events)) => {
            findings.affirm(
                "event-log",
                format!("{events} events"),
                "RTMR0-3",
                "replays to all four registers, and every payload that counts is bound",
            );
            identity
        }
        Err(error) => {
            findings.refuse("event-log", "", error.entry(), error.to_string());
            for claim in [config_claim, "compose", "os-image"] {
                findings.unjudged(claim, Code::NotChecked, "the event log does not hold");
            }
            return None;
        }
    };
    let rules = &context.policy.rules;
    if rules.images != ImageRule::Dstack {
        findings.refuse("images", "dstack", Code::DstackNotAllowed, "");
    }
    let listed = |list: &[Hex32], value: &Hex32| list.contains(value);
    judge_config_id(config_claim, &quote.mr_config_id, &identity.compose_hash, findings);
    let compose = identity.compose_hash.to_string();
    if listed(&rules.compose_hashes, &identity.compose_hash) {
        let text = "the application is one that the policy lists";
        findings.affirm("compose", compose, "RTMR3", text);
    } else {
        findings.refuse("compose", compose, Code::ComposeUnlisted, "");
    }
    match identity.os_image_hash {
        Some(digest) if listed(&rules.os_images, &digest) => {
            let text = "what the measured image calls itself is on the policy's list";
            findings.affirm("os-image", digest.to_string(), "RTMR3", text);
        }
        Some(digest) => {
            findings.refuse("os-image", digest.to_string(), Code::OsImageUnlisted, "");
        }
        // Older guests do not say it; the boot registers do, and must be trusted either way.
        None => {
            let detail = "the log does not; the boot registers say which it is";
            findings.warn("os-image", "not named", Code::OsImageUnlisted, detail);
        }
    }
    findings.open("app", identity.app_id.to_string(), Code::SaidByGuest, "");
    let provider = format!("{:?}", identity.key_provider.kind);
    findings.open("key-provider", provider, Code::SaidByGuest, "");
    Some(identity)
}

/// The host sets MRCONFIGID as it likes, so what is there must be understood: nothing, or dstack's first form,
/// `01 ‖ compose hash ‖ 15 zero bytes`. Its later forms hash documents that a report does not carry.
fn judge_config_id(claim: &str, measured: &Hex48, compose_hash: &Hex32, findings: &mut Findings) {
    let mut expected = Hex48::ZERO;
    expected.0[0] = 1;
    expected.0[1..33].copy_from_slice(compose_hash.as_bytes());
    let value = measured.to_string();
    if measured.is_zero() {
        findings.affirm(claim, "unset", "MRCONFIGID", "it says nothing and steers nothing");
    } else if *measured == expected {
        findings.affirm(claim, value, "MRCONFIGID", "the CPU measured this compose file");
    } else {
        let detail = "neither unset nor of the compose file in the log";
        findings.refuse(claim, value, Code::LaunchMismatch, detail);
    }
}

fn read_log(quote: &TdxQuote, event_log: &[u8]) -> Result<(DstackIdentity, usize), LogError> {
    let log = DstackLog::parse(event_log)?;
    log.check_replay(&quote.rtmr)?;
    log.check_payloads()?;
    log.check_separators()?;
    Ok((DstackIdentity::read(&log)?, log.events.len()))
}

/// Fuzz entry: what parses has a quote and a log within the file.
pub fn fuzz_dstack_report(data: &[u8]) {
    if let Ok(report) = DstackReport::parse(data) {
        assert!(report.quote.len() <= data.len() && report.event_log.len() <= data.len());
    }
}

#[cfg(test)]
#[path = "dstack_tests.rs"]
mod tests;
