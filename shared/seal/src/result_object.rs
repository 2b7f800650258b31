//! The sealed result: an envelope with the key, then the result as a STREAM under that key.
//!
//! ```text
//! object = "STRES1\0\0" ‖ u32be envelope length ‖ envelope ‖ STREAM (kind result, context = specification digest)
//! ```

use crate::{
    RecipientKeyPair, Secret,
    envelope::{Envelope, EnvelopeError, MAX_ENVELOPE, unwrap_object_key},
    stream::{ObjectKind, Opener, Sealer, StreamError},
};

const MAGIC: [u8; 8] = *b"STRES1\0\0";
const PREFACE: usize = MAGIC.len() + 4;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResultError {
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("recognise a sealed result: it does not begin with STRES1")]
    NotAResult,
    #[error("reach the end of the sealed result: it stops before its envelope ends")]
    NoEnvelope,
}

impl ResultError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Envelope(error) => error.code(),
            Self::Stream(error) => error.code(),
            Self::NotAResult => "ST-SEAL-68",
            Self::NoEnvelope => "ST-SEAL-69",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Envelope(error) => error.fix(),
            Self::Stream(error) => error.fix(),
            Self::NotAResult => "give the result object of a sealed job, from its first byte",
            Self::NoEnvelope => "fetch the result again from its first byte",
        }
    }
}

/// Length of the sealed result that holds `plain` bytes, with this envelope and the default chunk size.
pub fn sealed_result_length(envelope: &Envelope, plain: u64) -> Option<u64> {
    let before = (PREFACE + envelope.to_bytes().len()) as u64;
    crate::stream::sealed_length(plain)?.checked_add(before)
}

/// Makes the sealed result object while the result passes by.
#[derive(Debug)]
pub struct ResultSealer {
    sealer: Sealer,
}

impl ResultSealer {
    /// A sealer and the bytes that go before everything it makes. `envelope` holds `object_key`, wrapped to the owner.
    pub fn new(
        envelope: &Envelope,
        object_key: &Secret<[u8; 32]>,
        specification_digest: &[u8; 32],
    ) -> Result<(Self, Vec<u8>), ResultError> {
        let (sealer, header) = Sealer::new(object_key, ObjectKind::Result, specification_digest)?;
        let envelope = envelope.to_bytes();
        // Bounded by MAX_ENVELOPE.
        let length = u32::try_from(envelope.len()).map_err(|_| EnvelopeError::Malformed)?;
        let preface = [&MAGIC[..], &length.to_be_bytes(), &envelope, &header].concat();
        Ok((Self { sealer }, preface))
    }

    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), ResultError> {
        Ok(self.sealer.push(input, out)?)
    }

    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), ResultError> {
        Ok(self.sealer.finish(out)?)
    }
}

/// Opens a sealed result while it arrives; gives out only what is authenticated in its place.
#[derive(Debug)]
pub struct ResultOpener<'k> {
    pair: &'k RecipientKeyPair,
    specification_digest: [u8; 32],
    state: State,
}

#[derive(Debug)]
enum State {
    /// Collects magic, length and envelope.
    Preface(Vec<u8>),
    Stream {
        opener: Box<Opener>,
        envelope: Envelope,
        before: u64,
    },
}

