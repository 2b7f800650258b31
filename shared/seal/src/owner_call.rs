//! A call over HTTP that the owner of a job has signed: method, path, body, job, time and a nonce.
//!
//! Four headers carry it. Verifying is pure: the caller brings the clock, and remembers nonces for as long as
//! [`ALLOWED_SKEW`] accepts their time (both directions), so that a call is acted upon once.

use serde::Serialize;

use crate::{
    OwnerKey, SigningPublicKey,
    canonical::{self, CanonicalError},
    encoding,
    owner::{self, OwnerError},
};

pub const OWNER_HEADER: &str = "sealtune-owner";
pub const TIME_HEADER: &str = "sealtune-time";
pub const NONCE_HEADER: &str = "sealtune-nonce";
pub const SIGNATURE_HEADER: &str = "sealtune-signature";

/// Seconds by which the two clocks may differ.
pub const ALLOWED_SKEW: u64 = 300;

const TAG: &str = "sealtune/owner-call/v1";
const MAX_PATH: usize = 4096;
const MAX_JOB: usize = 128;
const MAX_METHOD: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error(transparent)]
    Owner(#[from] OwnerError),
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    #[error("find the header {name} of a signed call")]
    MissingHeader { name: &'static str },
    #[error("read the header {name} of a signed call")]
    BadHeader { name: &'static str },
    #[error("sign or verify a call whose method, path or job is malformed or too long")]
    BadCall,
    #[error(
        "accept a call signed at {signed}: the clock here says {now} and {allowed} s are allowed"
    )]
    Time { signed: u64, now: u64, allowed: u64 },
}

impl CallError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Owner(error) => error.code(),
            Self::Canonical(error) => error.code(),
            Self::MissingHeader { .. } => "ST-SEAL-30",
            Self::BadHeader { .. } => "ST-SEAL-31",
            Self::BadCall => "ST-SEAL-32",
            Self::Time { .. } => "ST-SEAL-33",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Owner(error) => error.fix(),
            Self::Canonical(error) => error.fix(),
            Self::MissingHeader { .. } => "sign the call with the owner's key",
            Self::BadHeader { .. } => "send the four headers as the signing program made them",
            Self::BadCall => "send an upper-case method and a path that starts with /",
            Self::Time { .. } => "set the clock, then sign and send the call again",
        }
    }
}

/// What is called. `path` is the request target with its query, as it stands in the request line; `body` the SHA-256
/// of the body (of nothing, if there is none).
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub body: [u8; 32],
    /// The job that is acted upon; absent in calls that are about none yet.
    pub job: Option<&'a str>,
}

/// The values of the four headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallHeaders {
    pub owner: String,
    pub time: String,
    pub nonce: String,
    pub signature: String,
}

impl CallHeaders {
    /// Reads the four values through `lookup`, which gives a header's value by its name.
    pub fn from_lookup<'v>(
        lookup: impl Fn(&'static str) -> Option<&'v str>,
    ) -> Result<Self, CallError> {
        let get = |name| lookup(name).map(str::to_owned).ok_or(CallError::MissingHeader { name });
        Ok(Self {
            owner: get(OWNER_HEADER)?,
            time: get(TIME_HEADER)?,
            nonce: get(NONCE_HEADER)?,
            signature: get(SIGNATURE_HEADER)?,
        })
    }

    /// Name and value of each header, to be sent.
    pub fn pairs(&self) -> [(&'static str, &str); 4] {
        [
            (OWNER_HEADER, &self.owner),
            (TIME_HEADER, &self.time),
            (NONCE_HEADER, &self.nonce),
            (SIGNATURE_HEADER, &self.signature),
        ]
    }
}

/// A call whose signature and time were checked. Made by [`verify_call`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCall {
    owner: SigningPublicKey,
    time: u64,
    nonce: [u8; 16],
}

impl VerifiedCall {
    pub fn owner(&self) -> &SigningPublicKey {
        &self.owner
    }

    pub fn time(&self) -> u64 {
        self.time
    }

    /// To be remembered by the caller together with the owner, until `time + ALLOWED_SKEW` is past.
    pub fn nonce(&self) -> &[u8; 16] {
        &self.nonce
    }
}

#[derive(Serialize)]
struct SignedFields<'a> {
    method: &'a str,
    path: &'a str,
    body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    time: u64,
    nonce: String,
    owner: SigningPublicKey,
}

