use sealtune_content::{ContentHasher, Scheme, StreamError};
use sealtune_seal::stream::Sealer;
use sealtune_wire::stream::{chunk_header, encode_end};
use tokio::io::{AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::serve::listener::Connection;

const BAD_SEGMENT: StreamError = StreamError::BadSegment { index: 0 };
const TOO_LONG: StreamError = StreamError::TooLong { length: 0 };
const TOO_SHORT: StreamError = StreamError::TooShort { found: 0, length: 0 };
const WRONG_CONTENT: StreamError = StreamError::WrongContent;

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 253) as u8).collect()
}

fn id_of(bytes: &[u8], scheme: Scheme) -> ContentId {
    let mut hasher = ContentHasher::new(scheme);
    hasher.update(bytes);
    hasher.finish().unwrap()
}

fn content_sink(bytes: &[u8], scheme: Scheme) -> (ContentSink, tempfile::NamedTempFile) {
    let id = id_of(bytes, scheme);
    let map = match id {
        ContentId::Sha256 { .. } => None,
        ContentId::Zg { root, length } => {
            let mut hasher = sealtune_content::ZgHasher::new();
            hasher.update(bytes);
            Some(hasher.finish().unwrap().verify_against(&root, length).unwrap())
        }
    };
    let spool = tempfile::NamedTempFile::new().unwrap();
    let verifier = Some(StreamingVerifier::new(id, map).unwrap());
    let sink = ContentSink { id, verifier, file: spool.reopen().unwrap() };
    (sink, spool)
}

fn sealed_sink(plain: &[u8]) -> (SealedSink, Vec<u8>, tempfile::NamedTempFile) {
    let key = Secret::new([5; 32]);
    let (mut sealer, header) = Sealer::new(&key, ObjectKind::Dataset, &[1; 16]).unwrap();
    let mut object = header.to_vec();
    sealer.push(plain, &mut object).unwrap();
    sealer.finish(&mut object).unwrap();
    let spool = tempfile::NamedTempFile::new().unwrap();
    let sink = SealedSink {
        length: object.len() as u64,
        received: 0,
        opener: Opener::new(&key, ObjectKind::Dataset, &[1; 16]),
        verifier: Some(StreamingVerifier::new(id_of(plain, Scheme::Sha256), None).unwrap()),
        file: spool.reopen().unwrap(),
        opened: Vec::new(),
    };
    (sink, object, spool)
}

fn peer() -> (StreamPeer, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 24);
    (StreamPeer { connection: Connection::of(theirs), offset: 0 }, ours)
}

async fn write_chunks(io: &mut DuplexStream, bytes: &[u8]) {
    for chunk in bytes.chunks(100_000) {
        io.write_all(&chunk_header(chunk.len()).unwrap()).await.unwrap();
        io.write_all(chunk).await.unwrap();
    }
}

async fn write_end(io: &mut DuplexStream, length: u64) {
    io.write_all(&encode_end(&Trailer::Complete { length }).unwrap()).await.unwrap();
}

/// Everything that one connection brings.
async fn deliver(
    sink: &mut impl Sink,
    bytes: &[u8],
    end: Option<u64>,
) -> Result<Drained, JobError> {
    let (peer, mut io) = peer();
    write_chunks(&mut io, bytes).await;
    if let Some(length) = end {
        write_end(&mut io, length).await;
    }
    io.shutdown().await.unwrap();
    let (_keep, mut peers) = mpsc::channel(1);
    drain(peer, &mut peers, sink).await
}

fn code(drained: Result<Drained, JobError>) -> &'static str {
    match drained {
        Ok(Drained::All) => "all",
        Ok(Drained::Cut) => "cut",
        Ok(Drained::Newer(_)) => "newer",
        Ok(Drained::Wrong(error)) | Err(error) => error.code(),
    }
}

#[tokio::test]
async fn a_cut_transfer_goes_on_where_it_was() {
    let bytes = sample(700_001);
    for scheme in [Scheme::Sha256, Scheme::Zg] {
        let (mut sink, spool) = content_sink(&bytes, scheme);
        assert_eq!(code(deliver(&mut sink, &bytes[..300_000], None).await), "cut");
        assert_eq!(sink.offset(), 300_000);
        let rest = deliver(&mut sink, &bytes[300_000..], Some(700_001)).await;
        assert_eq!(code(rest), "all");
        assert_eq!(std::fs::read(spool.path()).unwrap(), bytes);
    }
    let (mut sink, object, spool) = sealed_sink(&bytes);
    assert_eq!(code(deliver(&mut sink, &object[..300_000], None).await), "cut");
    let rest = deliver(&mut sink, &object[300_000..], Some(object.len() as u64)).await;
    assert_eq!(code(rest), "all");
    assert_eq!(std::fs::read(spool.path()).unwrap(), bytes);
}