impl<'k> ResultOpener<'k> {
    pub fn new(pair: &'k RecipientKeyPair, specification_digest: &[u8; 32]) -> Self {
        Self {
            pair,
            specification_digest: *specification_digest,
            state: State::Preface(Vec::new()),
        }
    }

    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), ResultError> {
        if let State::Preface(collected) = &mut self.state {
            let Some(envelope) = take_preface(collected, &mut input)? else { return Ok(()) };
            let before = collected.len() as u64;
            let key = unwrap_object_key(self.pair, &self.specification_digest, &envelope)?;
            let opener =
                Box::new(Opener::new(&key, ObjectKind::Result, &self.specification_digest));
            self.state = State::Stream { opener, envelope, before };
        }
        match &mut self.state {
            State::Preface(_) => Ok(()),
            State::Stream { opener, .. } => Ok(opener.push(input, out)?),
        }
    }

    /// Declares the end of the object: gives out its last bytes, or says what is wrong with the end.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ResultError> {
        match &mut self.state {
            State::Preface(_) => Err(ResultError::NoEnvelope),
            State::Stream { opener, .. } => Ok(opener.finish(out)?),
        }
    }

    /// The envelope, once it has arrived and opened: logs and metrics are under the same key.
    pub fn envelope(&self) -> Option<&Envelope> {
        match &self.state {
            State::Preface(_) => None,
            State::Stream { envelope, .. } => Some(envelope),
        }
    }

    /// How many bytes of the object are consumed for good.
    pub fn resume_offset(&self) -> u64 {
        match &self.state {
            State::Preface(_) => 0,
            State::Stream { opener, before, .. } => before + opener.resume_offset(),
        }
    }

    /// Forgets the bytes behind [`ResultOpener::resume_offset`], which it returns: the next push starts there.
    pub fn resume(&mut self) -> Result<u64, ResultError> {
        match &mut self.state {
            State::Preface(collected) => collected.clear(),
            State::Stream { opener, .. } => {
                opener.resume()?;
            }
        }
        Ok(self.resume_offset())
    }
}

/// Moves bytes from `input` to `collected` until the envelope is whole; then returns it. A refusal empties `collected`.
fn take_preface(
    collected: &mut Vec<u8>,
    input: &mut &[u8],
) -> Result<Option<Envelope>, ResultError> {
    if !fill(collected, PREFACE, input) {
        return Ok(None);
    }
    let length = match envelope_length(collected) {
        Ok(length) => length,
        Err(error) => {
            collected.clear();
            return Err(error);
        }
    };
    if !fill(collected, PREFACE + length, input) {
        return Ok(None);
    }
    match Envelope::from_bytes(collected.get(PREFACE..).unwrap_or_default()) {
        Ok(envelope) => Ok(Some(envelope)),
        Err(error) => {
            collected.clear();
            Err(error.into())
        }
    }
}

fn envelope_length(collected: &[u8]) -> Result<usize, ResultError> {
    let rest = collected.strip_prefix(&MAGIC).ok_or(ResultError::NotAResult)?;
    let (prefix, _) = rest.split_first_chunk::<4>().ok_or(ResultError::NotAResult)?;
    usize::try_from(u32::from_be_bytes(*prefix))
        .ok()
        .filter(|length| *length <= MAX_ENVELOPE)
        .ok_or(ResultError::Envelope(EnvelopeError::Malformed))
}

/// Fills `collected` up to `length`; true when it is that long.
fn fill(collected: &mut Vec<u8>, length: usize, input: &mut &[u8]) -> bool {
    let missing = length.saturating_sub(collected.len()).min(input.len());
    let (now, rest) = input.split_at(missing);
    collected.extend_from_slice(now);
    *input = rest;
    collected.len() >= length
}

