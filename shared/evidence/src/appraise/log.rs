//! What the logs of a TDX VM explain: the boot by the firmware's, the rest by the agent's.

use super::{Expectation, Parts};
use crate::{
    bundle::EvidenceBundle,
    event_log::{EventLogError, check_registers},
    logs::{self, CcelLog, LogError},
    quote::TdxQuote,
    verdict::Findings,
};

/// Returns the firmware's log where there is one and it replays to the quote.
pub(super) fn judge(
    bundle: &EvidenceBundle,
    quote: &TdxQuote,
    parts: &Parts,
    expectation: &Expectation,
    findings: &mut Findings,
) -> Option<CcelLog> {
    let replayed = replay(bundle, quote);
    let mut firmware = None;
    match replayed {
        Ok(Replayed::One(events)) => affirm_all(events, findings),
        Ok(Replayed::Both(log)) => {
            affirm_all(log.events.len() + bundle.event_log.events.len(), findings);
            firmware = Some(log);
        }
        // The others are held against reference values whole: see the finding `boot`.
        Ok(Replayed::Runtime(events)) => findings.affirm(
            "event-log",
            format!("{events} events"),
            "RTMR3",
            "replays to register 3; there is no log of the boot",
        ),
        Err(Unexplained::Own(error)) => {
            findings.refuse("event-log", "", error.entry(), error.to_string());
        }
        Err(Unexplained::Firmware(error)) => {
            findings.refuse("event-log", "", error.entry(), error.to_string());
        }
        Err(Unexplained::TwoPlaces) => {
            findings.refuse("event-log", "", logs::Code::TwoPlaces, "");
        }
    }
    // The purpose is the one that was asked for: an offer with a job behind it is no offer, whatever its claims say.
    let spec = parts.claims.as_ref().and_then(|claims| claims.spec);
    let log = &bundle.event_log;
    match log.check_runtime(expectation.purpose, &parts.launch_digest, spec.as_ref()) {
        Ok(()) => findings.affirm(
            "runtime-events",
            if expectation.purpose.follows_job_start() { "one job" } else { "no job yet" },
            "RTMR3",
            "nothing else was extended",
        ),
        Err(error) => findings.refuse("runtime-events", "", error.entry(), error.to_string()),
    }
    firmware
}

fn affirm_all(events: usize, findings: &mut Findings) {
    let value = format!("{events} events");
    findings.affirm("event-log", value, "RTMR0-3", "replays to all four registers");
}

/// Which registers a log explains.
enum Replayed {
    /// All, in one list: the simulated TEE's.
    One(usize),
    /// The boot by the firmware's log, register 3 by the agent's list.
    Both(CcelLog),
    /// Register 3 alone.
    Runtime(usize),
}

enum Unexplained {
    Own(EventLogError),
    Firmware(LogError),
    TwoPlaces,
}

impl From<EventLogError> for Unexplained {
    fn from(error: EventLogError) -> Self {
        Self::Own(error)
    }
}

impl From<LogError> for Unexplained {
    fn from(error: LogError) -> Self {
        Self::Firmware(error)
    }
}

fn replay(bundle: &EvidenceBundle, quote: &TdxQuote) -> Result<Replayed, Unexplained> {
    let log = &bundle.event_log;
    log.check_events()?;
    let has_boot = log.has_boot_events();
    let [.., runtime] = log.replay();
    let Some(bytes) = &bundle.ccel else {
        if has_boot {
            log.check_replay(&quote.rtmr)?;
            return Ok(Replayed::One(log.events.len()));
        }
        let [boot0, boot1, boot2, _] = quote.rtmr;
        check_registers(&[boot0, boot1, boot2, runtime], &quote.rtmr)?;
        return Ok(Replayed::Runtime(log.events.len()));
    };
    let firmware = CcelLog::parse(&bytes.0)?;
    firmware.check_payloads()?;
    firmware.check_separators()?;
    let [boot0, boot1, boot2, foreign] = firmware.replay();
    if has_boot || !foreign.is_zero() {
        return Err(Unexplained::TwoPlaces);
    }
    check_registers(&[boot0, boot1, boot2, runtime], &quote.rtmr)?;
    Ok(Replayed::Both(firmware))
}
