//! What a GPU signs: an SPDM 1.1 (DMTF DSP0274) GET_MEASUREMENTS request and the MEASUREMENTS response to it, one after
//! the other. The signature is over both, less itself, hashed once with SHA-384.
//!
//! ```text
//! request   11 E0 01 FF  nonce(32)  slot(1)
//! response  11 60 00 00  blocks(1)  record length(3)  record  nonce(32)  opaque length(2)  opaque  signature(96)
//! block     index(1)  01  size(2)  type(1)  value size(2)  value
//! ```
//! Numbers are little-endian. Every length must come out exactly and nothing may follow.

use std::collections::BTreeMap;

use super::{
    certificate::{Point, verify_fixed},
    codes::Code,
    opaque::{Opaque, OpaqueError},
};

/// The buffer that drivers return it in has 8192 bytes.
pub const MAX_TRANSCRIPT_BYTES: usize = 8192;
pub const SIGNATURE_BYTES: usize = 96;
pub const MEASUREMENT_BYTES: usize = 48;
const SPDM_1_1: u8 = 0x11;
const GET_MEASUREMENTS: u8 = 0xe0;
const MEASUREMENTS: u8 = 0x60;
const SIGNED: u8 = 0x01;
const ALL_BLOCKS: u8 = 0xff;
const DMTF: u8 = 0x01;
/// DMTF measurement types with this bit are raw bytes, not digests.
const RAW: u8 = 0x80;

/// One SHA-384 digest.
pub type Measurement = [u8; MEASUREMENT_BYTES];