/// Fuzz entry: bytes that nobody sealed to this key give no plaintext, and an error never ends in a panic.
pub fn fuzz_result_object(data: &[u8]) {
    let Ok(pair) = RecipientKeyPair::from_private(crate::Suite::X25519, Secret::new([7; 32]))
    else {
        return;
    };
    let mut opener = ResultOpener::new(&pair, &[0; 32]);
    let mut out = Vec::new();
    let cut = data.first().map_or(1, |byte| usize::from(*byte) + 1);
    for piece in data.chunks(cut) {
        if opener.push(piece, &mut out).is_err() {
            assert_eq!(opener.resume().ok(), Some(0));
        }
    }
    assert!(opener.finish(&mut out).is_err());
    assert!(out.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Suite, envelope::wrap_object_key};

    const DIGEST: [u8; 32] = [3; 32];

    fn sealed(pair: &RecipientKeyPair, plain: &[u8]) -> Vec<u8> {
        let key = Secret::random().expect("random");
        let envelope = wrap_object_key(pair.public(), &DIGEST, &key).expect("wrap");
        let (mut sealer, mut out) = ResultSealer::new(&envelope, &key, &DIGEST).expect("sealer");
        sealer.push(plain, &mut out).expect("push");
        sealer.finish(&mut out).expect("finish");
        assert_eq!(sealed_result_length(&envelope, plain.len() as u64), Some(out.len() as u64));
        out
    }

    #[test]
    fn opens_however_it_is_cut() {
        let plain: Vec<u8> = (0..200_000u32).map(|place| place as u8).collect();
        for suite in Suite::ALL {
            let pair = RecipientKeyPair::generate(suite).expect("generate");
            let object = sealed(&pair, &plain);
            for cut in [1, 11, 13, 1183, 70_000, object.len()] {
                let mut opener = ResultOpener::new(&pair, &DIGEST);
                let mut out = Vec::new();
                for piece in object.chunks(cut) {
                    opener.push(piece, &mut out).expect("push");
                }
                opener.finish(&mut out).expect("finish");
                assert!(opener.envelope().is_some());
                assert_eq!(out, plain, "{suite}, cut {cut}");
            }
        }
    }

    #[test]
    fn goes_on_after_a_broken_transfer() {
        let plain = vec![9; 200_000];
        let pair = RecipientKeyPair::generate(Suite::X25519).expect("generate");
        let object = sealed(&pair, &plain);
        let mut opener = ResultOpener::new(&pair, &DIGEST);
        let mut out = Vec::new();
        // Inside the preface, then inside the second chunk.
        for end in [20, 140_000] {
            let start = usize::try_from(opener.resume().expect("resume")).expect("fits");
            opener.push(&object[start..end], &mut out).expect("push");
        }
        let start = usize::try_from(opener.resume().expect("resume")).expect("fits");
        assert_eq!(start, 12 + 86 + 52 + 2 * 65_552);
        opener.push(&object[start..], &mut out).expect("push");
        opener.finish(&mut out).expect("finish");
        assert_eq!(out, plain);
    }

    #[test]
    fn says_what_is_wrong_with_other_objects() {
        let pair = RecipientKeyPair::generate(Suite::X25519).expect("generate");
        let object = sealed(&pair, b"weights");
        let code = |object: &[u8], digest: &[u8; 32]| {
            let mut opener = ResultOpener::new(&pair, digest);
            let mut out = Vec::new();
            let result = opener.push(object, &mut out).and_then(|()| opener.finish(&mut out));
            assert!(out.is_empty());
            result.expect_err("refused").code()
        };
        assert_eq!(code(b"PK\x03\x04 and so on", &DIGEST), "ST-SEAL-68");
        assert_eq!(code(&object[..50], &DIGEST), "ST-SEAL-69");
        assert_eq!(code(b"", &DIGEST), "ST-SEAL-69");
        assert_eq!(code(&object, &[4; 32]), "ST-SEAL-15");
        assert_eq!(code(&object[..object.len() - 1], &DIGEST), "ST-SEAL-62");
        assert_eq!(code(&object[..12 + 86 + 52], &DIGEST), "ST-SEAL-61");
        let mut endless = object.clone();
        endless[8] = 0xff;
        assert_eq!(code(&endless, &DIGEST), "ST-SEAL-66");
        // The envelope of one result does not open the stream of another.
        let spliced = [&sealed(&pair, b"other")[..12 + 86], &object[12 + 86..]].concat();
        assert_eq!(code(&spliced, &DIGEST), "ST-SEAL-62");
        for data in [&object[..], &[], b"STRES1\0\0", &endless] {
            fuzz_result_object(data);
        }
    }
}
