//! A guest agent of either generation on a socket in a folder, which answers as documented, or lies.

use std::io;
use std::sync::{Arc, Mutex};

use sealtune_evidence::FixedHex;
use sealtune_evidence::logs::DigestVersion;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::tee::Tee;

const DATA: [u8; 64] = [0x5d; 64];

/// What the server does with a request.
pub(crate) enum Act {
    /// Status and body, with the body's length.
    Say(u16, String),
    /// The same in chunks of seven bytes.
    Chunks(String),
    /// These bytes, and the end of the connection.
    Raw(Vec<u8>),
    /// Nothing, for ever.
    Silence,
}

type Answer = dyn FnMut(&str, &Value) -> Act + Send;

pub(crate) struct Server {
    folder: TempDir,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(mut answer: impl FnMut(&str, &Value) -> Act + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("run")).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = UnixListener::bind(folder.path().join("run/dstack.sock")).unwrap();
        let requests = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                // A client that leaves early is not the server's failure.
                let _ = serve(&mut stream, &mut answer, &requests).await;
            }
        });
        Self { folder, seen }
    }

    pub(crate) fn client(&self, generation: Generation) -> Dstack {
        Dstack::at(self.folder.path().join("run/dstack.sock"), generation)
    }

    fn paths(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(
    stream: &mut UnixStream,
    answer: &mut Answer,
    requests: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    let (path, body) = loop {
        stream.read_buf(&mut bytes).await?;
        let text = String::from_utf8(bytes.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        if body.len() < length.parse().unwrap() {
            continue;
        }
        assert!(head.contains("Content-Type: application/json"));
        let path = head.split(' ').nth(1).unwrap().to_owned();
        break (path, serde_json::from_str(body).unwrap_or(Value::Null));
    };
    requests.lock().unwrap().push(path.clone());
    match answer(&path, &body) {
        Act::Say(status, body) => {
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await
        }
        Act::Chunks(body) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
            for chunk in body.as_bytes().chunks(7) {
                let line = format!("{:x}\r\n", chunk.len());
                stream.write_all(&[line.as_bytes(), chunk, b"\r\n"].concat()).await?;
            }
            stream.write_all(b"0\r\n\r\n").await
        }
        Act::Raw(bytes) => stream.write_all(&bytes).await,
        Act::Silence => std::future::pending().await,
    }
}

fn event(name: &str, payload: &[u8]) -> Value {
    let digest = DigestVersion::V1.digest(name, payload).unwrap();
    json!({"imr": 3, "event_type": 0x0800_0001, "digest": digest.to_string(), "event": name,
           "event_payload": hex::encode(payload)})
}

/// A version 4 quote with the registers that the log leads to, and the padding that services append.
fn quote(report_data: &[u8; 64], log: &str) -> Vec<u8> {
    let registers = DstackLog::parse(log.as_bytes()).unwrap().replay();
    let mut quote = vec![0; 48 + 584];
    quote[0] = 4;
    quote[4] = 0x81;
    for (number, register) in registers.iter().enumerate() {
        let at = 48 + 328 + 48 * number;
        quote[at..at + 48].copy_from_slice(register.as_bytes());
    }
    quote[568..632].copy_from_slice(report_data);
    quote.extend(3_u32.to_le_bytes());
    quote.extend([7, 7, 7, 0, 0]);
    quote
}

/// A guest agent in a good state: its log grows with what it is told to emit.
pub(crate) fn good() -> impl FnMut(&str, &Value) -> Act + Send + 'static {
    let mut log = vec![event("system-preparing", b""), event("system-ready", b"")];
    move |path, body| match path {
        "/GetQuote" | "/prpc/Tappd.RawQuote" => {
            let report_data = hex::decode(body["report_data"].as_str().unwrap()).unwrap();
            let log = serde_json::to_string(&log).unwrap();
            let quote = quote(&report_data.try_into().unwrap(), &log);
            Act::Say(200, json!({"quote": hex::encode(quote), "event_log": log}).to_string())
        }
        "/EmitEvent" if body.is_object() => {
            let payload = hex::decode(body["payload"].as_str().unwrap()).unwrap();
            log.push(event(body["event"].as_str().unwrap(), &payload));
            Act::Say(200, "null".into())
        }
        "/EmitEvent" => Act::Say(400, r#"{"error":"malformed"}"#.into()),
        "/Info" | "/prpc/Tappd.Info" => {
            Act::Say(200, json!({"app_id": "ab", "tcb_info": "{}"}).to_string())
        }
        _ => Act::Say(404, "{}".into()),
    }
}

fn answer_to(report_data: &[u8; 64]) -> Value {
    let log = serde_json::to_string(&[event("system-ready", b"")]).unwrap();
    json!({"quote": hex::encode(quote(report_data, &log)), "event_log": log})
}

fn launch() -> Event {
    Event::new(3, "sealtune-launch", vec![1; 32])
}

#[tokio::test]
async fn quotes_come_with_the_log_that_leads_to_them() {
    let server = Server::start(good());
    let mut dstack = server.client(Generation::Current);
    let first = dstack.quote(&DATA).await.unwrap();
    assert_eq!(first.quote.len(), 48 + 584 + 4 + 3, "without padding");
    assert_eq!(tdreport::quoted_report_data(&first.quote), Some(&DATA));
    assert_eq!(dstack.extend(&launch()).await.unwrap(), Rtmr3::Available);
    let second = dstack.quote(&DATA).await.unwrap();
    let log = DstackLog::parse(&second.event_log).unwrap();
    let last = log.events.last().unwrap();
    assert_eq!((last.name.as_str(), &last.logged.payload), ("sealtune-launch", &vec![1; 32]));
    assert_ne!(first.quote, second.quote);
    assert_eq!(dstack.information().await.unwrap().app_id, "ab");
    assert_eq!(dstack.can_extend().await.unwrap(), Rtmr3::Available);
    assert_eq!(dstack.quote(&DATA).await.unwrap().event_log, second.event_log, "only asked");
}

#[tokio::test]
async fn tappd_is_spoken_with_and_without_raw_quotes() {
    let server = Server::start(good());
    let mut tappd = server.client(Generation::Tappd);
    assert!(tappd.quote(&DATA).await.is_ok());
    assert_eq!(tappd.extend(&launch()).await.unwrap(), Rtmr3::Unavailable);
    assert_eq!(tappd.can_extend().await.unwrap(), Rtmr3::Unavailable);
    assert_eq!(tappd.information().await.unwrap().app_id, "ab");
    assert_eq!(server.paths(), ["/prpc/Tappd.RawQuote", "/prpc/Tappd.Info"]);

    let server = Server::start(|path, body| match path {
        "/prpc/Tappd.TdxQuote" => {
            assert_eq!((&body["hash_algorithm"], &body["prefix"]), (&json!("raw"), &json!("")));
            Act::Say(200, answer_to(&DATA).to_string())
        }
        _ => Act::Say(404, String::new()),
    });
    assert!(server.client(Generation::Tappd).quote(&DATA).await.is_ok());
    assert_eq!(server.paths(), ["/prpc/Tappd.RawQuote", "/prpc/Tappd.TdxQuote"]);
}

/// Gone in newer images: an unknown path, or a refusal. The agent goes on without and does not ask again.
#[tokio::test]
async fn an_agent_that_cannot_extend_leaves_the_register_unavailable() {
    for status in [404, 405, 501, 400] {
        let server = Server::start(move |_, _| Act::Say(status, r#"{"error":"no"}"#.into()));
        let mut dstack = server.client(Generation::Current);
        for _ in 0..2 {
            assert_eq!(dstack.extend(&launch()).await.unwrap(), Rtmr3::Unavailable, "{status}");
        }
        assert_eq!(server.paths(), ["/EmitEvent"], "{status}");
    }
    let mut count = 0;
    let server = Server::start(move |_, _| {
        count += 1;
        Act::Say(if count == 1 { 200 } else { 404 }, String::new())
    });
    let mut dstack = server.client(Generation::Current);
    assert_eq!(dstack.extend(&launch()).await.unwrap(), Rtmr3::Available);
    let error = dstack.extend(&launch()).await.unwrap_err();
    assert_eq!(error.code(), "ST-DSTA-06", "what could be extended must go on");
    let server = Server::start(|_, _| Act::Say(500, String::new()));
    let error = server.client(Generation::Current).extend(&launch()).await.unwrap_err();
    assert_eq!(error.code(), "ST-DSTA-05");
}

#[tokio::test]
async fn each_lie_about_a_quote_has_its_code() {
    type Lie = fn() -> Act;
    let cases: [(&str, &str, Lie); 14] = [
        ("other report data", "ST-AGENT-69", || Act::Say(200, answer_to(&[0; 64]).to_string())),
        ("last byte of it", "ST-AGENT-69", || {
            let mut data = DATA;
            data[63] ^= 1;
            Act::Say(200, answer_to(&data).to_string())
        }),
        ("log of another moment", "ST-DSTA-09", || {
            let mut answer = answer_to(&DATA);
            answer["event_log"] = json!("[]");
            Act::Say(200, answer.to_string())
        }),
        ("a log that is none", "ST-DSTA-09", || {
            let mut answer = answer_to(&DATA);
            answer["event_log"] = json!("{}");
            Act::Say(200, answer.to_string())
        }),
        ("no quote", "ST-DSTA-08", || {
            let mut answer = answer_to(&DATA);
            answer["quote"] = json!("00");
            Act::Say(200, answer.to_string())
        }),
        ("bytes after the quote", "ST-DSTA-08", || {
            let mut answer = answer_to(&DATA);
            answer["quote"] = json!(format!("{}01", answer["quote"].as_str().unwrap()));
            Act::Say(200, answer.to_string())
        }),
        ("another form", "ST-DSTA-07", || Act::Say(200, "[]".into())),
        ("no hex", "ST-DSTA-07", || Act::Say(200, r#"{"quote":"xy","event_log":"[]"}"#.into())),
        ("an error", "ST-DSTA-05", || Act::Say(500, r#"{"error":"no quote service"}"#.into())),
        ("no method", "ST-DSTA-06", || Act::Say(404, String::new())),
        ("garbage", "ST-DSTA-04", || Act::Raw(vec![0xff; 4096])),
        ("half an answer", "ST-DSTA-04", || {
            Act::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_vec())
        }),
        ("a promise of too much", "ST-DSTA-03", || {
            Act::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4194305\r\n\r\n".to_vec())
        }),
        ("too much", "ST-DSTA-03", || {
            let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
            bytes.resize(6 << 20, b' ');
            Act::Raw(bytes)
        }),
    ];
    for (what, code, lie) in cases {
        let server = Server::start(move |_, _| lie());
        let tee = Tee::Dstack(server.client(Generation::Current));
        let error = tee.quote(&DATA).await.unwrap_err();
        assert_eq!(error.code(), code, "{what}: {error}");
    }
}

#[tokio::test]
async fn chunks_and_the_end_of_a_connection_end_an_answer() {
    let server = Server::start(|_, _| Act::Chunks(answer_to(&DATA).to_string()));
    assert!(server.client(Generation::Current).quote(&DATA).await.is_ok());
    let server = Server::start(|_, _| {
        Act::Raw(format!("HTTP/1.0 200 OK\r\n\r\n{}", answer_to(&DATA)).into_bytes())
    });
    let quoted = Tee::Dstack(server.client(Generation::Current)).quote(&DATA).await.unwrap();
    assert!(quoted.dstack_log.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_silent_agent_is_given_up() {
    let server = Server::start(|_, _| Act::Silence);
    let started = tokio::time::Instant::now();
    let error = server.client(Generation::Current).quote(&DATA).await.unwrap_err();
    assert_eq!(error.code(), "ST-DSTA-02");
    assert_eq!(started.elapsed().as_secs(), exchange::DEADLINE.as_secs());
}

#[tokio::test]
async fn a_socket_without_a_server_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dstack.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = Dstack::at(path, Generation::Current).quote(&DATA).await.unwrap_err();
    assert_eq!(error.code(), "ST-DSTA-01");
}

#[tokio::test]
async fn only_sockets_are_found_and_the_current_generation_first() {
    let folder = tempfile::tempdir().unwrap();
    let found = || Dstack::detect_below(folder.path()).map(|dstack| dstack.generation);
    std::fs::create_dir_all(folder.path().join("var/run/dstack")).unwrap();
    std::fs::write(folder.path().join("var/run/dstack.sock"), "").unwrap();
    assert_eq!(found(), None, "a file is no socket");
    let _tappd = UnixListener::bind(folder.path().join("var/run/tappd.sock")).unwrap();
    assert_eq!(found(), Some(Generation::Tappd));
    let _current = UnixListener::bind(folder.path().join("var/run/dstack/dstack.sock")).unwrap();
    assert_eq!(found(), Some(Generation::Current));
}

#[tokio::test]
async fn no_launch_is_measured_and_the_name_is_dstack() {
    let server = Server::start(good());
    let tee = Tee::Dstack(server.client(Generation::Current));
    assert_eq!((tee.name(), tee.has_own_image()), ("dstack", false));
    let digest = sealtune_evidence::LaunchDigest(FixedHex([3; 32]));
    assert!(tee.measured_launch().await.unwrap().check(&digest).is_ok());
    assert_eq!(server.paths(), [""; 0]);
}