/// A parsed transcript; its signature is not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript<'a> {
    /// What the requester asked with.
    pub nonce: [u8; 32],
    pub slot: u8,
    /// By the index of their block, counted from 1.
    pub measurements: BTreeMap<u8, Measurement>,
    pub opaque: Opaque,
    signed: &'a [u8],
    signature: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    #[error("read the transcript: {length} bytes, the limit is {MAX_TRANSCRIPT_BYTES}")]
    TooLong { length: usize },
    #[error("read the transcript: it ends inside of its {0}")]
    Short(&'static str),
    #[error("read the transcript: {0} bytes follow its signature")]
    Trailing(usize),
    #[error("read the transcript: {0} is not that of an SPDM 1.1 exchange for all measurements")]
    Message(&'static str),
    #[error("read measurement block {index}: {reason}")]
    Block { index: u8, reason: &'static str },
    #[error("read the transcript: {0}")]
    Opaque(#[from] OpaqueError),
}

impl TranscriptError {
    pub fn entry(&self) -> Code {
        match self {
            Self::TooLong { .. } | Self::Short(_) | Self::Block { .. } => Code::TranscriptMalformed,
            Self::Trailing(_) => Code::TranscriptTrailing,
            Self::Message(_) => Code::TranscriptMessage,
            Self::Opaque(error) => error.entry(),
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

/// Bytes that are taken from the front, each with the name of what they are.
struct Front<'a> {
    rest: &'a [u8],
}

impl<'a> Front<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], TranscriptError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(TranscriptError::Short(what))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], TranscriptError> {
        self.take(N, what)?.try_into().map_err(|_| TranscriptError::Short(what))
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, TranscriptError> {
        let [byte] = self.array(what)?;
        Ok(byte)
    }

    fn length(&mut self, what: &'static str) -> Result<usize, TranscriptError> {
        Ok(usize::from(u16::from_le_bytes(self.array(what)?)))
    }
}

impl<'a> Transcript<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TranscriptError> {
        if bytes.len() > MAX_TRANSCRIPT_BYTES {
            return Err(TranscriptError::TooLong { length: bytes.len() });
        }
        let mut front = Front { rest: bytes };
        if front.array("request")? != [SPDM_1_1, GET_MEASUREMENTS, SIGNED, ALL_BLOCKS] {
            return Err(TranscriptError::Message("the request's header"));
        }
        let nonce = front.array("request nonce")?;
        let slot = front.byte("request slot")?;
        if front.array("response")? != [SPDM_1_1, MEASUREMENTS, 0, 0] {
            return Err(TranscriptError::Message("the response's header"));
        }
        let blocks = front.byte("block count")?;
        let [low, middle, high] = front.array("record length")?;
        let record_length = u32::from_le_bytes([low, middle, high, 0]);
        let record_length = usize::try_from(record_length)
            .map_err(|_| TranscriptError::Short("measurement record"))?;
        let record = front.take(record_length, "measurement record")?;
        let measurements = read_blocks(record, blocks)?;
        let _responder_nonce: [u8; 32] = front.array("response nonce")?;
        let opaque_length = front.length("opaque length")?;
        let opaque = Opaque::parse(front.take(opaque_length, "opaque data")?)?;
        let signed = bytes.len() - front.rest.len();
        let signature = front.take(SIGNATURE_BYTES, "signature")?;
        match front.rest.len() {
            0 => {}
            more => return Err(TranscriptError::Trailing(more)),
        }
        let signed = bytes.get(..signed).ok_or(TranscriptError::Short("signature"))?;
        Ok(Self { nonce, slot, measurements, opaque, signed, signature })
    }

    /// Whether the owner of `point` signed these exact bytes.
    pub(crate) fn is_signed_by(&self, point: &Point) -> bool {
        verify_fixed(point, self.signed, self.signature)
    }
}

fn read_blocks(record: &[u8], count: u8) -> Result<BTreeMap<u8, Measurement>, TranscriptError> {
    let mut front = Front { rest: record };
    let mut measurements = BTreeMap::new();
    for _ in 0..count {
        let index = front.byte("measurement record")?;
        let refuse = |reason| Err(TranscriptError::Block { index, reason });
        if front.byte("measurement record")? != DMTF {
            return refuse("it is not of the DMTF's form");
        }
        let size = front.length("measurement record")?;
        let kind = front.byte("measurement record")?;
        let value_size = front.length("measurement record")?;
        if kind & RAW != 0 || value_size != MEASUREMENT_BYTES || size != value_size + 3 {
            return refuse("it is not a SHA-384 digest");
        }
        let value = front.array("measurement record")?;
        if index == 0 || measurements.insert(index, value).is_some() {
            return refuse("its index is 0 or occurs twice");
        }
    }
    if front.rest.is_empty() {
        Ok(measurements)
    } else {
        Err(TranscriptError::Block { index: count, reason: "the record is longer than its blocks" })
    }
}

/// What a transcript says it was asked with, for who takes evidence; nothing else of it is looked at.
pub fn request_nonce(bytes: &[u8]) -> Option<[u8; 32]> {
    let mut front = Front { rest: bytes };
    let header = front.array("request").ok()?;
    (header == [SPDM_1_1, GET_MEASUREMENTS, SIGNED, ALL_BLOCKS]).then_some(())?;
    front.array("request nonce").ok()
}

/// The transcript at the front of a buffer that may be padded with zeros; for who makes evidence, never for who judges it.
pub fn without_padding(buffer: &[u8]) -> Option<&[u8]> {
    let end = match Transcript::parse(buffer) {
        Ok(_) => buffer.len(),
        Err(TranscriptError::Trailing(more)) => buffer.len().checked_sub(more)?,
        Err(_) => return None,
    };
    let (transcript, padding) = buffer.split_at_checked(end)?;
    padding.iter().all(|byte| *byte == 0).then_some(transcript)
}

/// Fuzz entry: whatever is accepted has exact lengths, and one byte more or less is refused.
pub fn fuzz_nvidia_transcript(data: &[u8]) {
    if let Ok(transcript) = Transcript::parse(data) {
        assert_eq!(request_nonce(data), Some(transcript.nonce));
        assert_eq!(transcript.signed.len() + SIGNATURE_BYTES, data.len());
        assert!(!transcript.measurements.contains_key(&0));
        assert_eq!(without_padding(data), Some(data));
        let shorter = data.get(..data.len() - 1).unwrap_or_default();
        assert!(Transcript::parse(shorter).is_err());
        let longer = [data, &[0]].concat();
        assert!(Transcript::parse(&longer).is_err());
        assert!(longer.len() > MAX_TRANSCRIPT_BYTES || without_padding(&longer) == Some(data));
    }
}
