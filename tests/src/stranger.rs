//! Somebody without a key, who speaks plain HTTP to a provider: one question a connection.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::Value;

/// Longer than a quote of an emulated VM takes.
const PATIENCE: Duration = Duration::from_secs(60);
const MOST: u64 = 16 << 20;

/// What a provider said.
#[derive(Debug)]
pub struct Said {
    pub status: u16,
    pub retry_after: Option<u64>,
    pub body: Vec<u8>,
}

impl Said {
    /// Null if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The refusal's code.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Asks `provider` (`http://HOST:PORT`).
pub fn ask(provider: &str, method: &str, path: &str, body: &[u8]) -> Said {
    let address = provider.strip_prefix("http://").expect("a provider on this machine");
    let mut stream = TcpStream::connect(address).expect("the provider listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the provider reads");
    stream.write_all(body).expect("the provider reads");
    let mut reader = BufReader::new(stream).take(MOST);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        line.trim_end().to_owned()
    };
    let status = line();
    let status = status.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    let mut retry_after = None;
    let mut length = 0;
    loop {
        let header = line();
        let Some((name, value)) = header.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "retry-after" => retry_after = value.trim().parse().ok(),
            "content-length" => length = value.trim().parse().expect("a length"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the whole answer");
    Said { status, retry_after, body }
}
