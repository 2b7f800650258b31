use proptest::prelude::*;

use super::*;

const KEY: [u8; 32] = [0x42; 32];
const CONTEXT: &[u8] = b"0123456789abcdef";

fn small() -> ChunkSize {
    ChunkSize::new(ChunkSize::MIN).expect("allowed")
}

fn seal(plain: &[u8], size: ChunkSize) -> Vec<u8> {
    let key = Secret::new(KEY);
    let (mut sealer, header) =
        Sealer::with_chunk_size(&key, ObjectKind::Dataset, CONTEXT, size).expect("sealer");
    let mut out = header.to_vec();
    sealer.push(plain, &mut out).expect("push");
    sealer.finish(&mut out).expect("finish");
    out
}

fn open_as(
    sealed: &[u8],
    key: [u8; 32],
    kind: ObjectKind,
    context: &[u8],
) -> (Vec<u8>, Result<(), StreamError>) {
    let mut opener = Opener::new(&Secret::new(key), kind, context);
    let mut out = Vec::new();
    let result = opener.push(sealed, &mut out).and_then(|()| opener.finish(&mut out));
    (out, result)
}

fn open(sealed: &[u8]) -> (Vec<u8>, Result<(), StreamError>) {
    open_as(sealed, KEY, ObjectKind::Dataset, CONTEXT)
}

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 7 + place / 251) as u8).collect()
}

/// An object of four chunks, the last with 100 bytes, as header and chunks.
fn pieces() -> (Vec<u8>, Vec<Vec<u8>>) {
    let sealed = seal(&sample(3 * 4096 + 100), small());
    let (header, body) = sealed.split_at(HEADER_LENGTH);
    (header.to_vec(), body.chunks(4096 + AEAD_TAG).map(<[u8]>::to_vec).collect())
}

#[test]
fn the_format_is_the_one_that_the_readme_writes_down() {
    // Made from the README's words by another program (Python, `cryptography`), not by this crate.
    let header = Header {
        kind: ObjectKind::Result,
        chunk_size: small(),
        salt: [0x11; 32],
        prefix: [0x22; 7],
    };
    let (mut sealer, bytes) =
        Sealer::from_header(&Secret::new(KEY), header, CONTEXT).expect("sealer");
    let mut out = bytes.to_vec();
    sealer.push(&sample(5000), &mut out).expect("push");
    sealer.finish(&mut out).expect("finish");
    assert_eq!(out.len(), 5084);
    let digest = ring::digest::digest(&ring::digest::SHA256, &out);
    assert_eq!(
        hex::encode(digest.as_ref()),
        "c48ab13ce10c49a2c917437901e7ef53bfbe0becbf6d0eb009e86cd8249e9173"
    );
}

#[test]
fn every_way_to_rearrange_an_object_has_its_error_and_gives_out_only_the_good_start() {
    type Rearranged = (&'static str, &'static str, usize, fn(&mut Vec<Vec<u8>>));
    let table: [Rearranged; 14] = [
        ("swap the first two", "ST-SEAL-58", 0, |c| c.swap(0, 1)),
        ("swap the middle two", "ST-SEAL-58", 1, |c| c.swap(1, 2)),
        ("move the last forward", "ST-SEAL-57", 1, |c| c.swap(1, 3)),
        ("drop the first", "ST-SEAL-58", 0, |c| drop(c.remove(0))),
        ("drop a middle one", "ST-SEAL-58", 1, |c| drop(c.remove(1))),
        ("drop the one before the last", "ST-SEAL-58", 2, |c| drop(c.remove(2))),
        ("repeat one", "ST-SEAL-59", 2, |c| c.insert(2, c[1].clone())),
        ("cut after the third", "ST-SEAL-61", 2, |c| c.truncate(3)),
        ("cut after the first", "ST-SEAL-61", 0, |c| c.truncate(1)),
        ("cut everything", "ST-SEAL-61", 0, Vec::clear),
        ("cut inside the last", "ST-SEAL-62", 3, |c| c[3].truncate(60)),
        ("cut to less than a tag", "ST-SEAL-61", 3, |c| c[3].truncate(9)),
        ("cut to a tag alone", "ST-SEAL-63", 3, |c| c[3].truncate(AEAD_TAG)),
        ("damage one bit", "ST-SEAL-57", 2, |c| c[2][4000] ^= 1),
    ];
    let plain = sample(3 * 4096 + 100);
    for (name, code, good_chunks, rearrange) in table {
        let (header, mut chunks) = pieces();
        rearrange(&mut chunks);
        let (out, result) = open(&[header, chunks.concat()].concat());
        assert_eq!(result.expect_err(name).code(), code, "{name}");
        assert_eq!(out, &plain[..good_chunks * 4096], "{name}");
    }
}

