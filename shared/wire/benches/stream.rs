//! The stream layer (chunks, headers, end, trailer) beside a bare socket, over the same kind of socket in one run.
//!
//! `cargo bench -p sealtune-wire` prints MB/s of each and the ratio; with sha256 beside it for comparison.
#![expect(clippy::expect_used, reason = "a bench that cannot run has nothing to say")]

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use sealtune_wire::stream::{StreamDecoder, StreamItem, Trailer, chunk_header, encode_end};

const TOTAL: usize = 512 << 20;
const PART: usize = 256 << 10;
const RUNS: usize = 5;

fn bare() -> Duration {
    let (mut writer, mut reader) = UnixStream::pair().expect("a socket pair");
    let sender = std::thread::spawn(move || {
        let part = vec![7u8; PART];
        for _ in 0..TOTAL / PART {
            writer.write_all(&part).expect("write");
        }
    });
    let start = Instant::now();
    let (mut buffer, mut total) = (vec![0; PART], 0);
    loop {
        let read = reader.read(&mut buffer).expect("read");
        if read == 0 {
            break;
        }
        total += std::hint::black_box(&buffer[..read]).len();
    }
    assert_eq!(total, TOTAL);
    sender.join().expect("sender");
    start.elapsed()
}

fn framed(mut seen: impl FnMut(&[u8])) -> Duration {
    let (mut writer, mut reader) = UnixStream::pair().expect("a socket pair");
    let sender = std::thread::spawn(move || {
        let part = vec![7u8; PART];
        for _ in 0..TOTAL / PART {
            writer.write_all(&chunk_header(PART).expect("short")).expect("write");
            writer.write_all(&part).expect("write");
        }
        let end = encode_end(&Trailer::Complete { length: TOTAL as u64 }).expect("small");
        writer.write_all(&end).expect("write");
    });
    let start = Instant::now();
    let (mut buffer, mut total) = (vec![0; PART], 0);
    let mut decoder = StreamDecoder::default();
    'receive: loop {
        let read = reader.read(&mut buffer).expect("read");
        decoder.push(&buffer[..read]);
        while let Some(item) = decoder.next_item().expect("well formed") {
            match item {
                StreamItem::Bytes(bytes) => {
                    seen(&bytes);
                    total += bytes.len();
                }
                StreamItem::End(_) => break 'receive,
            }
        }
    }
    assert_eq!(total, TOTAL);
    sender.join().expect("sender");
    start.elapsed()
}

fn main() {
    let (mut plain, mut stream, mut hashed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        plain.push(bare());
        stream.push(framed(|bytes| {
            std::hint::black_box(bytes);
        }));
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        hashed.push(framed(|bytes| context.update(bytes)));
        std::hint::black_box(context.finish());
    }
    let speed = |times: &mut Vec<Duration>| {
        times.sort();
        TOTAL as f64 / 1e6 / times[RUNS / 2].as_secs_f64()
    };
    let (plain, stream, hashed) = (speed(&mut plain), speed(&mut stream), speed(&mut hashed));
    println!("bare socket        {plain:>8.0} MB/s (median of {RUNS})");
    println!("stream layer       {stream:>8.0} MB/s, {:.2} of it", stream / plain);
    println!("with sha256        {hashed:>8.0} MB/s, {:.2} of it", hashed / plain);
}
