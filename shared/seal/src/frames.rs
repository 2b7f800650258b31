//! Sealed frames: logs, metrics and failure details of a job, all of one size, numbered and chained.
//!
//! ```text
//! plaintext = u16be length (0 to 4094) ‖ data ‖ zeros to 4096 bytes
//! key       = HKDF-SHA256(salt = specification digest, object key, "sealtune/frames/v1" ‖ 0x00 ‖ kind)
//! nonce     = 0000 0000 ‖ u64be number          AAD = "sealtune/frames/v1" ‖ 0x00 ‖ kind ‖ specification digest
//! frame     = ChaCha20-Poly1305(plaintext) ‖ tag 16          digest: d(i) = SHA-256(d(i-1) ‖ frame i), d(0) = zeros
//! ```
//! The number is not sent: it is the place. Count and last digest of each kind stand in the receipt, so that a missing
//! end is seen too. An object key serves one job on one machine and each kind has one sealer: no nonce comes twice.

use ring::{
    aead::{Aad, LessSafeKey, Nonce},
    digest,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Secret, encoding, stream};

/// The most that one frame carries.
pub const MAX_FRAME_DATA: usize = PLAINTEXT - LENGTH_PREFIX;
/// The size of every sealed frame.
pub const FRAME_LENGTH: usize = PLAINTEXT + stream::AEAD_TAG;

const PLAINTEXT: usize = 4096;
const LENGTH_PREFIX: usize = 2;
const TAG: &[u8] = b"sealtune/frames/v1\0";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("put {length} bytes into one frame, which holds {MAX_FRAME_DATA}")]
    TooLong { length: usize },
    #[error("derive the key of the frames or use it")]
    Cipher,
    #[error("accept a frame of {length} bytes: each has {FRAME_LENGTH}")]
    WrongLength { length: usize },
    #[error(
        "authenticate frame {number}: it is damaged, out of its place, or of another kind or job"
    )]
    Refused { number: u64 },
    #[error("read frame {number}: its padding is not as programs of ours make it")]
    Padding { number: u64 },
    #[error("reconcile {opened} frames with the receipt, which counts {receipt}")]
    Count { opened: u64, receipt: u64 },
    #[error("reconcile the frames with the receipt: their chain digest is another")]
    Digest,
}

impl FrameError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "ST-SEAL-70",
            Self::Cipher => "ST-SEAL-71",
            Self::WrongLength { .. } => "ST-SEAL-72",
            Self::Refused { .. } => "ST-SEAL-73",
            Self::Padding { .. } => "ST-SEAL-74",
            Self::Count { .. } => "ST-SEAL-75",
            Self::Digest => "ST-SEAL-76",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::Cipher => "report this as a bug in the program that calls",
            Self::WrongLength { .. } | Self::Refused { .. } | Self::Padding { .. } => {
                "fetch the frames again from the first one, in order"
            }
            Self::Count { .. } | Self::Digest => {
                "fetch all frames again; if it stays so, the provider withholds or changed some"
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameKind {
    Log,
    Metric,
    Failure,
}

impl FrameKind {
    pub const ALL: [Self; 3] = [Self::Log, Self::Metric, Self::Failure];

    fn number(self) -> u8 {
        match self {
            Self::Log => 1,
            Self::Metric => 2,
            Self::Failure => 3,
        }
    }
}

/// Count and digest of a run of frames. Needs no key: host and verifiers keep it too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameChain {
    pub count: u64,
    #[serde(with = "encoding::hex_32")]
    pub digest: [u8; 32],
}

impl FrameChain {
    pub fn push(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        if frame.len() != FRAME_LENGTH {
            return Err(FrameError::WrongLength { length: frame.len() });
        }
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.digest);
        context.update(frame);
        self.digest.copy_from_slice(context.finish().as_ref());
        self.count += 1;
        Ok(())
    }

    /// Compares with what a receipt says.
    pub fn reconcile(&self, receipt: &Self) -> Result<(), FrameError> {
        if self.count != receipt.count {
            return Err(FrameError::Count { opened: self.count, receipt: receipt.count });
        }
        if self.digest != receipt.digest {
            return Err(FrameError::Digest);
        }
        Ok(())
    }
}

/// Cuts a longer text into pieces that each fit into a frame.
pub fn split(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.chunks(MAX_FRAME_DATA)
}

struct FrameCipher {
    key: LessSafeKey,
    aad: Vec<u8>,
}

impl FrameCipher {
    fn new(
        object_key: &Secret<[u8; 32]>,
        kind: FrameKind,
        specification_digest: &[u8; 32],
    ) -> Result<Self, FrameError> {
        let kind = [kind.number()];
        let key = stream::derive_key(object_key, specification_digest, &[TAG, &kind])
            .ok_or(FrameError::Cipher)?;
        Ok(Self { key, aad: [TAG, &kind, specification_digest].concat() })
    }

