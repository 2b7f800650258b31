use std::os::unix::fs::symlink;

use sealtune_content::identify;
use sealtune_wire::stream::{RECEIVED, StreamDecoder, StreamItem};
use tokio::io::DuplexStream;

use super::*;
use crate::serve::listener::Connection;

fn folders() -> (tempfile::TempDir, Folders) {
    let scratch = tempfile::tempdir().unwrap();
    let folders = Folders::create(scratch.path(), "job").unwrap();
    fs::create_dir(folders.output()).unwrap();
    (scratch, folders)
}

#[test]
fn the_same_output_makes_the_same_archive_with_the_ids_of_its_bytes() {
    let (_one, first) = folders();
    let (_two, second) = folders();
    for (folders, names) in [(&first, ["a", "b"]), (&second, ["b", "a"])] {
        for name in names {
            fs::write(folders.output().join(name), name).unwrap();
        }
    }
    let packed = make(&first, None, 1 << 20).unwrap();
    assert_eq!(packed, make(&second, None, 1 << 20).unwrap());
    let file = || File::open(first.result()).unwrap();
    assert_eq!(packed.sha256, identify(file(), Scheme::Sha256).unwrap());
    assert_eq!(packed.root, identify(file(), Scheme::Zg).unwrap());
    assert_eq!(&packed.plain, packed.sha256.hash());
}

#[test]
fn output_that_is_none_too_large_or_a_link_has_a_code() {
    let (_scratch, empty) = folders();
    assert_eq!(make(&empty, None, 1 << 20).unwrap_err().code(), "ST-AGENT-92");
    fs::remove_dir(empty.output()).unwrap();
    assert_eq!(make(&empty, None, 1 << 20).unwrap_err().code(), "ST-AGENT-92");
    symlink("/etc", empty.output()).unwrap();
    assert_eq!(make(&empty, None, 1 << 20).unwrap_err().code(), "ST-AGENT-92");

    let (_scratch, linked) = folders();
    symlink("/etc/passwd", linked.output().join("weights")).unwrap();
    assert_eq!(make(&linked, None, 1 << 20).unwrap_err().code(), "ST-CONTENT-59");

    let (_scratch, large) = folders();
    fs::write(large.output().join("weights"), [0; 1000]).unwrap();
    assert_eq!(make(&large, None, 999).unwrap_err().code(), "ST-CONTENT-44");
}

#[test]
fn metrics_are_taken_from_their_file_only_if_it_is_small_and_plain() {
    let (_scratch, folders) = folders();
    assert_eq!(metrics_file(&folders), None);
    let path = folders.output().join("metrics.json");
    fs::write(&path, b"{\"loss\":0.5}").unwrap();
    assert_eq!(metrics_file(&folders).unwrap(), b"{\"loss\":0.5}");
    fs::write(&path, vec![b' '; 70_000]).unwrap();
    assert_eq!(metrics_file(&folders), None);
    fs::remove_file(&path).unwrap();
    symlink("/etc/passwd", &path).unwrap();
    assert_eq!(metrics_file(&folders), None);
}

async fn read_all(io: &mut DuplexStream) -> (Vec<u8>, Option<Trailer>) {
    let mut hello = [0; 4];
    io.read_exact(&mut hello).await.unwrap();
    let mut rest = vec![0; u32::from_be_bytes(hello) as usize];
    io.read_exact(&mut rest).await.unwrap();
    let (mut decoder, mut bytes) = (StreamDecoder::default(), Vec::new());
    let mut buffer = vec![0; 65_536];
    loop {
        let count = io.read(&mut buffer).await.unwrap();
        if count == 0 {
            return (bytes, None);
        }
        decoder.push(&buffer[..count]);
        while let Some(item) = decoder.next_item().unwrap() {
            match item {
                StreamItem::Bytes(more) => {
                    assert!(more.len() <= OUTGOING_CHUNK);
                    bytes.extend(more);
                    io.write_all(&[RECEIVED]).await.unwrap();
                }
                StreamItem::End(trailer) => return (bytes, Some(trailer)),
            }
        }
    }
}

#[tokio::test]
async fn a_result_is_sent_from_where_it_is_wanted_until_it_has_arrived() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result");
    let content: Vec<u8> = (0..600_000u32).map(|index| index as u8).collect();
    fs::write(&path, &content).unwrap();
    let (sender, mut peers) = mpsc::channel(1);
    let sending = tokio::spawn(async move { send(&path, 600_000, &mut peers).await.is_ok() });
    // A connection that is cut after its first chunk.
    let (mut io, theirs) = tokio::io::duplex(1 << 16);
    sender.send(StreamPeer { connection: Connection::of(theirs), offset: 0 }).await.unwrap();
    io.read_exact(&mut [0; 1000]).await.unwrap();
    drop(io);
    let (mut io, theirs) = tokio::io::duplex(1 << 16);
    sender.send(StreamPeer { connection: Connection::of(theirs), offset: 250_000 }).await.unwrap();
    let (bytes, trailer) = read_all(&mut io).await;
    assert_eq!(trailer, Some(Trailer::Complete { length: 600_000 }));
    assert!(bytes == content[250_000..]);
    drop(io);
    assert!(sending.await.unwrap());
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_gets_no_more_than_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result");
    fs::write(&path, vec![1; 600_000]).unwrap();
    let (sender, mut peers) = mpsc::channel(1);
    let sending = tokio::spawn(async move { send(&path, 600_000, &mut peers).await.is_ok() });
    let (mut io, theirs) = tokio::io::duplex(1 << 20);
    sender.send(StreamPeer { connection: Connection::of(theirs), offset: 0 }).await.unwrap();
    let mut hello = [0; 4];
    io.read_exact(&mut hello).await.unwrap();
    io.read_exact(&mut vec![0; u32::from_be_bytes(hello) as usize]).await.unwrap();
    io.read_exact(&mut vec![0; OUTGOING_WINDOW * (4 + OUTGOING_CHUNK)]).await.unwrap();
    let mut byte = [0; 1];
    let more = timeout(Duration::from_millis(50), io.read_exact(&mut byte));
    assert!(more.await.is_err(), "a chunk was sent without an answer");
    sending.abort();
}
