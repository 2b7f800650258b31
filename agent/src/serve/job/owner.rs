//! What only the owner reads: one fresh key, sealed to him in the envelope, and under it the frames and the result.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_job::JobId;
use sealtune_seal::Secret;
use sealtune_seal::envelope::{Envelope, wrap_object_key};
use sealtune_seal::frames::{FrameChain, FrameKind, FrameSealer, MAX_FRAME_DATA};
use sealtune_wire::v1::{AgentEvent, FrameStream};

use super::JobError;
use super::release::SealedJob;

#[derive(Debug)]
pub(crate) struct OwnerChannel {
    job: JobId,
    pub(crate) envelope: Envelope,
    pub(crate) object_key: Secret<[u8; 32]>,
    log: FrameSealer,
    metric: FrameSealer,
    failure: FrameSealer,
}

/// Counts and last digests, for the receipt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Chains {
    pub(crate) log: FrameChain,
    pub(crate) metric: FrameChain,
}

impl OwnerChannel {
    pub(crate) fn new(job: JobId, sealed: &SealedJob, digest: &[u8; 32]) -> Result<Self, JobError> {
        let object_key = Secret::random().map_err(|error| JobError::Internal(error.to_string()))?;
        let sealer = |kind| FrameSealer::new(&object_key, kind, digest);
        Ok(Self {
            job,
            envelope: wrap_object_key(&sealed.recipient, digest, &object_key)?,
            log: sealer(FrameKind::Log)?,
            metric: sealer(FrameKind::Metric)?,
            failure: sealer(FrameKind::Failure)?,
            object_key,
        })
    }

    pub(crate) fn envelope_event(&self) -> AgentEvent {
        let envelope = STANDARD.encode(self.envelope.to_bytes());
        AgentEvent::OwnerEnvelope { job: self.job, envelope }
    }

    /// At most one frame's worth of data; no data makes a frame too.
    pub(crate) fn seal(
        &mut self,
        stream: FrameStream,
        data: &[u8],
    ) -> Result<AgentEvent, JobError> {
        let sealer = match stream {
            FrameStream::Log => &mut self.log,
            FrameStream::Metric => &mut self.metric,
            FrameStream::Failure => &mut self.failure,
        };
        let number = sealer.chain().count;
        let frame = STANDARD.encode(sealer.seal(data)?);
        Ok(AgentEvent::OwnerFrame { job: self.job, stream, number, frame })
    }

    /// Code, detail and fix of a failure as text, cut to one frame.
    pub(crate) fn seal_failure(&mut self, error: &JobError) -> Result<AgentEvent, JobError> {
        let mut detail = error.to_string();
        cut(&mut detail, MAX_FRAME_DATA / 2);
        let text = format!("{} failed to {detail}\nfix: {}\n", error.code(), error.fix());
        self.seal(FrameStream::Failure, text.as_bytes())
    }

    pub(crate) fn chains(&self) -> Chains {
        Chains { log: self.log.chain(), metric: self.metric.chain() }
    }
}

fn cut(text: &mut String, length: usize) {
    let end = (0..=length.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
}