    fn nonce(number: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Seals one kind of frames of one job.
pub struct FrameSealer {
    cipher: FrameCipher,
    chain: FrameChain,
}

impl FrameSealer {
    pub fn new(
        object_key: &Secret<[u8; 32]>,
        kind: FrameKind,
        specification_digest: &[u8; 32],
    ) -> Result<Self, FrameError> {
        let cipher = FrameCipher::new(object_key, kind, specification_digest)?;
        Ok(Self { cipher, chain: FrameChain::default() })
    }

    /// Seals at most [`MAX_FRAME_DATA`] bytes (nothing is allowed too: it looks like any other frame).
    pub fn seal(&mut self, data: &[u8]) -> Result<Vec<u8>, FrameError> {
        let length = u16::try_from(data.len())
            .ok()
            .filter(|_| data.len() <= MAX_FRAME_DATA)
            .ok_or(FrameError::TooLong { length: data.len() })?;
        let mut frame = Vec::with_capacity(FRAME_LENGTH);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(data);
        frame.resize(PLAINTEXT, 0);
        let nonce = FrameCipher::nonce(self.chain.count);
        self.cipher
            .key
            .seal_in_place_append_tag(nonce, Aad::from(&self.cipher.aad), &mut frame)
            .map_err(|_| FrameError::Cipher)?;
        self.chain.push(&frame)?;
        Ok(frame)
    }

    /// Count and digest so far, for the receipt.
    pub fn chain(&self) -> FrameChain {
        self.chain
    }
}

/// Opens frames in order, from the first.
pub struct FrameOpener {
    cipher: FrameCipher,
    chain: FrameChain,
}

impl FrameOpener {
    pub fn new(
        object_key: &Secret<[u8; 32]>,
        kind: FrameKind,
        specification_digest: &[u8; 32],
    ) -> Result<Self, FrameError> {
        let cipher = FrameCipher::new(object_key, kind, specification_digest)?;
        Ok(Self { cipher, chain: FrameChain::default() })
    }

    /// Opens the next frame. After an error the same frame can be tried again.
    pub fn open(&mut self, frame: &[u8]) -> Result<Vec<u8>, FrameError> {
        if frame.len() != FRAME_LENGTH {
            return Err(FrameError::WrongLength { length: frame.len() });
        }
        let number = self.chain.count;
        let mut buffer = Zeroizing::new(frame.to_vec());
        let plaintext = self
            .cipher
            .key
            .open_in_place(
                FrameCipher::nonce(number),
                Aad::from(&self.cipher.aad),
                buffer.as_mut_slice(),
            )
            .map_err(|_| FrameError::Refused { number })?;
        let data = unpad(plaintext).ok_or(FrameError::Padding { number })?.to_vec();
        self.chain.push(frame)?;
        Ok(data)
    }

    pub fn chain(&self) -> FrameChain {
        self.chain
    }

    /// Checks that what was opened is all that the receipt speaks of.
    pub fn finish(self, receipt: &FrameChain) -> Result<(), FrameError> {
        self.chain.reconcile(receipt)
    }
}

fn unpad(plaintext: &[u8]) -> Option<&[u8]> {
    let (length, rest) = plaintext.split_first_chunk::<LENGTH_PREFIX>()?;
    let (data, padding) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    padding.iter().all(|byte| *byte == 0).then_some(data)
}

impl std::fmt::Debug for FrameSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameSealer").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for FrameOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameOpener").field("chain", &self.chain).finish_non_exhaustive()
    }
}

