//! Logs of real machines, read in place.

use std::path::PathBuf;

use serde_json::Value;

use super::positions;
use crate::{
    TdxQuote,
    logs::{
        Binding, CcelLog, Code, DstackIdentity, DstackLog, EventType, KeyProviderKind, LogEnd,
        Register,
    },
    quote::without_padding,
};

/// The bytes of a vector, or why the test is skipped.
pub(crate) fn vector(name: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("SEALTUNE_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    let path = root.join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        println!("skipped: no vector {}", path.display());
    }
    bytes
}

/// Quote and event log of one report.
pub(crate) fn report(name: &str) -> Option<(TdxQuote, Vec<u8>)> {
    let report: Value = serde_json::from_slice(&vector(name)?).expect("JSON");
    let quote = hex::decode(report["quote"].as_str().expect("hex")).expect("hex");
    let quote = TdxQuote::parse(without_padding(&quote).expect("padding")).expect("a quote");
    Some((quote, report["event_log"].as_str().expect("a log").as_bytes().to_vec()))
}

const LOCAL_SGX: &str = "tdx/gpu-vm-local-sgx.quote-report.json";
const KMS: &str = "tdx/gpu-vm-kms.llm-attestation-report.json";

#[test]
fn a_firmware_log_parses_to_its_end_and_replays() {
    let Some(bytes) = vector("tdx/ccel.bin") else { return };
    let log = CcelLog::parse(&bytes).expect("parses");
    assert_eq!((log.events.len(), log.end), (18, LogEnd::Mark));
    let registers = log.replay();
    assert_eq!(
        registers[0].to_string(),
        "274c2344116db7c663470693b5ba62b8621eac28cb41d2f816ddf188f9f423f900a1c44d32386fd3c993dc814e62af9d"
    );
    assert_eq!(
        registers[1].to_string(),
        "bdcf4ee0f7fdfe7c73fbb19ded73193aee23a6726b86d3b282ea097cf4c9ed7a0db21b5c1ccd513e410d90e310836b26"
    );
    assert!(registers[2].is_zero() && registers[3].is_zero());
    assert_eq!(log.check_separators(), Ok(()));
    let bindings = log.check_payloads().expect("bound");
    let count = |wanted| bindings.iter().filter(|found| **found == wanted).count();
    assert_eq!(
        (count(Binding::Payload), count(Binding::VariableValue), count(Binding::Comment)),
        (10, 2, 6)
    );
    let kernel = log.events.iter().find(|event| event.register == Register::Rtmr1).expect("RTMR1");
    assert_eq!(kernel.event_type, EventType::BootServicesApplication);
}

/// Flips anywhere in the records, and cuts anywhere, are refused or seen by the replay; padding may not change either.
#[test]
fn a_firmware_log_with_one_byte_changed_is_never_accepted_as_it_was() {
    let Some(bytes) = vector("tdx/ccel.bin") else { return };
    let original = CcelLog::parse(&bytes).expect("parses");
    let quoted = original.replay();
    let records = 1933;
    for at in (0..100).chain(positions(records, 400)).chain(positions(bytes.len(), 100)) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x20;
        let Ok(log) = CcelLog::parse(&flipped) else { continue };
        let accepted = log.check_replay(&quoted).is_ok() && log.check_payloads().is_ok();
        if accepted {
            // What is left is a comment, or a field of the header that nothing depends on.
            assert!(at < records, "padding byte {at}");
            let digests = |log: &CcelLog| log.events.iter().map(|e| e.digest).collect::<Vec<_>>();
            assert_eq!(digests(&log), digests(&original), "byte {at}");
        }
    }
    for length in positions(records, 300) {
        if let Ok(log) = CcelLog::parse(&bytes[..length]) {
            assert!(log.check_replay(&quoted).is_err(), "{length} bytes");
        }
    }
}

#[test]
fn two_real_logs_replay_to_their_quotes() {
    for (name, events) in [(LOCAL_SGX, 28), (KMS, 29)] {
        let Some((quote, json)) = report(name) else { return };
        let log = DstackLog::parse(&json).expect("parses");
        assert_eq!(log.events.len(), events);
        assert_eq!(log.check_replay(&quote.rtmr), Ok(()));
        assert_eq!(log.check_separators(), Ok(()));
        assert!(log.check_payloads().is_ok());
        for register in 0..4 {
            let mut other = quote.rtmr;
            other[register].0[0] ^= 1;
            assert_eq!(log.check_replay(&other).expect_err("row 36").entry(), Code::Replay);
        }
    }
}

#[test]
fn two_real_logs_say_who_their_vms_are() {
    let Some((_, json)) = report(LOCAL_SGX) else { return };
    let identity =
        DstackIdentity::read(&DstackLog::parse(&json).expect("parses")).expect("an identity");
    assert_eq!(identity.app_id.to_string(), "3763bc34552cf3a27ff71ad5f7a90471562a1a2d");
    assert_eq!(
        identity.compose_hash.to_string(),
        "3763bc34552cf3a27ff71ad5f7a90471562a1a2df552dfc1998cba2d60da27e7"
    );
    let instance = identity.instance_id.expect("an instance").to_string();
    assert_eq!(instance, "c3714eb66990eace777b4e664c16e09375dec4c9");
    assert_eq!(identity.key_provider.kind, KeyProviderKind::LocalSgx);
    assert_eq!(identity.key_provider.id.0.len(), 32);
    assert_eq!(identity.claims.len(), 1, "one event of the software that runs");
    assert_eq!((identity.mr_kms, identity.os_image_hash), (None, None));

    let Some((quote, json)) = report(KMS) else { return };
    let identity =
        DstackIdentity::read(&DstackLog::parse(&json).expect("parses")).expect("an identity");
    assert_eq!(identity.key_provider.kind, KeyProviderKind::Kms);
    assert!(identity.mr_kms.is_some() && identity.claims.is_empty());
    let image = identity.os_image_hash.expect("an image").to_string();
    assert!(image.starts_with("1d5283fb98a72814"));
    // MRCONFIGID of the first form holds the same compose hash, set before the VM ran.
    assert_eq!(quote.mr_config_id.0[0], 1);
    assert_eq!(quote.mr_config_id.0[1..33], identity.compose_hash.0);
}

/// Each digit of the JSON that is changed is refused or breaks the replay, unless it is a comment of a boot event.
#[test]
fn a_real_log_with_one_character_changed_is_never_accepted_as_it_was() {
    let Some((quote, json)) = report(LOCAL_SGX) else { return };
    let original = DstackLog::parse(&json).expect("parses");
    let runtime = |log: &DstackLog| {
        let events = log.events.iter().filter(|event| event.version.is_some()).cloned();
        events.collect::<Vec<_>>()
    };
    for at in positions(json.len(), 600) {
        for bit in [0x01, 0x02, 0x10] {
            let mut flipped = json.clone();
            flipped[at] ^= bit;
            let Ok(log) = DstackLog::parse(&flipped) else { continue };
            if log.check_replay(&quote.rtmr).is_ok() {
                assert_eq!(runtime(&log), runtime(&original), "character {at}");
                assert_eq!(log.replay(), original.replay());
            }
        }
        assert!(DstackLog::parse(&json[..at]).is_err(), "cut at {at}");
    }
}
