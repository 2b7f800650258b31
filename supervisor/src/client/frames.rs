//! Sealed logs, metrics and failure details: opened in order with the owner's key, chained for the receipt.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_seal::{
    OwnerKey,
    envelope::{Envelope, unwrap_object_key},
    frames::{FrameChain, FrameKind, FrameOpener},
};

use super::{CliError, ClientError, JobRecord};
use crate::api::types::Frames;

pub(crate) fn stream_name(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Log => "log",
        FrameKind::Metric => "metric",
        FrameKind::Failure => "failure",
    }
}

/// Reads all frame streams of one job; a new attempt starts over.
#[derive(Debug)]
pub(crate) struct FrameReader<'a> {
    record: &'a JobRecord,
    owner: &'a OwnerKey,
    attempt: u32,
    /// One per kind, once the envelope was opened.
    openers: Option<[FrameOpener; 3]>,
}

impl<'a> FrameReader<'a> {
    pub(crate) fn new(record: &'a JobRecord, owner: &'a OwnerKey) -> Self {
        Self { record, owner, attempt: 0, openers: None }
    }

    /// The number to ask for next.
    pub(crate) fn next(&self, kind: FrameKind) -> u64 {
        self.chain(kind).count
    }

    pub(crate) fn chain(&self, kind: FrameKind) -> FrameChain {
        let openers = self.openers.as_ref();
        openers
            .and_then(|openers| openers.get(index(kind)))
            .map(FrameOpener::chain)
            .unwrap_or_default()
    }

    /// Opens what came. Frames of another attempt than before are asked for again from the first.
    pub(crate) fn take(&mut self, kind: FrameKind, frames: &Frames) -> Result<Vec<u8>, CliError> {
        let Some(envelope) = &frames.envelope else { return Ok(vec![]) };
        if frames.attempt != self.attempt || self.openers.is_none() {
            let is_start = frames.frames.first().is_none_or(|frame| frame.number == 0);
            self.openers = Some(self.open_envelope(envelope, frames.attempt)?);
            self.attempt = frames.attempt;
            if !is_start {
                return Ok(vec![]);
            }
        }
        let refuse =
            |reason: String| ClientError::Frames { job: self.record.job().to_string(), reason };
        let Some(opener) = self.openers.as_mut().and_then(|openers| openers.get_mut(index(kind)))
        else {
            return Ok(vec![]);
        };
        let mut data = Vec::new();
        for frame in &frames.frames {
            let expected = opener.chain().count;
            if frame.number != expected {
                let found = frame.number;
                return Err(refuse(format!("frame {found} came where {expected} belongs")).into());
            }
            let sealed = STANDARD
                .decode(&frame.frame)
                .map_err(|_| refuse(format!("frame {expected} is not base64")))?;
            data.extend(opener.open(&sealed)?);
        }
        Ok(data)
    }

    fn open_envelope(&self, text: &str, attempt: u32) -> Result<[FrameOpener; 3], CliError> {
        let refuse = |reason: &str| ClientError::Frames {
            job: self.record.job().to_string(),
            reason: reason.to_owned(),
        };
        let bytes = STANDARD.decode(text).map_err(|_| refuse("their envelope is not base64"))?;
        let envelope = Envelope::from_bytes(&bytes)?;
        let mut last = None;
        for digest in self.record.specification_digests(attempt)? {
            match unwrap_object_key(self.owner.recipient(), &digest, &envelope) {
                Ok(key) => {
                    let opener = |kind| FrameOpener::new(&key, kind, &digest);
                    return Ok([
                        opener(FrameKind::Log)?,
                        opener(FrameKind::Metric)?,
                        opener(FrameKind::Failure)?,
                    ]);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(
            || refuse("this attempt was not released from this computer").into(),
            CliError::from,
        ))
    }
}

fn index(kind: FrameKind) -> usize {
    match kind {
        FrameKind::Log => 0,
        FrameKind::Metric => 1,
        FrameKind::Failure => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::types::FrameView,
        client::records::{ReleaseRecord, tests::sample_record},
    };
    use sealtune_job::Hex;
    use sealtune_seal::{Secret, Suite, envelope::wrap_object_key, frames::FrameSealer};

    fn sealed(owner: &OwnerKey, digest: [u8; 32], attempt: u32, lines: &[&str]) -> Frames {
        let key = Secret::random().expect("key");
        let recipient = owner.public().recipient;
        let envelope = wrap_object_key(&recipient, &digest, &key).expect("envelope");
        let mut sealer = FrameSealer::new(&key, FrameKind::Log, &digest).expect("sealer");
        let frames = lines.iter().enumerate().map(|(number, line)| FrameView {
            number: number as u64,
            frame: STANDARD.encode(sealer.seal(line.as_bytes()).expect("frame")),
        });
        let frames = frames.collect();
        let envelope = Some(STANDARD.encode(envelope.to_bytes()));
        Frames { envelope, attempt, frames, state: "training".into() }
    }

    #[test]
    fn frames_open_in_order_and_a_new_attempt_starts_over() {
        let owner = OwnerKey::generate(Suite::X25519).expect("key");
        let mut record = sample_record();
        for (attempt, digest) in [(1, [1; 32]), (2, [8; 32]), (2, [2; 32])] {
            let (offer, specification) = (Hex([0; 32]), Hex(digest));
            record.releases.push(ReleaseRecord { attempt, offer, specification, time: 0 });
        }
        let mut reader = FrameReader::new(&record, &owner);
        let first = sealed(&owner, [1; 32], 1, &["one\n", "two\n"]);
        assert_eq!(reader.take(FrameKind::Log, &first).expect("open"), b"one\ntwo\n");
        assert_eq!(reader.next(FrameKind::Log), 2);
        // The second attempt was released twice; the older release is the one that was taken.
        let second = sealed(&owner, [8; 32], 2, &["again\n"]);
        assert_eq!(reader.take(FrameKind::Log, &second).expect("open"), b"again\n");
        assert_eq!(reader.next(FrameKind::Log), 1);
    }

    #[test]
    fn a_missing_or_exchanged_frame_is_refused() {
        let owner = OwnerKey::generate(Suite::X25519).expect("key");
        let mut record = sample_record();
        let (offer, specification) = (Hex([0; 32]), Hex([1; 32]));
        record.releases.push(ReleaseRecord { attempt: 1, offer, specification, time: 0 });
        let good = sealed(&owner, [1; 32], 1, &["one", "two", "three"]);
        let mut missing = good.clone();
        missing.frames.remove(1);
        let error = FrameReader::new(&record, &owner).take(FrameKind::Log, &missing);
        assert_eq!(error.expect_err("missing").code, "ST-CLI-52");
        let mut exchanged = good.clone();
        exchanged.frames.swap(0, 1);
        exchanged.frames[0].number = 0;
        exchanged.frames[1].number = 1;
        let error = FrameReader::new(&record, &owner).take(FrameKind::Log, &exchanged);
        assert_eq!(error.expect_err("exchanged").code, "ST-SEAL-73");
        let unknown = sealed(&owner, [9; 32], 1, &["one"]);
        assert!(FrameReader::new(&record, &owner).take(FrameKind::Log, &unknown).is_err());
    }
}
