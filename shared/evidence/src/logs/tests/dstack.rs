//! The JSON log: both digest versions, and each way in which an event can contradict itself.

use serde_json::{Value, json};

use crate::{
    fixed_hex::Hex48,
    logs::{Binding, Code, DigestVersion, DstackLog},
};

const RUNTIME: u32 = 0x0800_0001;

/// A run-time event of the first generation.
pub(super) fn v1(name: &str, payload: &[u8]) -> Value {
    let digest = DigestVersion::V1.digest(name, payload).expect("digest");
    json!({"imr": 3, "event_type": RUNTIME, "digest": digest.to_string(), "event": name,
           "event_payload": hex::encode(payload)})
}

/// A run-time event of version 2, its digest left out as current guests do.
pub(super) fn v2(name: &str, payload: &[u8]) -> Value {
    let preimage = DigestVersion::V2.preimage(name, payload).expect("preimage");
    json!({"imr": 3, "event_type": RUNTIME, "digest": "", "event": name,
           "event_payload": hex::encode(payload), "version": 2, "preimage": hex::encode(preimage)})
}

fn boot(imr: u32, event_type: u32, digest: u8) -> Value {
    json!({"imr": imr, "event_type": event_type, "digest": hex::encode([digest; 48]),
           "event": "", "event_payload": ""})
}

fn with(mut event: Value, key: &str, value: Value) -> Value {
    event[key] = value;
    event
}

pub(super) fn parse(events: &[Value]) -> Result<DstackLog, Code> {
    let json = serde_json::to_vec(events).expect("JSON");
    DstackLog::parse(&json).map_err(|error| error.entry())
}

#[test]
fn both_versions_replay_alike_with_and_without_their_digest() {
    let digest = DigestVersion::V2.digest("app-id", b"x").expect("digest").to_string();
    let stripped = parse(&[v2("app-id", b"x")]).expect("parses");
    let full = parse(&[with(v2("app-id", b"x"), "digest", json!(digest))]).expect("parses");
    assert_eq!(stripped, full);
    assert_eq!(stripped.events[0].version, Some(DigestVersion::V2));
    let first = parse(&[v1("app-id", b"x")]).expect("parses");
    assert_ne!(first.replay()[3], full.replay()[3], "the version is part of the digest");
    let bare = parse(&[with(v1("app-id", b"x"), "digest", json!(""))]).expect("parses");
    assert_eq!(bare.replay(), first.replay());
    assert_eq!(first.check_payloads(), Ok(vec![Binding::Payload]));
}

#[test]
fn contradictions_are_refused_each_with_its_code() {
    let event = || v1("app-id", b"x");
    let other = DigestVersion::V1.digest("app-id", b"y").expect("digest").to_string();
    let upper = hex::encode_upper([0xab; 48]);
    let cases = [
        // Row 43: the name, the version, the digest by the declared version only.
        (v1("app:id", b"x"), Code::NameAmbiguous),
        (v1("", b"x"), Code::NameAmbiguous),
        (with(event(), "version", json!(3)), Code::DigestVersion),
        (with(event(), "version", json!(0)), Code::DigestVersion),
        (with(event(), "digest", json!(other)), Code::RuntimeDigest),
        (with(event(), "event_payload", json!("79")), Code::RuntimeDigest),
        (with(event(), "event", json!("app-ie")), Code::RuntimeDigest),
        (with(v2("a", b""), "digest", v1("a", b"")["digest"].clone()), Code::RuntimeDigest),
        (with(event(), "version", json!(2)), Code::Preimage),
        (with(v2("a", b""), "preimage", json!("7b7d")), Code::Preimage),
        (with(v2("a", b""), "version", json!(1)), Code::Preimage),
        (with(event(), "preimage", json!("00")), Code::Preimage),
        (with(event(), "digest", json!("00")), Code::RuntimeDigest),
        // Row 40.
        (with(event(), "imr", json!(4)), Code::RegisterOutOfRange),
        (with(event(), "imr", json!(u32::MAX)), Code::RegisterOutOfRange),
        // Types belong into their registers.
        (with(event(), "imr", json!(2)), Code::EventForm),
        (with(event(), "event_type", json!(4)), Code::EventForm),
        (with(boot(0, 4, 1), "digest", json!("")), Code::EventForm),
        (with(boot(0, 4, 1), "version", json!(2)), Code::EventForm),
        (with(boot(0, 4, 1), "preimage", json!("")), Code::EventForm),
        // Row 39.
        (boot(0, 3, 1), Code::NoActionDigest),
        // The document.
        (with(event(), "extra", json!(1)), Code::JsonUnreadable),
        (with(event(), "imr", json!(-1)), Code::JsonUnreadable),
        (with(event(), "digest", json!(upper)), Code::JsonUnreadable),
        (json!({}), Code::JsonUnreadable),
        (json!(3), Code::JsonUnreadable),
    ];
    for (event, expected) in cases {
        assert_eq!(parse(std::slice::from_ref(&event)).expect_err("refused"), expected, "{event}");
    }
}

#[test]
fn no_action_extends_nothing_and_boot_payloads_are_bound_where_present() {
    let log = parse(&[boot(0, 3, 0), boot(1, 0x8000_0003, 2)]).expect("parses");
    assert_eq!(log.replay()[0], Hex48::ZERO);
    assert_ne!(log.replay()[1], Hex48::ZERO);
    assert_eq!(log.check_payloads(), Ok(vec![Binding::Comment; 2]));
    let stripped = parse(&[boot(0, 4, 1)]).expect("parses");
    assert_eq!(stripped.check_payloads(), Ok(vec![Binding::Comment]), "removed on the way");
    let edited = parse(&[with(boot(0, 4, 1), "event_payload", json!("00000000"))]).expect("parses");
    assert_eq!(edited.check_payloads().expect_err("row 37").entry(), Code::PayloadDigest);
    assert_eq!(edited.check_separators().expect_err("row 46").entry(), Code::SeparatorMissing);
}

#[test]
fn sizes_are_bounded() {
    assert_eq!(parse(&vec![v1("a", b""); 1025]).expect_err("many"), Code::TooLong);
    assert!(parse(&vec![v1("a", b""); 1024]).is_ok());
    let blanks = vec![b' '; (1 << 20) + 1];
    assert_eq!(DstackLog::parse(&blanks).expect_err("long").entry(), Code::TooLong);
}
