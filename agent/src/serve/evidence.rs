//! Evidence: claims, a quote over them, and the log of what the guest extended. And the memory of offers that were made.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_evidence::{
    Claims, ClaimsBuilder, Event, EventLog, Hex32, JobBinding, claims::ClaimsError,
    evidence_digest, report_data, time,
};
use sealtune_wire::v1::{self, OutsidePurpose, Rtmr3};
use tokio::sync::Mutex;

use super::error::ServeError;
use crate::tee::{Tee, TeeError};

/// Evidence as it goes out, and the digest that names it.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) evidence: v1::Evidence,
    pub(crate) digest: [u8; 32],
}

/// Everything of one boot that makes evidence. Extends and quotes come one after the other.
#[derive(Debug)]
pub(crate) struct Attester {
    tee: Mutex<Register>,
    claims: ClaimsBuilder,
}

#[derive(Debug)]
struct Register {
    tee: Tee,
    log: EventLog,
}

impl Attester {
    /// `log` holds what was extended so far.
    pub(crate) fn new(tee: Tee, log: EventLog, claims: ClaimsBuilder) -> Self {
        Self { tee: Mutex::new(Register { tee, log }), claims }
    }

    pub(crate) async fn outside(
        &self,
        purpose: OutsidePurpose,
        nonce: Hex32,
    ) -> Result<Made, ServeError> {
        let builder = self.dated();
        let claims = match purpose {
            OutsidePurpose::Identity => builder.identity(nonce)?,
            OutsidePurpose::Offer => builder.offer(nonce, None)?,
        };
        Ok(self.make(&claims).await?)
    }

    /// `knobs` as they read back right before the container.
    pub(crate) async fn start(
        &self,
        nonce: Hex32,
        binding: JobBinding,
        previous: [u8; 32],
        knobs: BTreeMap<String, String>,
    ) -> Result<Made, ServeError> {
        let claims = self.dated().knobs(knobs).start(nonce, binding, previous.into())?;
        Ok(self.make(&claims).await?)
    }

    pub(crate) async fn receipt(
        &self,
        nonce: Hex32,
        binding: JobBinding,
        previous: [u8; 32],
        payload: [u8; 32],
    ) -> Result<Made, ServeError> {
        let claims = self.dated().receipt(nonce, binding, previous.into(), payload.into())?;
        Ok(self.make(&claims).await?)
    }

    /// Extends the run-time register. Where the kernel cannot, the log stays as empty as the register.
    pub(crate) async fn extend(&self, event: Event) -> Result<Rtmr3, ServeError> {
        let mut register = self.tee.lock().await;
        let outcome = register.tee.extend(&event).await?;
        if outcome == Rtmr3::Available {
            register.log.push(event);
        }
        Ok(outcome)
    }

    async fn make(&self, claims: &Claims) -> Result<Made, EvidenceError> {
        let bytes = claims.canonical_bytes()?;
        let register = self.tee.lock().await;
        let quote = register.tee.quote(&report_data(&bytes)).await?;
        let event_log = serde_json::to_string(&register.log)
            .map_err(|error| TeeError::Quote(error.to_string()))?;
        let claims = String::from_utf8(bytes)
            .map_err(|_| TeeError::Quote("claims that are no text".into()))?;
        Ok(Made {
            digest: evidence_digest(&quote).0,
            evidence: v1::Evidence {
                tee: register.tee.name().to_owned(),
                quote: STANDARD.encode(&quote),
                event_log,
                claims,
            },
        })
    }

    /// The guest's clock is the host's word; it is shown and vouches for nothing.
    fn dated(&self) -> ClaimsBuilder {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        match now.ok().and_then(|since| time::rfc3339(since.as_secs())) {
            Some(now) => self.claims.clone().host_time(now),
            None => self.claims.clone(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum EvidenceError {
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    #[error(transparent)]
    Tee(#[from] TeeError),
}

impl From<EvidenceError> for ServeError {
    fn from(error: EvidenceError) -> Self {
        match error {
            EvidenceError::Claims(error) => Self::Claims(error),
            EvidenceError::Tee(error) => Self::Tee(error),
        }
    }
}

/// Digests of the offers that a release may still answer.
#[derive(Debug, Default)]
pub(crate) struct Offers(VecDeque<(Instant, [u8; 32])>);

impl Offers {
    const MOST: usize = 16;
    const GOOD_FOR: Duration = Duration::from_secs(600);

    pub(crate) fn remember(&mut self, now: Instant, digest: [u8; 32]) {
        if self.0.len() == Self::MOST {
            self.0.pop_front();
        }
        self.0.push_back((now, digest));
    }

    /// Newest first.
    pub(crate) fn good(&self, now: Instant) -> impl Iterator<Item = [u8; 32]> {
        let is_good = move |made: Instant| now.saturating_duration_since(made) <= Self::GOOD_FOR;
        self.0.iter().rev().filter(move |(made, _)| is_good(*made)).map(|(_, digest)| *digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_good_for_ten_minutes_and_at_most_sixteen() {
        let start = Instant::now();
        let mut offers = Offers::default();
        for number in 0..20 {
            offers.remember(start, [number; 32]);
        }
        let good: Vec<u8> = offers.good(start).map(|digest| digest[0]).collect();
        assert_eq!(good, (4..20).rev().collect::<Vec<u8>>());
        offers.remember(start + Duration::from_secs(1), [99; 32]);
        let later = start + Offers::GOOD_FOR + Duration::from_secs(1);
        assert_eq!(offers.good(later).collect::<Vec<_>>(), [[99; 32]]);
        assert_eq!(offers.good(later + Duration::from_secs(1)).count(), 0);
    }
}
