//! What stands on a verifier's desk: a folder of his files with the program at hand, vectors of real hardware, the keys of a
//! release, and a service that answers on a loopback address.
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use clap::Parser as _;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealtune_evidence::{
    EvidenceBundle, FixedHex, Hex32,
    release::{KeyPurpose, TrustedKey, TrustedKeys, key_id},
};
use sealtune_verify::{Arguments, Failure, Report, Surroundings, run};

use crate::scene::{self, Boot};

pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// With this offer, and what it is held against: reference values and the root of the scene's platform.
    pub(crate) fn with(offer: &EvidenceBundle) -> Self {
        let folder = Self::new();
        folder.write("offer.json", &offer.to_bytes().expect("writes"));
        folder.write("reference.json", &scene::references().to_bytes().expect("writes"));
        folder.write("root.der", &Boot::new(1).platform.root_der());
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).expect("writes");
    }

    /// The program's answer to a command line in which `@name` is a file of this folder.
    pub(crate) fn run(
        &self,
        line: &str,
        surroundings: &Surroundings<'_>,
    ) -> Result<Report, Failure> {
        let word = |word: &str| match word.strip_prefix('@') {
            Some(name) => self.path().join(name).display().to_string(),
            None => word.to_owned(),
        };
        let words = ["sealtune-verify"].into_iter().chain(line.split_whitespace()).map(word);
        run(&Arguments::try_parse_from(words).expect("a command line"), surroundings)
    }
}

/// The bytes of a vector, or why the test is skipped.
pub(crate) fn vector(name: &str) -> Option<Vec<u8>> {
    let path = vectors().join(name);
    let bytes = fs::read(&path).ok();
    if bytes.is_none() {
        println!("skipped: no vector {}", path.display());
    }
    bytes
}

pub(crate) fn vectors() -> PathBuf {
    std::env::var_os("SEALTUNE_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    )
}

pub(crate) fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed")
}

/// Two holders, both of whom must sign.
pub(crate) fn keys() -> TrustedKeys {
    let trusted = |(seed, holder): (u8, &str)| {
        let public_key: Hex32 = FixedHex(key(seed).public_key().as_ref().try_into().expect("32"));
        TrustedKey {
            key_id: key_id(&public_key),
            public_key,
            holder: holder.to_owned(),
            purpose: KeyPurpose::Release,
            not_after: None,
        }
    };
    let keys = [(1, "ada"), (2, "grace")].map(trusted).to_vec();
    TrustedKeys { version: 1, threshold: 2, keys }
}

/// One thing that a service has.
#[derive(Clone)]
pub(crate) struct Page {
    /// How requests for it begin, like `GET /here`.
    pub(crate) asked: &'static str,
    /// Status and headers, each with its line end.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// Answers until the test ends; what it does not have, with 404.
pub(crate) struct Service {
    pub(crate) address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    pub(crate) fn start(pages: Vec<Page>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                answer(stream, &pages, &log);
            }
        });
        Self { address, asked }
    }

    /// Method and path of every request.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("the log").clone()
    }
}

fn answer(mut stream: TcpStream, pages: &[Page], log: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let headers = request.to_ascii_lowercase();
    let length = headers.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    let mut body = vec![0; length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)];
    let _ = stream.read_exact(&mut body);
    let is_ocsp = headers.contains("content-type: application/ocsp-request");
    assert_eq!(!body.is_empty(), is_ocsp, "{request}");
    let line = request.split(" HTTP/1.1").next().unwrap_or_default().to_owned();
    log.lock().expect("the log").push(line.clone());
    let page = pages.iter().find(|page| line.starts_with(page.asked));
    let (head, body) = match page {
        Some(page) => (page.head.as_str(), page.body.as_slice()),
        None => ("404 Not Found\r\n", &b"nothing"[..]),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {head}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}