/// 16 random bytes for [`sign_call`].
pub fn fresh_nonce() -> Result<[u8; 16], getrandom::Error> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}

/// Signs `call` at the time `now` (seconds since 1970).
pub fn sign_call(
    key: &OwnerKey,
    call: &Call<'_>,
    now: u64,
    nonce: [u8; 16],
) -> Result<CallHeaders, CallError> {
    let owner = key.signing_public();
    let signature = key.sign(&digest(call, now, &nonce, owner)?)?;
    Ok(CallHeaders {
        owner: owner.to_hex(),
        time: now.to_string(),
        nonce: hex::encode(nonce),
        signature: hex::encode(signature),
    })
}

/// Checks that the named owner signed exactly `call`, not more than `allowed_skew` seconds from `now`.
pub fn verify_call(
    headers: &CallHeaders,
    call: &Call<'_>,
    now: u64,
    allowed_skew: u64,
) -> Result<VerifiedCall, CallError> {
    let owner = SigningPublicKey::from_hex(&headers.owner)?;
    let time = parse_time(&headers.time).ok_or(CallError::BadHeader { name: TIME_HEADER })?;
    let nonce =
        encoding::hex_array(&headers.nonce).ok_or(CallError::BadHeader { name: NONCE_HEADER })?;
    let signature = encoding::hex_array(&headers.signature)
        .ok_or(CallError::BadHeader { name: SIGNATURE_HEADER })?;
    if now.abs_diff(time) > allowed_skew {
        return Err(CallError::Time { signed: time, now, allowed: allowed_skew });
    }
    owner::verify(&owner, &digest(call, time, &nonce, owner)?, &signature)?;
    Ok(VerifiedCall { owner, time, nonce })
}

fn digest(
    call: &Call<'_>,
    time: u64,
    nonce: &[u8; 16],
    owner: SigningPublicKey,
) -> Result<[u8; 32], CallError> {
    let method_is_good = (1..=MAX_METHOD).contains(&call.method.len())
        && call.method.bytes().all(|byte| byte.is_ascii_uppercase());
    let path_is_good = call.path.starts_with('/') && call.path.len() <= MAX_PATH;
    let job_is_good = call.job.is_none_or(|job| (1..=MAX_JOB).contains(&job.len()));
    if !(method_is_good && path_is_good && job_is_good) {
        return Err(CallError::BadCall);
    }
    let fields = SignedFields {
        method: call.method,
        path: call.path,
        body: hex::encode(call.body),
        job: call.job,
        time,
        nonce: hex::encode(nonce),
        owner,
    };
    Ok(canonical::domain_hash(TAG, &canonical::to_vec(&fields)?))
}

