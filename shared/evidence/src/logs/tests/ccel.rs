//! Rows 36 to 40, 44 and 46 of the list of pitfalls, on binary logs.

use proptest::prelude::*;

use super::positions;
use crate::fixed_hex::Hex48;
use crate::logs::{
    Binding, CcelLog, Code, EventType, LogEnd, LogError, LoggedEvent, Register,
    ccel::{MAX_LOG_BYTES, MAX_RECORDS},
    payload::sha384,
};

pub(crate) fn header() -> Vec<u8> {
    let mut body = b"Spec ID Event03\0".to_vec();
    body.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    body.extend(1_u32.to_le_bytes());
    body.extend(0xc_u16.to_le_bytes());
    body.extend(48_u16.to_le_bytes());
    body.push(0);
    let mut bytes = 1_u32.to_le_bytes().to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend([0; 20]);
    bytes.extend(u32::try_from(body.len()).expect("short").to_le_bytes());
    bytes.extend(body);
    bytes
}

pub(crate) fn record(index: u32, event_type: u32, digest: &[u8; 48], payload: &[u8]) -> Vec<u8> {
    let mut bytes = index.to_le_bytes().to_vec();
    bytes.extend(event_type.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(0xc_u16.to_le_bytes());
    bytes.extend(digest);
    bytes.extend(u32::try_from(payload.len()).expect("short").to_le_bytes());
    bytes.extend(payload);
    bytes
}

pub(crate) fn hashed(index: u32, event_type: u32, payload: &[u8]) -> Vec<u8> {
    record(index, event_type, sha384(payload).as_bytes(), payload)
}

/// A small firmware log without padding.
fn log() -> Vec<u8> {
    let mut bytes = header();
    bytes.extend(record(1, 3, &[0; 48], b"a note"));
    bytes.extend(record(0, 0x8000_000a, &[7; 48], b"firmware"));
    bytes.extend(record(1, 0x8000_000b, &[1; 48], b"HOB"));
    bytes.extend(hashed(1, 4, &[0; 4]));
    bytes.extend(record(2, 0x8000_0003, &[2; 48], b"path"));
    bytes.extend(hashed(2, 0x8000_0007, b"Calling EFI Application from Boot Option"));
    bytes.extend(hashed(2, 4, &[0; 4]));
    bytes.extend(record(3, 6, &[3; 48], b"initrd"));
    bytes.extend(record(4, 0x1234, &[4; 48], b""));
    bytes
}

fn refused(bytes: &[u8]) -> Code {
    CcelLog::parse(bytes).expect_err("refused").entry()
}

#[test]
fn a_log_may_end_in_three_ways() {
    let ends = [
        (vec![], LogEnd::EndOfBytes),
        (vec![0; 1], LogEnd::ZeroFill),
        (vec![0; 500], LogEnd::ZeroFill),
        (vec![0xff; 4], LogEnd::Mark),
        (vec![0xff; 500], LogEnd::Mark),
        ([vec![0xff; 4], vec![0; 30]].concat(), LogEnd::Mark),
    ];
    for (padding, end) in ends {
        let parsed = CcelLog::parse(&[log(), padding].concat()).expect("parses");
        assert_eq!(parsed.end, end);
        assert_eq!(parsed.events.len(), 9);
        assert_eq!(parsed.check_separators(), Ok(()));
        let bindings = parsed.check_payloads().expect("bound");
        assert_eq!(bindings.iter().filter(|one| **one == Binding::Payload).count(), 3);
    }
}

/// Row 44: neither cut short nor continued behind its end.
#[test]
fn cut_and_continued_logs_are_refused() {
    let whole = log();
    let quoted = CcelLog::parse(&whole).expect("parses").replay();
    for length in 0..whole.len() {
        match CcelLog::parse(&whole[..length]) {
            Ok(shorter) => {
                assert!(shorter.check_replay(&quoted).is_err(), "{length} bytes");
            }
            Err(error) if length < header().len() => {
                assert_eq!(error.entry(), Code::HeaderMalformed);
            }
            Err(error) => assert_eq!(error.entry(), Code::Truncated, "{length} bytes"),
        }
    }
    for behind in [
        &b"\0\0\0\x01"[..],
        b"\xff\xff\xff\xff\xff\x01",
        b"\xff\xff\xff\xff\x01",
        b"\xff\xff\xff\xff\0\xff",
    ] {
        let found = refused(&[whole.as_slice(), behind].concat());
        assert!(matches!(found, Code::Trailing | Code::RegisterOutOfRange), "{behind:?}");
    }
    assert_eq!(refused(&[whole.as_slice(), &[0xff; 5], &[1]].concat()), Code::Trailing);
    let mut after = whole.clone();
    after.extend([0xff; 4]);
    after.extend(hashed(1, 4, &[0; 4]));
    assert_eq!(refused(&after), Code::Trailing);
}

/// Row 38: one digest, of SHA-384.
#[test]
fn other_banks_are_refused() {
    for (offset, value) in [(8, 0), (8, 2), (12, 0xb), (12, 4), (13, 1)] {
        let mut bytes = header();
        let mut bad = hashed(1, 4, &[0; 4]);
        bad[offset] = value;
        bytes.extend(bad);
        assert_eq!(refused(&bytes), Code::OtherBank, "byte {offset}");
    }
}

/// Row 39: EV_NO_ACTION extends nothing, and may not look as if it did.
#[test]
fn no_action_with_a_digest_is_refused() {
    let bytes = [header(), record(1, 3, &[1; 48], b"note")].concat();
    assert_eq!(refused(&bytes), Code::NoActionDigest);
    let bytes = [header(), record(1, 3, &[0; 48], b"note")].concat();
    assert_eq!(CcelLog::parse(&bytes).expect("parses").replay(), [Hex48::ZERO; 4]);
}

/// Row 40: index 1 is RTMR0; index 0 is not extended; above 4 there is nothing.
#[test]
fn registers_count_from_one() {
    for (index, rtmr) in [(1, 0), (2, 1), (3, 2), (4, 3)] {
        let parsed = CcelLog::parse(&[header(), hashed(index, 7, b"x")].concat()).expect("parses");
        let moved: Vec<_> = parsed.replay().iter().map(|register| !register.is_zero()).collect();
        let mut expected = vec![false; 4];
        expected[rtmr] = true;
        assert_eq!(moved, expected);
    }
    let parsed = CcelLog::parse(&[header(), hashed(0, 7, b"x")].concat()).expect("parses");
    assert_eq!((parsed.events[0].register, parsed.replay()), (Register::Mrtd, [Hex48::ZERO; 4]));
    for index in [5, 6, 0xffff_fffe] {
        let error =
            CcelLog::parse(&[header(), hashed(index, 7, b"x")].concat()).expect_err("range");
        assert_eq!(error, LogError::RegisterOutOfRange { index: 0, register: index });
    }
}

/// Rows 37 and 46.
#[test]
fn payloads_and_separators_are_checked() {
    let mut bytes = log();
    let at = bytes.windows(7).position(|window| window == b"Calling").expect("the action");
    bytes[at] ^= 1;
    let edited = CcelLog::parse(&bytes).expect("parses");
    let original = CcelLog::parse(&log()).expect("parses");
    assert_eq!(edited.check_replay(&original.replay()), Ok(()), "replay does not see payloads");
    assert_eq!(edited.check_payloads().expect_err("row 37").entry(), Code::PayloadDigest);
    let none = CcelLog::parse(&[header(), hashed(1, 4, &[0; 4])].concat()).expect("parses");
    assert_eq!(none.check_separators().expect_err("row 46").entry(), Code::SeparatorMissing);
}

#[test]
fn every_byte_of_the_header_and_every_digest_counts() {
    let whole = log();
    let original = CcelLog::parse(&whole).expect("parses");
    let quoted = original.replay();
    // Index of the header, platform class and versions say nothing that is used.
    let free: Vec<usize> = (0..4).chain(48..56).collect();
    for at in 0..header().len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x01;
        match CcelLog::parse(&flipped) {
            Ok(parsed) => {
                assert!(free.contains(&at), "byte {at}");
                assert_eq!(parsed, original);
            }
            Err(_) => assert!(!free.contains(&at), "byte {at}"),
        }
    }
    for at in header().len()..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x80;
        let Ok(parsed) = CcelLog::parse(&flipped) else { continue };
        let seen = parsed.check_replay(&quoted).is_err()
            || parsed.check_payloads().is_err()
            || only_comments_differ(&parsed, &original);
        assert!(seen, "byte {at}");
    }
}