/// Fuzz entry: no bytes pass for a frame, and an unpadded plaintext has one padded form.
pub fn fuzz_frames(data: &[u8]) {
    let key = Secret::new([7; 32]);
    if let Ok(mut opener) = FrameOpener::new(&key, FrameKind::Log, &[0; 32]) {
        assert!(opener.open(data).is_err());
        assert_eq!(opener.chain(), FrameChain::default());
    }
    if data.len() == PLAINTEXT
        && let Some(text) = unpad(data)
    {
        let mut again = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
        again.extend_from_slice(text);
        again.resize(PLAINTEXT, 0);
        assert_eq!(again, data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: [u8; 32] = [0x33; 32];

    fn key() -> Secret<[u8; 32]> {
        Secret::new([0x42; 32])
    }

    fn sealer(kind: FrameKind) -> FrameSealer {
        FrameSealer::new(&key(), kind, &DIGEST).expect("sealer")
    }

    fn opener(kind: FrameKind) -> FrameOpener {
        FrameOpener::new(&key(), kind, &DIGEST).expect("opener")
    }

    #[test]
    fn the_chain_is_the_one_that_the_readme_writes_down() {
        // Made by another program (Python).
        let mut sealer = sealer(FrameKind::Metric);
        for data in [&b"step 1"[..], b"", &[b'x'; 4094]] {
            assert_eq!(sealer.seal(data).expect("seal").len(), FRAME_LENGTH);
        }
        assert_eq!(sealer.chain().count, 3);
        assert_eq!(
            hex::encode(sealer.chain().digest),
            "627d904aefa4b28215a14e0c5f5f9756fe8159e9d6eaee7fd3472d1198c226e2"
        );
    }

    #[test]
    fn a_text_of_any_length_comes_through_whole() {
        for length in [0, 1, 4094, 4095, 10_000] {
            let text: Vec<u8> = (0..length).map(|place| place as u8).collect();
            let (mut sealer, mut opener) = (sealer(FrameKind::Log), opener(FrameKind::Log));
            let mut out = Vec::new();
            for piece in split(&text) {
                let frame = sealer.seal(piece).expect("seal");
                out.extend(opener.open(&frame).expect("open"));
            }
            assert_eq!(out, text);
            assert_eq!(opener.finish(&sealer.chain()), Ok(()));
        }
    }

    #[test]
    fn a_frame_opens_only_in_its_place_kind_and_job() {
        let mut sealer = sealer(FrameKind::Log);
        let first = sealer.seal(b"first").expect("seal");
        let second = sealer.seal(b"second").expect("seal");
        let mut opener_log = opener(FrameKind::Log);
        assert_eq!(opener_log.open(&second), Err(FrameError::Refused { number: 0 }));
        assert_eq!(opener_log.open(&first).expect("open"), b"first");
        assert_eq!(opener_log.open(&first), Err(FrameError::Refused { number: 1 }));
        assert_eq!(opener_log.open(&second).expect("open"), b"second");
        for kind in [FrameKind::Metric, FrameKind::Failure] {
            assert_eq!(opener(kind).open(&first), Err(FrameError::Refused { number: 0 }));
        }
        let mut other_job = FrameOpener::new(&key(), FrameKind::Log, &[0x34; 32]).expect("opener");
        assert!(other_job.open(&first).is_err());
        let mut changed = first.clone();
        changed[4111] ^= 1;
        assert!(opener(FrameKind::Log).open(&changed).is_err());
        assert_eq!(
            opener(FrameKind::Log).open(&first[1..]),
            Err(FrameError::WrongLength { length: 4111 })
        );
    }

    #[test]
    fn a_missing_end_and_another_chain_are_seen() {
        let mut sealer = sealer(FrameKind::Log);
        let frame = sealer.seal(b"one").expect("seal");
        let after_one = sealer.chain();
        sealer.seal(b"two").expect("seal");
        let mut opener_log = opener(FrameKind::Log);
        opener_log.open(&frame).expect("open");
        let code = |error: Result<(), FrameError>| error.expect_err("differs").code();
        assert_eq!(code(opener_log.chain().reconcile(&sealer.chain())), "ST-SEAL-75");
        let other = FrameChain { digest: [1; 32], ..after_one };
        assert_eq!(code(opener_log.chain().reconcile(&other)), "ST-SEAL-76");
        let mut host = FrameChain::default();
        host.push(&frame).expect("push");
        assert_eq!(host, after_one);
        assert_eq!(host.push(&frame[1..]).expect_err("short").code(), "ST-SEAL-72");
        assert_eq!(opener_log.finish(&after_one), Ok(()));
    }

    #[test]
    fn too_much_for_a_frame_and_dirty_padding_are_refused() {
        let mut sealer = sealer(FrameKind::Failure);
        assert_eq!(
            sealer.seal(&[0; MAX_FRAME_DATA + 1]),
            Err(FrameError::TooLong { length: MAX_FRAME_DATA + 1 })
        );
        assert_eq!(sealer.chain(), FrameChain::default());
        for (place, value) in [(4095, 1), (1, 255), (0, 255)] {
            let mut frame = vec![0; PLAINTEXT];
            frame[0] = 0;
            frame[place] = value;
            if place == 1 {
                frame[300] = 1;
            }
            FrameCipher::new(&key(), FrameKind::Log, &DIGEST)
                .expect("cipher")
                .key
                .seal_in_place_append_tag(
                    FrameCipher::nonce(0),
                    Aad::from([TAG, &[1], &DIGEST].concat()),
                    &mut frame,
                )
                .expect("seal");
            assert_eq!(opener(FrameKind::Log).open(&frame), Err(FrameError::Padding { number: 0 }));
        }
        fuzz_frames(&[0; FRAME_LENGTH]);
        fuzz_frames(&[0; PLAINTEXT]);
        fuzz_frames(&[1; 9]);
    }
}