/// Decimal digits without sign or leading zero: one spelling for each time.
fn parse_time(text: &str) -> Option<u64> {
    let plain = text.len() <= 15
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// Fuzz entry: four lines as header values; what verifies against a fixed call was signed for it, which no guess is.
pub fn fuzz_owner_call(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let mut next = || lines.next().unwrap_or_default().to_owned();
    let headers = CallHeaders { owner: next(), time: next(), nonce: next(), signature: next() };
    let call = Call { method: "GET", path: "/fuzz", body: [0; 32], job: None };
    assert!(verify_call(&headers, &call, 1_000_000, u64::MAX).is_err());
    if let Some(time) = parse_time(&headers.time) {
        assert_eq!(time.to_string(), headers.time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Suite;

    const NOW: u64 = 1_790_000_000;
    const CALL: Call<'static> = Call {
        method: "POST",
        path: "/v1/jobs/0011/cancel?force=1",
        body: [7; 32],
        job: Some("0011"),
    };

    fn signed() -> (OwnerKey, CallHeaders) {
        let key = OwnerKey::generate(Suite::X25519).expect("generate");
        let headers = sign_call(&key, &CALL, NOW, [9; 16]).expect("sign");
        (key, headers)
    }

    fn code(headers: &CallHeaders, call: &Call<'_>, now: u64) -> &'static str {
        match verify_call(headers, call, now, ALLOWED_SKEW) {
            Ok(_) => "verified",
            Err(error) => error.code(),
        }
    }

    #[test]
    fn a_signed_call_names_its_owner_time_and_nonce() {
        let (key, headers) = signed();
        let pairs = headers.pairs();
        let arrived = CallHeaders::from_lookup(|name| {
            pairs.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
        })
        .expect("headers");
        let verified = verify_call(&arrived, &CALL, NOW, ALLOWED_SKEW).expect("verify");
        assert_eq!(verified.owner(), &key.signing_public());
        assert_eq!(verified.time(), NOW);
        assert_eq!(verified.nonce(), &[9; 16]);
    }

    #[test]
    fn every_signed_field_counts() {
        let (_, headers) = signed();
        let changed: [Call<'_>; 6] = [
            Call { method: "GET", ..CALL },
            Call { path: "/v1/jobs/0011/cancel?force=0", ..CALL },
            Call { path: "/v1/jobs/0011/cancel", ..CALL },
            Call { body: [8; 32], ..CALL },
            Call { job: Some("0012"), ..CALL },
            Call { job: None, ..CALL },
        ];
        for call in changed {
            assert_eq!(code(&headers, &call, NOW), "ST-SEAL-23", "{call:?}");
        }
        let other = OwnerKey::generate(Suite::X25519).expect("generate").signing_public();
        for headers in [
            CallHeaders { owner: other.to_hex(), ..headers.clone() },
            CallHeaders { time: (NOW + 1).to_string(), ..headers.clone() },
            CallHeaders { nonce: "00".repeat(16), ..headers.clone() },
        ] {
            assert_eq!(code(&headers, &CALL, NOW), "ST-SEAL-23", "{headers:?}");
        }
    }

    #[test]
    fn the_time_may_differ_by_the_skew_and_no_more() {
        let (_, headers) = signed();
        for (now, expected) in [
            (NOW - 301, "ST-SEAL-33"),
            (NOW - 300, "verified"),
            (NOW + 300, "verified"),
            (NOW + 301, "ST-SEAL-33"),
            (0, "ST-SEAL-33"),
            (u64::MAX, "ST-SEAL-33"),
        ] {
            assert_eq!(code(&headers, &CALL, now), expected, "{now}");
        }
    }

    #[test]
    fn each_header_has_one_spelling() {
        let (_, headers) = signed();
        let upper = |text: &String| text.to_uppercase();
        let table = [
            (CallHeaders { owner: upper(&headers.owner), ..headers.clone() }, "ST-SEAL-21"),
            (CallHeaders { owner: String::new(), ..headers.clone() }, "ST-SEAL-21"),
            (CallHeaders { time: format!("+{NOW}"), ..headers.clone() }, "ST-SEAL-31"),
            (CallHeaders { time: format!("0{NOW}"), ..headers.clone() }, "ST-SEAL-31"),
            (CallHeaders { time: String::new(), ..headers.clone() }, "ST-SEAL-31"),
            (CallHeaders { time: "9".repeat(16), ..headers.clone() }, "ST-SEAL-31"),
            (CallHeaders { nonce: "09".repeat(15), ..headers.clone() }, "ST-SEAL-31"),
            (CallHeaders { signature: upper(&headers.signature), ..headers.clone() }, "ST-SEAL-31"),
        ];
        for (headers, expected) in table {
            assert_eq!(code(&headers, &CALL, NOW), expected, "{headers:?}");
        }
        for missing in [OWNER_HEADER, TIME_HEADER, NONCE_HEADER, SIGNATURE_HEADER] {
            let error = CallHeaders::from_lookup(|name| (name != missing).then_some("x"))
                .expect_err("missing");
            assert_eq!(error.code(), "ST-SEAL-30");
            assert!(error.to_string().contains(missing));
        }
        fuzz_owner_call(headers.pairs().map(|(_, value)| value).join("\n").as_bytes());
        fuzz_owner_call(b"\xff");
        fuzz_owner_call(b"");
    }

    #[test]
    fn malformed_calls_are_neither_signed_nor_verified() {
        let (key, headers) = signed();
        let long = format!("/{}", "a".repeat(MAX_PATH));
        for call in [
            Call { method: "post", ..CALL },
            Call { method: "", ..CALL },
            Call { path: "v1", ..CALL },
            Call { path: &long, ..CALL },
            Call { job: Some(""), ..CALL },
        ] {
            assert_eq!(sign_call(&key, &call, NOW, [0; 16]).expect_err("bad").code(), "ST-SEAL-32");
            assert_eq!(code(&headers, &call, NOW), "ST-SEAL-32");
        }
    }
}
