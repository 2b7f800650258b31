//! What judging an event log costs: 100 events, binary and JSON, from bytes to "replays to the quote".
//!
//! `cargo bench -p sealtune-evidence --bench logs`
#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to report")]

use divan::{Bencher, black_box};
use sealtune_evidence::logs::{CcelLog, DigestVersion, DstackLog, RUNTIME_EVENT_TYPE, replay};

fn main() {
    divan::main();
}

const EVENTS: u32 = 100;
const PAYLOAD: [u8; 64] = [7; 64];

fn binary() -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [1_u32, 3, 0, 0, 0, 0, 0, 33] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02\x01\0\0\0\x0c\x00\x30\0\0");
    for index in 0..EVENTS {
        for word in [1 + index % 3, 6, 1] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([0x0c, 0]);
        bytes.extend([9; 48]);
        bytes.extend(64_u32.to_le_bytes());
        bytes.extend(PAYLOAD);
    }
    bytes
}

fn json(version: DigestVersion) -> Vec<u8> {
    let events = (0..EVENTS).map(|index| {
        let name = format!("event-{index}");
        let preimage = version.preimage(&name, &PAYLOAD).expect("preimage");
        let number = if version == DigestVersion::V1 { 1 } else { 2 };
        format!(
            r#"{{"imr":3,"event_type":{RUNTIME_EVENT_TYPE},"digest":"","event":"{name}","event_payload":"{}","version":{number},"preimage":"{}"}}"#,
            hex::encode(PAYLOAD),
            hex::encode(preimage)
        )
    });
    format!("[{}]", events.collect::<Vec<_>>().join(",")).into_bytes()
}

#[divan::bench]
fn ccel_parse_and_replay_100(bencher: Bencher<'_, '_>) {
    let bytes = binary();
    let quoted = CcelLog::parse(&bytes).expect("parses").replay();
    bencher.bench_local(|| {
        let log = CcelLog::parse(black_box(&bytes)).expect("parses");
        log.check_replay(&quoted).expect("replays");
    });
}

#[divan::bench]
fn replay_only_100(bencher: Bencher<'_, '_>) {
    let log = CcelLog::parse(&binary()).expect("parses");
    bencher.bench_local(|| replay::replay(black_box(&log.events)));
}

#[divan::bench(args = [1, 2])]
fn dstack_parse_and_replay_100(bencher: Bencher<'_, '_>, version: u32) {
    let version = if version == 1 { DigestVersion::V1 } else { DigestVersion::V2 };
    let bytes = json(version);
    let quoted = DstackLog::parse(&bytes).expect("parses").replay();
    bencher.bench_local(|| {
        let log = DstackLog::parse(black_box(&bytes)).expect("parses");
        log.check_replay(&quoted).expect("replays");
    });
}