#[test]
fn an_extended_object_is_refused_when_the_last_chunk_was_full() {
    let mut sealed = seal(&sample(2 * 4096), small());
    assert!(open(&sealed).1.is_ok());
    sealed.push(0);
    let (out, result) = open(&sealed);
    assert_eq!(result, Err(StreamError::Extended { last: 1 }));
    assert_eq!(out.len(), 4096);
    // A second object behind the first is an extension too.
    let twice = [seal(&sample(4096), small()), seal(&sample(4096), small())].concat();
    assert_eq!(open(&twice).1, Err(StreamError::Extended { last: 0 }));
}

#[test]
fn an_object_for_another_key_kind_context_or_header_does_not_open() {
    let sealed = seal(b"weights", small());
    let damaged = Err(StreamError::LastChunkRefused { chunk: 0 });
    assert_eq!(open_as(&sealed, [0x43; 32], ObjectKind::Dataset, CONTEXT).1, damaged);
    assert_eq!(open_as(&sealed, KEY, ObjectKind::Dataset, b"another job").1, damaged);
    assert_eq!(
        open_as(&sealed, KEY, ObjectKind::Result, CONTEXT).1,
        Err(StreamError::WrongKind { expected: ObjectKind::Result, found: 1 })
    );
    for place in 0..HEADER_LENGTH {
        let mut changed = sealed.clone();
        changed[place] ^= 1;
        let (out, result) = open(&changed);
        assert!(result.is_err() && out.is_empty(), "header byte {place}");
    }
    // A kind that is changed in the header and asked for fails in the key and the associated data.
    let mut other = sealed;
    other[8] = ObjectKind::Result.number();
    assert_eq!(open_as(&other, KEY, ObjectKind::Result, CONTEXT).1, damaged);
}

#[test]
fn an_empty_last_chunk_is_refused_even_if_it_authenticates() {
    let header = Header::fresh(ObjectKind::Dataset, small()).expect("random");
    let cipher = ObjectCipher::new(&Secret::new(KEY), &header, CONTEXT).expect("cipher");
    let mut object = header.to_bytes().to_vec();
    for (number, last, plain) in [(0, false, sample(4096)), (1, true, Vec::new())] {
        let mut chunk = plain;
        cipher
            .key
            .seal_in_place_append_tag(cipher.nonce(number, last), cipher.aad(), &mut chunk)
            .expect("seal");
        object.extend_from_slice(&chunk);
    }
    assert_eq!(open(&object).1, Err(StreamError::EmptyLastChunk { chunk: 1 }));
}

#[test]
fn a_broken_transfer_goes_on_at_the_offset_and_a_refused_chunk_can_come_again() {
    let plain = sample(3 * 4096 + 100);
    let sealed = seal(&plain, small());
    let mut opener = Opener::new(&Secret::new(KEY), ObjectKind::Dataset, CONTEXT);
    let mut out = Vec::new();
    assert_eq!(opener.resume_offset(), 0);
    // Cut inside the header, then inside the second chunk.
    opener.push(&sealed[..30], &mut out).expect("push");
    assert_eq!(opener.resume().expect("resume"), 0);
    opener.push(&sealed[..52 + 4112 + 900], &mut out).expect("push");
    assert_eq!(opener.resume().expect("resume"), 52 + 4112);
    // The second chunk arrives damaged.
    let mut damaged = sealed[52 + 4112..].to_vec();
    damaged[17] ^= 0x80;
    assert_eq!(opener.push(&damaged, &mut out), Err(StreamError::Damaged { chunk: 1 }));
    assert_eq!(opener.push(&sealed, &mut out), Err(StreamError::MustResume));
    assert_eq!(opener.finish(&mut out), Err(StreamError::MustResume));
    assert_eq!(out, &plain[..4096]);
    let offset = usize::try_from(opener.resume().expect("resume")).expect("fits");
    opener.push(&sealed[offset..], &mut out).expect("push");
    // The end can be asked for too early, and be made good.
    let mut early = Opener::new(&Secret::new(KEY), ObjectKind::Dataset, CONTEXT);
    let mut early_out = Vec::new();
    early.push(&sealed[..52 + 2 * 4112], &mut early_out).expect("push");
    assert_eq!(early.finish(&mut early_out), Err(StreamError::Truncated { chunk: 1 }));
    let offset = usize::try_from(early.resume().expect("resume")).expect("fits");
    early.push(&sealed[offset..], &mut early_out).expect("push");
    early.finish(&mut early_out).expect("finish");
    opener.finish(&mut out).expect("finish");
    assert_eq!(out, plain);
    assert_eq!(early_out, plain);
    assert_eq!(opener.resume(), Err(StreamError::Complete));
    assert_eq!(opener.push(b"x", &mut out), Err(StreamError::Complete));
    assert_eq!(opener.resume_offset() - 4112 * 4, 52);
}

