//! The role `tee`: what this machine's TEE answers, as one JSON object on a line, for whoever sets a guest up. It proves
//! nothing: evidence does.

use std::process::ExitCode;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_evidence::dstack::Information;
use sealtune_evidence::{FixedHex, Hex32, Hex48};
use sealtune_wire::v1::Rtmr3;
use serde::Serialize;

use super::{MeasuredLaunch, Tee, TeeError, tdreport};

const USAGE: &str = "usage: sealtune-agent tee [--report-data HEX]    (64 bytes, 128 digits)";

#[derive(Debug, Default, Serialize)]
struct Shown {
    version: u32,
    tee: &'static str,
    /// Of dstack's guest agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mr_config_id: Option<Hex48>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_data: Option<Hex32>,
    /// Absent where only trying would show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    rtmr3: Option<Rtmr3>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guest_says: Option<Information>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quote: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dstack_log: Option<String>,
}

pub(crate) fn run() -> ExitCode {
    let Ok(report_data) = arguments(std::env::args().skip(2)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let shown = match (runtime, Tee::detect()) {
        (Ok(runtime), Some(tee)) => runtime.block_on(show(&tee, report_data)),
        (Ok(_), None) => Err(TeeError::None),
        (Err(error), _) => Err(TeeError::Report(error.to_string())),
    };
    let line = shown.and_then(|shown| {
        serde_json::to_string(&shown).map_err(|error| TeeError::Report(error.to_string()))
    });
    match line {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{} failed to {error}\n  {}", error.code(), error.fix());
            ExitCode::FAILURE
        }
    }
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Option<[u8; 64]>, ()> {
    match (words.next().as_deref(), words.next(), words.next()) {
        (None, ..) => Ok(None),
        (Some("--report-data"), Some(digits), None) => {
            let mut report_data = [0; 64];
            hex::decode_to_slice(digits, &mut report_data).map_err(|_| ())?;
            Ok(Some(report_data))
        }
        _ => Err(()),
    }
}

async fn show(tee: &Tee, report_data: Option<[u8; 64]>) -> Result<Shown, TeeError> {
    let mut shown = Shown { version: 1, tee: tee.name(), ..Shown::default() };
    match tee.measured_launch().await? {
        MeasuredLaunch::MrConfigId(measured) => shown.mr_config_id = Some(measured),
        MeasuredLaunch::HostData(measured) => shown.host_data = Some(measured),
        MeasuredLaunch::BySoftware => {}
    }
    let quoted = match (report_data, tee) {
        (Some(report_data), _) => Some(tee.quote(&report_data).await?),
        // Its MRCONFIGID is in quotes only.
        (None, Tee::Dstack(_)) => Some(tee.quote(&random()?).await?),
        (None, _) => None,
    };
    shown.rtmr3 = tee.can_extend().await?;
    if let Tee::Dstack(dstack) = tee {
        let quote = quoted.as_ref().map(|quoted| quoted.quote.as_slice()).unwrap_or_default();
        shown.generation = Some(dstack.generation().name());
        shown.mr_config_id = tdreport::quoted_mr_config_id(quote).copied().map(FixedHex);
        shown.guest_says = Some(dstack.information().await?);
    }
    if let (Some(quoted), Some(_)) = (quoted, report_data) {
        shown.quote = Some(STANDARD.encode(&quoted.quote));
        shown.dstack_log = quoted.dstack_log.map(|log| STANDARD.encode(log));
    }
    Ok(shown)
}

fn random() -> Result<[u8; 64], TeeError> {
    let mut report_data = [0; 64];
    getrandom::fill(&mut report_data).map_err(|error| TeeError::Report(error.to_string()))?;
    Ok(report_data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tee::dstack::tests::{Server, good};
    use sealtune_evidence::dstack::Generation;

    #[test]
    fn report_data_are_64_bytes_or_none() {
        let read = |words: &[&str]| arguments(words.iter().map(|word| (*word).to_owned()));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["--report-data", &"5d".repeat(64)]), Ok(Some([0x5d; 64])));
        for bad in [&["--report-data"][..], &["--report-data", "5d"], &["x"], &["", "", ""]] {
            assert_eq!(read(bad), Err(()), "{bad:?}");
        }
        assert_eq!(read(&["--report-data", &"5d".repeat(64), "more"]), Err(()));
    }

    #[tokio::test]
    async fn a_dstack_guest_is_shown_with_a_quote_only_when_asked_for() {
        let server = Server::start(good());
        let tee = Tee::Dstack(server.client(Generation::Current));
        let shown = serde_json::to_value(show(&tee, None).await.unwrap()).unwrap();
        assert_eq!((&shown["tee"], &shown["generation"]), (&"dstack".into(), &"current".into()));
        assert_eq!((&shown["rtmr3"], &shown["version"]), (&"available".into(), &1.into()));
        assert_eq!(shown["mr_config_id"], "00".repeat(48));
        assert_eq!(shown["guest_says"]["app_id"], "ab");
        assert!(shown.get("quote").is_none() && shown.get("dstack_log").is_none());
        let shown = serde_json::to_value(show(&tee, Some([1; 64])).await.unwrap()).unwrap();
        assert!(shown["quote"].is_string() && shown["dstack_log"].is_string());
    }
}