#[tokio::test]
async fn a_wrong_byte_is_asked_for_again_from_its_piece() {
    let bytes = sample(700_001);
    let (mut sink, spool) = content_sink(&bytes, Scheme::Zg);
    let mut wrong = bytes.clone();
    wrong[600_000] ^= 1;
    assert_eq!(code(deliver(&mut sink, &wrong, Some(700_001)).await), BAD_SEGMENT.code());
    assert_eq!(sink.offset(), 2 * 262_144);
    let again = deliver(&mut sink, &bytes[2 * 262_144..], Some(700_001)).await;
    assert_eq!(code(again), "all");
    assert_eq!(std::fs::read(spool.path()).unwrap(), bytes);

    let (mut sink, object, spool) = sealed_sink(&bytes);
    let mut wrong = object.clone();
    wrong[200_000] ^= 1;
    let refused = deliver(&mut sink, &wrong, Some(object.len() as u64)).await;
    assert_eq!(code(refused), "ST-SEAL-57");
    let offset = usize::try_from(sink.offset()).unwrap();
    assert!(offset < 200_000);
    let again = deliver(&mut sink, &object[offset..], Some(object.len() as u64)).await;
    assert_eq!(code(again), "all");
    assert_eq!(std::fs::read(spool.path()).unwrap(), bytes);
}

#[tokio::test]
async fn whole_files_are_right_or_refused_at_their_end() {
    let bytes = sample(5000);
    let (mut sink, _spool) = content_sink(&bytes, Scheme::Sha256);
    let mut wrong = bytes.clone();
    wrong[9] ^= 1;
    assert_eq!(code(deliver(&mut sink, &wrong, Some(5000)).await), WRONG_CONTENT.code());
}

#[tokio::test]
async fn too_much_too_little_and_lies_about_the_length_are_refused() {
    let bytes = sample(5000);
    let mut long = bytes.clone();
    long.push(0);
    let (mut sink, _spool) = content_sink(&bytes, Scheme::Sha256);
    assert_eq!(code(deliver(&mut sink, &long, None).await), TOO_LONG.code());
    let (mut sink, _spool) = content_sink(&bytes, Scheme::Sha256);
    assert_eq!(code(deliver(&mut sink, &bytes[..4000], Some(4000)).await), TOO_SHORT.code());
    let (mut sink, _spool) = content_sink(&bytes, Scheme::Sha256);
    assert_eq!(code(deliver(&mut sink, &bytes, Some(6000)).await), "ST-AGENT-84");

    let (mut sink, object, _spool) = sealed_sink(&bytes);
    let long = [object.as_slice(), &[0]].concat();
    assert_eq!(code(deliver(&mut sink, &long, None).await), "ST-AGENT-84");
    let (mut sink, object, _spool) = sealed_sink(&bytes);
    assert_eq!(code(deliver(&mut sink, &object[..500], Some(500)).await), "ST-AGENT-84");

    let mut map = Vec::new();
    let mut sink = MapSink { expected: 64, bytes: &mut map };
    assert_eq!(code(deliver(&mut sink, &[0; 65], None).await), "ST-AGENT-84");
}

#[tokio::test]
async fn a_dataset_under_another_key_or_job_never_opens() {
    let bytes = sample(100_000);
    let (mut sink, object, _spool) = sealed_sink(&bytes);
    sink.opener = Opener::new(&Secret::new([5; 32]), ObjectKind::Dataset, &[2; 16]);
    let refused = deliver(&mut sink, &object, Some(object.len() as u64)).await;
    assert_eq!(code(refused), "ST-SEAL-57");
    let (mut sink, object, _spool) = sealed_sink(&bytes);
    let other = id_of(b"another dataset", Scheme::Sha256);
    sink.verifier = Some(StreamingVerifier::new(other, None).unwrap());
    let refused = deliver(&mut sink, &object, Some(object.len() as u64)).await;
    assert_eq!(code(refused), TOO_LONG.code());
}

#[tokio::test]
async fn the_hosts_failures_and_broken_framing_have_their_codes() {
    let (mut sink, _spool) = content_sink(&sample(10), Scheme::Sha256);
    let (_keep, mut peers) = mpsc::channel(1);
    let (one, mut io) = peer();
    let failed = Trailer::Failed { code: "ST-VM-42".into() };
    io.write_all(&encode_end(&failed).unwrap()).await.unwrap();
    assert_eq!(code(drain(one, &mut peers, &mut sink).await), "ST-AGENT-83");
    let (other, mut io) = peer();
    io.write_all(&[0xff; 8]).await.unwrap();
    assert_eq!(code(drain(other, &mut peers, &mut sink).await), "ST-AGENT-86");
    assert_eq!(bounded("canary in a code\n".into()), "no code");
}

#[tokio::test]
async fn a_newer_connection_wins_over_a_dead_one() {
    let (mut sink, _spool) = content_sink(&sample(10), Scheme::Sha256);
    let (sender, mut peers) = mpsc::channel(1);
    let (dead, _io) = peer();
    let (newer, _other) = peer();
    sender.send(newer).await.unwrap();
    assert_eq!(code(drain(dead, &mut peers, &mut sink).await), "newer");
}
