//! Evidence: that of the GPUs, claims that name it, a quote over them, and the log of what the guest extended. And the
//! memory of offers that were made.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_evidence::claims::{ClaimsError, GpuClaim, gpu_nonce};
use sealtune_evidence::{
    Claims, ClaimsBuilder, Event, EventLog, Hex32, JobBinding, Purpose, evidence_digest,
    report_data, time,
};
use sealtune_wire::v1::{self, GpuPart, OutsidePurpose, Rtmr3};
use tokio::sync::{Mutex, MutexGuard};

use super::error::ServeError;
use crate::gpu::{Gpus, MayTakeWork, TakenEvidence};
use crate::tee::{Quoted, Tee, TeeError};

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
    gpus: Option<Gpus>,
}

impl Attester {
    /// `log` holds what was extended so far.
    pub(crate) fn new(tee: Tee, log: EventLog, claims: ClaimsBuilder, gpus: Option<Gpus>) -> Self {
        Self { tee: Mutex::new(Register { tee, log, gpus }), claims }
    }

    pub(crate) async fn outside(
        &self,
        purpose: OutsidePurpose,
        nonce: Hex32,
    ) -> Result<Made, ServeError> {
        match purpose {
            OutsidePurpose::Identity => {
                let turn = self.turn(Purpose::Identity, nonce).await?;
                let claims = turn.claims.identity(nonce)?;
                turn.quote(&claims).await
            }
            OutsidePurpose::Offer => {
                let turn = self.turn(Purpose::Offer, nonce).await?;
                let claims = turn.claims.offer(nonce, None)?;
                turn.quote(&claims).await
            }
        }
    }

    /// `knobs` as they read back right before the container. What comes with it lets the GPUs take work.
    pub(crate) async fn start(
        &self,
        nonce: Hex32,
        binding: JobBinding,
        previous: [u8; 32],
        knobs: BTreeMap<String, String>,
    ) -> Result<(Made, MayTakeWork), ServeError> {
        let turn = self.turn(Purpose::Start, nonce).await?;
        let may_take_work = MayTakeWork::judge(&turn.gpu)?;
        let claims = turn.claims.clone().knobs(knobs).start(nonce, binding, previous.into())?;
        Ok((turn.quote(&claims).await?, may_take_work))
    }

    /// The device nodes of the GPUs, which work from here on; none where there is no GPU.
    pub(crate) async fn set_gpus_ready(
        &self,
        word: MayTakeWork,
    ) -> Result<Vec<PathBuf>, ServeError> {
        match &mut self.tee.lock().await.gpus {
            Some(gpus) => Ok(gpus.set_ready(word).await?),
            None => Ok(Vec::new()),
        }
    }

    /// The first half of a receipt's evidence: the receipt names the GPUs' evidence, and the quote names the receipt.
    pub(crate) async fn begin_receipt(&self, nonce: Hex32) -> Result<ReceiptTurn<'_>, ServeError> {
        Ok(ReceiptTurn { turn: self.turn(Purpose::Receipt, nonce).await?, nonce })
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

    /// Takes the GPUs' evidence anew, for this nonce and purpose; nobody else makes evidence meanwhile.
    async fn turn(&self, purpose: Purpose, nonce: Hex32) -> Result<Turn<'_>, ServeError> {
        if nonce.is_zero() {
            return Err(ClaimsError::NonceZero.into());
        }
        let mut register = self.tee.lock().await;
        let gpu = match &mut register.gpus {
            Some(gpus) => {
                let (instance, key) = self.claims.identity_of_boot();
                gpus.evidence(&gpu_nonce(purpose, &nonce, instance, key)).await?
            }
            None => Vec::new(),
        };
        let claims = self.dated().gpu(gpu.iter().map(TakenEvidence::claim).collect());
        Ok(Turn { register, claims, gpu })
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

/// One piece of evidence in the making: the GPUs' part is there, and the claims say so.
#[derive(Debug)]
struct Turn<'a> {
    register: MutexGuard<'a, Register>,
    claims: ClaimsBuilder,
    gpu: Vec<TakenEvidence>,
}

impl Turn<'_> {
    async fn quote(self, claims: &Claims) -> Result<Made, ServeError> {
        let bytes = claims.canonical_bytes()?;
        let Quoted { quote, dstack_log } = self.register.tee.quote(&report_data(&bytes)).await?;
        // A foreign log has our events in it.
        let own = if dstack_log.is_some() { &EventLog::default() } else { &self.register.log };
        let event_log =
            serde_json::to_string(own).map_err(|error| TeeError::Quote(error.to_string()))?;
        let claims = String::from_utf8(bytes)
            .map_err(|_| TeeError::Quote("claims that are no text".into()))?;
        let part = |taken: &TakenEvidence| GpuPart {
            device: taken.device.clone(),
            evidence: STANDARD.encode(&taken.bytes),
        };
        Ok(Made {
            digest: evidence_digest(&quote).0,
            evidence: v1::Evidence {
                tee: self.register.tee.name().to_owned(),
                quote: STANDARD.encode(&quote),
                event_log,
                claims,
                gpu: self.gpu.iter().map(part).collect(),
                dstack_log: dstack_log.map(|log| STANDARD.encode(log)),
            },
        })
    }
}

#[derive(Debug)]
pub(crate) struct ReceiptTurn<'a> {
    turn: Turn<'a>,
    nonce: Hex32,
}

impl ReceiptTurn<'_> {
    /// What the receipt must say of the GPUs.
    pub(crate) fn gpu(&self) -> Vec<GpuClaim> {
        self.turn.gpu.iter().map(TakenEvidence::claim).collect()
    }

    pub(crate) async fn finish(
        self,
        binding: JobBinding,
        previous: [u8; 32],
        payload: [u8; 32],
    ) -> Result<Made, ServeError> {
        let (previous, payload) = (previous.into(), payload.into());
        let claims = self.turn.claims.receipt(self.nonce, binding, previous, payload)?;
        self.turn.quote(&claims).await
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
