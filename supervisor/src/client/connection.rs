//! Calls to a provider: signed by the owner where there is one, repeated where that is harmless.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::Method;
use sealtune_seal::{
    OwnerKey,
    owner_call::{self, Call},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Address, CliError, ClientError, Progress, clock,
    error::NO_ANSWER,
    http::{Answer, Exchange, Payload, Transport},
};
use crate::api::types::ErrorBody;

/// The largest JSON answer.
pub(crate) const MAX_JSON: usize = 8 << 20;
const MAX_ERROR: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_SENDING: Duration = Duration::from_secs(86_400);

/// How often a call is repeated when the connection fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// The call may have happened: the caller looks before it tries again.
    Never,
    /// Some seconds: a daemon that restarts is back by then.
    Briefly,
    /// Minutes, for commands that follow a job.
    Patiently,
}

impl Repeat {
    /// Milliseconds to wait before each further attempt.
    fn delays(self) -> impl Iterator<Item = u64> {
        let count = match self {
            Self::Never => 0,
            Self::Briefly => 5,
            Self::Patiently => 60,
        };
        (0..count).map(|attempt: u32| (250u64 << attempt.min(5)).min(5000))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    pub(crate) repeat: Repeat,
    /// The job that the call is about, where the path does not say it.
    pub(crate) job: Option<String>,
    /// The answer may come this much later, because the call waits for something.
    pub(crate) waits: Duration,
}

impl Request {
    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            target: target.into(),
            headers: vec![],
            body: Bytes::new(),
            repeat: Repeat::Briefly,
            job: None,
            waits: Duration::ZERO,
        }
    }

    pub(crate) fn post(target: impl Into<String>) -> Self {
        Self { method: Method::POST, repeat: Repeat::Never, ..Self::get(target) }
    }

    pub(crate) fn with(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn json<T: Serialize>(mut self, body: &T) -> Result<Self, CliError> {
        let bytes = serde_json::to_vec(body)
            .map_err(|error| ClientError::Bug(format!("write a request: {error}")))?;
        self.headers.push(("content-type", "application/json".into()));
        self.body = bytes.into();
        Ok(self)
    }

    pub(crate) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    pub(crate) fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    pub(crate) fn about(mut self, job: impl ToString) -> Self {
        self.job = Some(job.to_string());
        self
    }

    pub(crate) fn waits(mut self, seconds: u64) -> Self {
        self.waits = Duration::from_secs(seconds);
        self
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Connection {
    transport: Arc<Transport>,
    owner: Option<Arc<OwnerKey>>,
}

impl Connection {
    pub(crate) fn new(address: Address, owner: Option<Arc<OwnerKey>>) -> Result<Self, CliError> {
        Ok(Self { transport: Arc::new(Transport::new(address)?), owner })
    }

    pub(crate) fn address(&self) -> &Address {
        self.transport.address()
    }

    /// The answer's beginning, whatever its status but an error.
    pub(crate) async fn open(&self, request: &Request) -> Result<Answer, CliError> {
        let mut delays = request.repeat.delays();
        loop {
            match self.attempt(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_transient() => match delays.next() {
                    Some(delay) => {
                        let asked = retry_after(&error).unwrap_or(0);
                        let delay = delay.max(asked.min(30) * 1000) + clock::jitter(delay / 4);
                        tokio::time::sleep(Duration::from_millis(delay)).await;
                    }
                    None => return Err(error.into()),
                },
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) async fn bytes(&self, request: &Request, limit: usize) -> Result<Vec<u8>, CliError> {
        Ok(self.open(request).await?.bytes(limit).await?)
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, request: &Request) -> Result<T, CliError> {
        let answer = self.open(request).await?;
        let call = answer.call().to_owned();
        let bytes = answer.bytes(MAX_JSON).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ClientError::BadAnswer { call, reason: error.to_string() }.into())
    }

    /// Sends a file of any size, once. For the operator's socket, where nothing is signed.
    pub(crate) async fn send_file(
        &self,
        target: &str,
        file: std::fs::File,
        progress: &Progress,
    ) -> Result<Answer, CliError> {
        let length = file
            .metadata()
            .map_err(|source| ClientError::Read { path: "the file".into(), source })?
            .len();
        let exchange = Exchange {
            method: Method::PUT,
            target: target.to_owned(),
            headers: vec![("content-type", "application/octet-stream".into())],
            body: Payload::File { file, length, bar: progress.bar("sending", length) },
            patience: LONGEST_SENDING,
        };
        let answer = self.transport.send(exchange).await?;
        if answer.status < 400 { Ok(answer) } else { Err(refusal(answer).await.into()) }
    }

    /// Each attempt is signed anew: a provider takes a nonce once.
    async fn attempt(&self, request: &Request) -> Result<Answer, ClientError> {
        let mut headers = request.headers.clone();
        if let Some(owner) = &self.owner {
            headers.extend(signature(owner, request)?);
        }
        let exchange = Exchange {
            method: request.method.clone(),
            target: request.target.clone(),
            headers,
            body: Payload::Bytes(request.body.clone()),
            patience: PATIENCE + request.waits,
        };
        let answer = self.transport.send(exchange).await?;
        if answer.status < 400 { Ok(answer) } else { Err(refusal(answer).await) }
    }
}

fn signature(
    owner: &OwnerKey,
    request: &Request,
) -> Result<Vec<(&'static str, String)>, ClientError> {
    let bug = |error: String| ClientError::Bug(format!("sign a call: {error}"));
    let nonce = owner_call::fresh_nonce().map_err(|error| bug(error.to_string()))?;
    let call = Call {
        method: request.method.as_str(),
        path: &request.target,
        body: sha256(&request.body),
        job: request.job.as_deref().or_else(|| job_of(&request.target)),
    };
    let headers = owner_call::sign_call(owner, &call, clock::now(), nonce)
        .map_err(|error| bug(error.to_string()))?;
    Ok(headers.pairs().map(|(name, value)| (name, value.to_owned())).to_vec())
}

/// The job that a path is about: the segment behind `/v1/jobs/`.
pub(crate) fn job_of(target: &str) -> Option<&str> {
    let rest = target.strip_prefix("/v1/jobs/")?;
    rest.split(['/', '?']).next().filter(|job| !job.is_empty())
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}

fn retry_after(error: &ClientError) -> Option<u64> {
    match error {
        ClientError::Provider { retry_after, .. } => *retry_after,
        _ => None,
    }
}

async fn refusal(answer: Answer) -> ClientError {
    let status = answer.status;
    let call = answer.call().to_owned();
    let retry_after = answer.header("retry-after").and_then(|value| value.parse().ok());
    let body = match answer.bytes(MAX_ERROR).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(ErrorBody { error }) => ClientError::Provider {
            status,
            code: error.code,
            message: error.message,
            fix: error.fix,
            retry_after,
        },
        // A proxy in between, or no Sealtune at all.
        Err(_) if matches!(status, 502..=504) => ClientError::Provider {
            status,
            code: NO_ANSWER.into(),
            message: format!("failed to get an answer to {call}: HTTP status {status}"),
            fix: "repeat the command; if it stays so, ask the operator".into(),
            retry_after,
        },
        Err(_) => ClientError::BadAnswer { call, reason: format!("HTTP status {status}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_job_is_the_one_in_the_path() {
        assert_eq!(job_of("/v1/jobs/00ff/offer"), Some("00ff"));
        assert_eq!(job_of("/v1/jobs/00ff?generation=1&wait=2"), Some("00ff"));
        assert_eq!(job_of("/v1/jobs"), None);
        assert_eq!(job_of("/v1/jobs/"), None);
        assert_eq!(job_of("/v1/attestation"), None);
    }

    #[test]
    fn delays_grow_to_a_bound() {
        assert_eq!(Repeat::Never.delays().count(), 0);
        assert_eq!(Repeat::Briefly.delays().collect::<Vec<_>>(), [250, 500, 1000, 2000, 4000]);
        assert!(Repeat::Patiently.delays().all(|delay| delay <= 5000));
        assert!(Repeat::Patiently.delays().sum::<u64>() >= 240_000);
    }

    #[test]
    fn a_signature_covers_method_target_and_body() {
        let owner = OwnerKey::generate(sealtune_seal::Suite::X25519).expect("key");
        let request = Request::post("/v1/jobs/00ff/offer").body(Bytes::from_static(b"{}"));
        let headers = signature(&owner, &request).expect("signed");
        let lookup = |name: &'static str| {
            headers.iter().find(|(have, _)| *have == name).map(|(_, value)| value.as_str())
        };
        let read = owner_call::CallHeaders::from_lookup(lookup).expect("headers");
        let call = |body: &[u8]| {
            let call = Call {
                method: "POST",
                path: "/v1/jobs/00ff/offer",
                body: sha256(body),
                job: Some("00ff"),
            };
            owner_call::verify_call(&read, &call, clock::now(), 300).is_ok()
        };
        assert!(call(b"{}"));
        assert!(!call(b"{ }"));
    }
}
