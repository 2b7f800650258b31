//! Rows 41 and 42: which events of register 3 say who a VM is.

use serde_json::Value;

use super::dstack::{parse, v1, v2};
use crate::{
    event_log::extend,
    fixed_hex::{FixedHex, Hex48},
    logs::{Code, DstackIdentity, KeyProviderKind, StorageFs},
};

const NO_KEYS: &[u8] = br#"{"name":"none","id":""}"#;

/// A boot of the first generation that kept keys with a KMS.
fn boot() -> Vec<Value> {
    vec![
        v1("system-preparing", b""),
        v1("app-id", &[1; 20]),
        v1("compose-hash", &[2; 32]),
        v1("instance-id", &[3; 20]),
        v1("boot-mr-done", b""),
        v1("mr-kms", &[4; 32]),
        v1("os-image-hash", &[5; 32]),
        v1("key-provider", br#"{"name":"kms","id":"3059"}"#),
        v1("storage-fs", b"zfs"),
        v1("system-ready", b""),
    ]
}

fn read(events: &[Value]) -> Result<DstackIdentity, Code> {
    DstackIdentity::read(&parse(events).expect("parses")).map_err(|error| error.entry())
}

/// `boot` with the event at `at` replaced by `events`.
fn edited(at: usize, events: &[Value]) -> Vec<Value> {
    let mut boot = boot();
    boot.splice(at..=at, events.iter().cloned());
    boot
}

#[test]
fn a_boot_of_the_first_generation_says_who_it_is() {
    let mut events = boot();
    events.push(v1("a claim", b"anything"));
    let identity = read(&events).expect("reads");
    assert_eq!(identity.app_id, FixedHex([1; 20]));
    assert_eq!(identity.compose_hash, FixedHex([2; 32]));
    assert_eq!(identity.instance_id, Some(FixedHex([3; 20])));
    assert_eq!(identity.mr_kms, Some(FixedHex([4; 32])));
    assert_eq!(identity.os_image_hash, Some(FixedHex([5; 32])));
    assert_eq!(identity.key_provider.kind, KeyProviderKind::Kms);
    assert_eq!(identity.key_provider.id.0, [0x30, 0x59]);
    assert_eq!(identity.storage_fs, Some(StorageFs::Zfs));
    assert_eq!(identity.claims.len(), 1);
    let until_done = parse(&boot()[..5]).expect("parses");
    assert_eq!(identity.boot_register, until_done.replay()[3]);
    let first = until_done
        .events
        .iter()
        .fold(Hex48::ZERO, |register, event| extend(&register, &event.logged.digest));
    assert_eq!(identity.boot_register, first);
}

#[test]
fn a_boot_of_the_current_generation_says_more() {
    let events = [
        v2("system-preparing", b""),
        v2("app-id", &[1; 20]),
        v2("compose-hash", &[2; 32]),
        v2("init-script-hash", &[6; 32]),
        v2("init-script-hash", &[7; 32]),
        v2("gpu-policy-hash", &[8; 32]),
        v2("gpu-attestation", br#"{"ok":true}"#),
        v2("instance-id", b""),
        v2("boot-mr-done", b""),
        v2("key-provider", NO_KEYS),
        v2("storage-fs", b"ext4"),
        v2("system-ready", b""),
    ];
    let identity = read(&events).expect("reads");
    assert_eq!(identity.init_script_hashes, [FixedHex([6; 32]), FixedHex([7; 32])]);
    assert_eq!(identity.gpu_policy_hash, Some(FixedHex([8; 32])));
    assert!(identity.gpu_attestation.is_some());
    assert_eq!(identity.instance_id, None);
    assert_eq!(identity.key_provider.kind, KeyProviderKind::None);
    assert_eq!(identity.storage_fs, Some(StorageFs::Ext4));
}

#[test]
fn every_departure_from_a_boot_is_refused() {
    let app = |byte: u8| v1("app-id", &[byte; 20]);
    let compose = v1("compose-hash", &[2; 32]);
    let late = |event: Value| [boot(), vec![event]].concat();
    let scripts = vec![v1("init-script-hash", &[6; 32]); 6];
    let cases: Vec<(Vec<Value>, Code)> = vec![
        // Row 42: once each.
        (edited(1, &[app(1), app(1)]), Code::Repeated),
        (edited(1, &[app(1), app(9)]), Code::Repeated),
        (edited(7, &[app(9), boot()[7].clone()]), Code::Repeated),
        (edited(2, &[compose.clone(), compose.clone()]), Code::Repeated),
        (edited(3, &scripts), Code::Repeated),
        (edited(4, &[boot()[4].clone(), boot()[4].clone()]), Code::Repeated),
        // Row 41: nothing behind the marker is an identity, and without a marker there is none.
        (late(app(9)), Code::LateIdentity),
        (late(v1("gpu-policy-hash", &[1; 32])), Code::LateIdentity),
        (late(v1("system-ready", b"")), Code::LateIdentity),
        (boot()[..9].to_vec(), Code::MarkerMissing),
        (edited(4, &[]), Code::MarkerMissing),
        (vec![], Code::MarkerMissing),
        // Order, completeness, form.
        (edited(1, &[compose, app(1)]), Code::EventOrder),
        (edited(3, &[boot()[4].clone(), boot()[3].clone()]), Code::EventOrder),
        (edited(0, &[]), Code::IdentityMissing),
        (edited(1, &[]), Code::IdentityMissing),
        (edited(2, &[]), Code::IdentityMissing),
        (edited(3, &[]), Code::IdentityMissing),
        (edited(7, &[]), Code::IdentityMissing),
        (edited(8, &[v1("my-own", b"")]), Code::EventUnknown),
        (edited(0, &[v1("x", b""), v1("system-preparing", b"")]), Code::EventUnknown),
        (edited(1, &[v1("app-id", &[1; 21])]), Code::IdentityValue),
        (edited(2, &[v1("compose-hash", &[1; 20])]), Code::IdentityValue),
        (edited(3, &[v1("instance-id", &[1; 19])]), Code::IdentityValue),
        (edited(5, &[v1("mr-kms", b"")]), Code::IdentityValue),
        (edited(6, &[v1("os-image-hash", b"")]), Code::IdentityValue),
        (edited(7, &[v1("key-provider", br#"{"name":"mine","id":""}"#)]), Code::IdentityValue),
        (edited(7, &[v1("key-provider", br#"{"name":"kms","id":""}"#)]), Code::IdentityValue),
        (edited(7, &[v1("key-provider", br#"{"name":"none","id":"00"}"#)]), Code::IdentityValue),
        (edited(7, &[v1("key-provider", br#"{"name":"none"}"#)]), Code::IdentityValue),
        (edited(8, &[v1("storage-fs", b"xfs")]), Code::IdentityValue),
        (edited(0, &[v1("system-preparing", b"x")]), Code::IdentityValue),
    ];
    for (index, (events, expected)) in cases.into_iter().enumerate() {
        assert_eq!(read(&events).err(), Some(expected), "case {index}");
    }
}

/// A log can be reordered and its digests still be its own: only the order check sees it before the replay does.
#[test]
fn no_two_neighbours_can_change_places() {
    for at in 0..boot().len() - 1 {
        let mut events = boot();
        events.swap(at, at + 1);
        assert!(read(&events).is_err(), "{at}");
    }
}