/// Types and payloads that no digest covers, and everything about records that extend nothing.
fn only_comments_differ(one: &CcelLog, other: &CcelLog) -> bool {
    one.events.len() == other.events.len()
        && one.events.iter().zip(&other.events).all(|(a, b)| {
            let unextended = |event: &LoggedEvent| event.extended_into().is_none();
            a == b || unextended(b) || (a.register, a.digest) == (b.register, b.digest)
        })
}

#[test]
fn sizes_are_bounded() {
    assert_eq!(refused(&vec![0; MAX_LOG_BYTES + 1]), Code::TooLong);
    let mut many = header();
    for _ in 0..=MAX_RECORDS {
        many.extend(record(1, 0x55, &[0; 48], b""));
    }
    assert_eq!(refused(&many), Code::TooLong);
    many.truncate(many.len() - 66);
    assert_eq!(CcelLog::parse(&many).expect("parses").events.len(), MAX_RECORDS);
    // A length that lies allocates nothing.
    let mut lying = [header(), hashed(1, 4, &[0; 4])].concat();
    let at = header().len() + 62;
    lying[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(refused(&lying), Code::Truncated);
}

#[test]
fn random_flips_never_panic() {
    let whole = [log(), vec![0xff; 64]].concat();
    for at in positions(whole.len(), 400) {
        for bit in [0x01, 0x10, 0xff] {
            let mut flipped = whole.clone();
            flipped[at] ^= bit;
            crate::logs::ccel::fuzz_ccel(&flipped);
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        records in proptest::collection::vec(
            (0_u32..5, 4_u32..0x8000_0100, any::<[u8; 32]>(), proptest::collection::vec(any::<u8>(), 0..40)),
            0..20,
        ),
        padding in 0_usize..100,
    ) {
        let mut bytes = header();
        for (index, event_type, seed, payload) in &records {
            bytes.extend(record(*index, *event_type, sha384(seed).as_bytes(), payload));
        }
        bytes.extend(vec![0xff; 4 + padding]);
        let parsed = CcelLog::parse(&bytes).expect("parses");
        prop_assert_eq!(parsed.events.len(), records.len());
        for (event, (index, event_type, seed, payload)) in parsed.events.iter().zip(&records) {
            prop_assert_eq!(Some(event.register), Register::from_ccel(*index));
            prop_assert_eq!(event.event_type, EventType::from(*event_type));
            prop_assert_eq!(event.digest, sha384(seed));
            prop_assert_eq!(&event.payload, payload);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        crate::logs::ccel::fuzz_ccel(&bytes);
        crate::logs::ccel::fuzz_ccel(&[header(), bytes].concat());
    }
}