#[test]
fn chunk_sizes_and_contexts_are_bounded() {
    for bytes in [0, 4095, 1024 * 1024 + 1, u32::MAX] {
        assert_eq!(ChunkSize::new(bytes), Err(StreamError::ChunkSize(bytes)));
    }
    let key = Secret::new(KEY);
    assert!(Sealer::new(&key, ObjectKind::Result, &[0; 1024]).is_ok());
    assert!(matches!(
        Sealer::new(&key, ObjectKind::Result, &[0; 1025]),
        Err(StreamError::ContextTooLong(1025))
    ));
}

#[test]
fn lengths_are_known_before_and_back() {
    for plain in [0u64, 1, 65_535, 65_536, 65_537, 131_072, 131_073, 1 << 40] {
        let sealed = sealed_length(plain).expect("length");
        assert_eq!(opened_length(sealed), Some(plain));
    }
    assert_eq!(sealed_length(0), Some(68));
    assert_eq!(opened_length(67), None);
    // One byte more than a full chunk cannot be: a chunk has a tag and at least one byte.
    for extra in 1..=16 {
        assert_eq!(opened_length(52 + 65_552 + extra), None);
    }
    assert_eq!(opened_length(52 + 65_552 + 17), Some(65_537));
    assert_eq!(small().sealed_length(4096 << 32), Some((4112 << 32) + 52));
    assert_eq!(small().sealed_length((4096 << 32) + 1), None);
    assert_eq!(sealed_length(u64::MAX), None);
    assert_eq!(opened_length(u64::MAX), None);
}

#[test]
fn the_last_possible_chunk_is_the_last() {
    let header = Header::fresh(ObjectKind::Dataset, small()).expect("random");
    let (mut sealer, _) = Sealer::from_header(&Secret::new(KEY), header, CONTEXT).expect("sealer");
    sealer.set_next_chunk(u32::MAX);
    let mut out = Vec::new();
    assert_eq!(sealer.push(&sample(2 * 4096 + 1), &mut out), Err(StreamError::TooManyChunks));
    assert_eq!(out.len(), 4112);
}

#[test]
fn fuzz_entries_take_anything() {
    let sealed = seal(b"x", small());
    for data in [&[][..], b"STSEAL1\0", &sealed, &sealed[..HEADER_LENGTH], &[0xff; 5000]] {
        fuzz_stream_header(data);
        fuzz_stream_opener(data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_the_cuts_it_opens_to_what_was_sealed(
        length in prop_oneof![0usize..20_000, Just(4096), Just(8192), Just(12_288)],
        cuts in proptest::collection::vec(1usize..6000, 1..8),
    ) {
        let plain = sample(length);
        let key = Secret::new(KEY);
        let (mut sealer, header) =
            Sealer::with_chunk_size(&key, ObjectKind::Result, CONTEXT, small()).expect("sealer");
        let mut sealed = header.to_vec();
        let mut rest = plain.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break; }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            sealer.push(now, &mut sealed).expect("push");
            rest = later;
        }
        sealer.finish(&mut sealed).expect("finish");
        prop_assert_eq!(small().sealed_length(length as u64), Some(sealed.len() as u64));
        prop_assert_eq!(small().opened_length(sealed.len() as u64), Some(length as u64));

        let mut opener = Opener::new(&key, ObjectKind::Result, CONTEXT);
        let mut out = Vec::new();
        let mut rest = sealed.as_slice();
        for cut in cuts.iter().rev().cycle() {
            if rest.is_empty() { break; }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            opener.push(now, &mut out).expect("push");
            rest = later;
        }
        opener.finish(&mut out).expect("finish");
        prop_assert_eq!(out, plain);
    }

    #[test]
    fn no_order_of_chunks_but_the_right_one_opens(
        order in proptest::collection::vec(0usize..4, 0..7),
    ) {
        let (header, chunks) = pieces();
        let body: Vec<u8> = order.iter().flat_map(|place| chunks[*place].clone()).collect();
        let (out, result) = open(&[header, body].concat());
        prop_assert_eq!(result.is_ok(), order == [0, 1, 2, 3]);
        prop_assert!(sample(3 * 4096 + 100).starts_with(&out));
    }

    #[test]
    fn no_changed_byte_and_no_cut_opens(place in 0usize..12_400, change in 1u8..) {
        let sealed = seal(&sample(3 * 4096), small());
        let place = place % sealed.len();
        let mut changed = sealed.clone();
        changed[place] ^= change;
        prop_assert!(open(&changed).1.is_err());
        prop_assert!(open(&sealed[..place]).1.is_err());
    }
}
