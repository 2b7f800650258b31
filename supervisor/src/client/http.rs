//! One HTTP exchange with a provider, over TCP, TLS or a unix socket. Answers are bounded, waits have an end.

use std::{fs::File, io, io::Read as _, path::Path, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request,
    body::{Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use reqwest::{
    Method,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use tokio::{net::UnixStream, time::timeout};

use super::{Address, ClientError, progress::Bar};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pieces of a long answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const READ: usize = 256 << 10;

#[derive(Debug)]
pub(crate) enum Payload {
    Bytes(Bytes),
    /// Sent while it is read, and shown.
    File {
        file: File,
        length: u64,
        bar: Bar,
    },
}

impl Payload {
    fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        match self {
            Self::Bytes(bytes) => stream::once(async { Ok(bytes) }).left_stream(),
            Self::File { file, bar, .. } => {
                stream::try_unfold((file, bar, 0), read_piece).right_stream()
            }
        }
    }

    fn into_hyper(self) -> UnsyncBoxBody<Bytes, io::Error> {
        match self {
            Self::Bytes(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
            file @ Self::File { .. } => {
                StreamBody::new(file.into_stream().map(|piece| piece.map(Frame::data)))
                    .boxed_unsync()
            }
        }
    }
}

type Reading = (File, Bar, u64);

async fn read_piece((mut file, mut bar, done): Reading) -> io::Result<Option<(Bytes, Reading)>> {
    let mut buffer = vec![0; READ];
    let count = file.read(&mut buffer)?;
    if count == 0 {
        bar.done();
        return Ok(None);
    }
    buffer.truncate(count);
    let done = done + count as u64;
    bar.at(done);
    Ok(Some((buffer.into(), (file, bar, done))))
}

/// A request, complete with its signature.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Payload,
    /// How long the answer's beginning may take.
    pub(crate) patience: Duration,
}

impl Exchange {
    /// `GET /v1/…` without its query, for messages.
    pub(crate) fn name(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }
}

#[derive(Debug)]
pub(crate) struct Transport {
    address: Address,
    tcp: Option<reqwest::Client>,
}

impl Transport {
    pub(crate) fn new(address: Address) -> Result<Self, ClientError> {
        let tcp = match &address {
            Address::Tcp(_) => Some(
                reqwest::Client::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .redirect(reqwest::redirect::Policy::none())
                    .user_agent(concat!("sealtune/", env!("CARGO_PKG_VERSION")))
                    .build()
                    .map_err(|error| ClientError::Setup(causes(&error)))?,
            ),
            Address::Unix(_) => None,
        };
        Ok(Self { address, tcp })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) async fn send(&self, exchange: Exchange) -> Result<Answer, ClientError> {
        let patience = exchange.patience;
        let answering = async {
            match (&self.address, &self.tcp) {
                (Address::Tcp(base), Some(client)) => self.send_tcp(client, base, exchange).await,
                (Address::Unix(path), _) => self.send_unix(path, exchange).await,
                (Address::Tcp(_), None) => Err(ClientError::Bug("no TCP client was made".into())),
            }
        };
        timeout(patience, answering).await.map_err(|_| ClientError::Timeout {
            address: self.address.to_string(),
            seconds: patience.as_secs(),
        })?
    }

    async fn send_tcp(
        &self,
        client: &reqwest::Client,
        base: &str,
        exchange: Exchange,
    ) -> Result<Answer, ClientError> {
        let call = exchange.name();
        let mut request = client
            .request(exchange.method.clone(), format!("{base}{}", exchange.target))
            .headers(header_map(&exchange)?);
        request = match exchange.body {
            Payload::Bytes(bytes) if bytes.is_empty() => request,
            Payload::Bytes(bytes) => request.body(bytes),
            file @ Payload::File { .. } => request
                .header("content-length", file.length())
                .body(reqwest::Body::wrap_stream(file.into_stream())),
        };
        let response = request.send().await.map_err(|error| self.unreachable(causes(&error)))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(self.answer(call, status, headers, Body::Tcp(response)))
    }

    async fn send_unix(&self, path: &Path, exchange: Exchange) -> Result<Answer, ClientError> {
        let stream =
            UnixStream::connect(path).await.map_err(|error| self.unreachable(error.to_string()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(causes(&error)))?;
        // Ends by itself when the answer was read or dropped.
        tokio::spawn(connection);
        let call = exchange.name();
        let mut headers = header_map(&exchange)?;
        headers.insert("host", HeaderValue::from_static("sealtune"));
        headers.insert("content-length", HeaderValue::from(exchange.body.length()));
        let mut request = Request::builder()
            .method(exchange.method)
            .uri(exchange.target)
            .body(exchange.body.into_hyper())
            .map_err(|error| ClientError::Bug(format!("build a request: {error}")))?;
        *request.headers_mut() = headers;
        let response =
            sender.send_request(request).await.map_err(|error| self.unreachable(causes(&error)))?;
        let (parts, body) = response.into_parts();
        Ok(self.answer(call, parts.status.as_u16(), parts.headers, Body::Unix(body)))
    }

    fn answer(&self, call: String, status: u16, headers: HeaderMap, body: Body) -> Answer {
        let address = self.address.to_string();
        Answer { status, headers, body, call, address }
    }

    fn unreachable(&self, reason: String) -> ClientError {
        ClientError::Unreachable { address: self.address.to_string(), reason }
    }
}

fn header_map(exchange: &Exchange) -> Result<HeaderMap, ClientError> {
    let mut map = HeaderMap::new();
    for (name, value) in &exchange.headers {
        let value = HeaderValue::from_str(value)
            .map_err(|_| ClientError::Bug(format!("header {name} is not text")))?;
        map.insert(HeaderName::from_static(name), value);
    }
    Ok(map)
}

#[derive(Debug)]
enum Body {
    Tcp(reqwest::Response),
    Unix(Incoming),
}

/// The beginning of an answer; its body is read on demand.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Body,
    call: String,
    address: String,
}

impl Answer {
    pub(crate) fn call(&self) -> &str {
        &self.call
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next piece of the body.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        let lost = |reason| ClientError::Unreachable { address: self.address.clone(), reason };
        let late = || ClientError::Timeout {
            address: self.address.clone(),
            seconds: IDLE_TIMEOUT.as_secs(),
        };
        match &mut self.body {
            Body::Tcp(response) => timeout(IDLE_TIMEOUT, response.chunk())
                .await
                .map_err(|_| late())?
                .map_err(|error| lost(causes(&error))),
            Body::Unix(incoming) => loop {
                let frame = timeout(IDLE_TIMEOUT, incoming.frame()).await.map_err(|_| late())?;
                match frame.transpose().map_err(|error| lost(causes(&error)))? {
                    None => return Ok(None),
                    // Trailers say nothing to us.
                    Some(frame) => {
                        if let Ok(data) = frame.into_data() {
                            return Ok(Some(data));
                        }
                    }
                }
            },
        }
    }

    pub(crate) async fn bytes(mut self, limit: usize) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece().await? {
            if bytes.len() + piece.len() > limit {
                return Err(ClientError::AnswerTooLong { call: self.call, limit });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

/// HTTP libraries say `error sending request`; the reason stands in the causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
