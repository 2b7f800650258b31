//! Doubles for tests: a provider's answers, made here.

#[cfg(feature = "simulated-tee")]
pub(crate) mod agent;
#[cfg(feature = "simulated-tee")]
pub(crate) mod provider;

use sealtune_content::ContentId;
use sealtune_job::{Hex, JobId, JobKind};

use crate::api::types::JobView;

pub(crate) fn view(state: &str) -> JobView {
    JobView {
        job: JobId::from_bytes([0xab; 16]),
        kind: JobKind::Sealed,
        state: state.into(),
        attempt: 1,
        generation: 1,
        percent: 0,
        owner: Hex([2; 33]),
        image: Hex([4; 32]),
        model: ContentId::Sha256 { digest: [1; 32], length: 10 },
        dataset: ContentId::Sha256 { digest: [3; 32], length: 88 },
        dataset_received: 88,
        queue_position: None,
        created: 1_700_000_000_000,
        updated: 1_700_000_000_000,
        release_deadline: None,
        vm: None,
        failure: None,
        result: None,
        history: vec![],
    }
}
