//! The firmware's own event log: the data area that the ACPI table CCEL points to.
//!
//! Source: TCG PC Client Platform Firmware Profile 1.06, section 10 (crypto-agile log format), with the registers of the
//! UEFI 2.11 Confidential Computing protocol (section 38.4.1). One record in the old format says which digests follow; all
//! others are of the new format. Integers are little-endian. The area is padded with 0xff or zero bytes.

use super::{
    error::LogError,
    event::{EventType, LoggedEvent, Register},
    payload::{Binding, bind_all},
    replay,
};
use crate::{
    event_log::Registers,
    fixed_hex::{FixedHex, Hex48},
};

/// The largest data area that firmware is known to reserve.
pub const MAX_LOG_BYTES: usize = 1 << 20;
pub const MAX_RECORDS: usize = 4096;

const SHA384: u16 = 0x000c;
const SHA384_LENGTH: u16 = 48;
const SIGNATURE: &[u8] = b"Spec ID Event03\0";
const END_MARK: u32 = u32::MAX;
const OLD_DIGEST: usize = 20;

/// How a log says that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogEnd {
    /// An index of 0xffffffff; then padding.
    Mark,
    /// Zero bytes to the end of the area.
    ZeroFill,
    /// The bytes end behind a record.
    EndOfBytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CcelLog {
    /// Every record behind the header, in the order of the log.
    pub events: Vec<LoggedEvent>,
    pub end: LogEnd,
}

impl CcelLog {
    /// Reads a whole data area.
    pub fn parse(bytes: &[u8]) -> Result<Self, LogError> {
        Self::read(bytes).map(|(log, _)| log)
    }

    /// The front of a data area, up to the end of its last record: the same log without its padding.
    pub fn without_padding(bytes: &[u8]) -> Result<&[u8], LogError> {
        let (_, length) = Self::read(bytes)?;
        Ok(bytes.get(..length).unwrap_or(bytes))
    }

    /// The log, and how many bytes its records have.
    fn read(bytes: &[u8]) -> Result<(Self, usize), LogError> {
        if bytes.len() > MAX_LOG_BYTES {
            return Err(LogError::TooLong {
                what: "bytes",
                found: bytes.len(),
                limit: MAX_LOG_BYTES,
            });
        }
        let mut reader = Reader { bytes, at: 0 };
        header(&mut reader)?;
        let mut events = Vec::new();
        loop {
            if let Some(end) = end(&reader)? {
                return Ok((Self { events, end }, reader.at));
            }
            if events.len() == MAX_RECORDS {
                let found = events.len() + 1;
                return Err(LogError::TooLong { what: "records", found, limit: MAX_RECORDS });
            }
            events.push(record(&mut reader, events.len())?);
        }
    }

    pub fn replay(&self) -> Registers {
        replay::replay(&self.events)
    }

    /// That the log explains all four registers of a quote.
    pub fn check_replay(&self, quoted: &Registers) -> Result<(), LogError> {
        replay::check(&self.events, quoted)
    }

    /// Recomputes digests from payloads where the type says how; says of each event how far its payload can be believed.
    pub fn check_payloads(&self) -> Result<Vec<Binding>, LogError> {
        bind_all(&self.events)
    }

    pub fn check_separators(&self) -> Result<(), LogError> {
        replay::check_separators(&self.events)
    }
}

/// The first record: it must promise SHA-384 and nothing else.
fn header(reader: &mut Reader<'_>) -> Result<(), LogError> {
    let malformed = LogError::HeaderMalformed;
    let short = || malformed("it is cut short");
    let _index = reader.u32().ok_or_else(short)?;
    if EventType::from(reader.u32().ok_or_else(short)?) != EventType::NoAction {
        return Err(malformed("its type is not EV_NO_ACTION"));
    }
    if reader.take(OLD_DIGEST).ok_or_else(short)?.iter().any(|byte| *byte != 0) {
        return Err(malformed("its digest is not zero"));
    }
    let length = reader.u32().ok_or_else(short)?;
    let body = reader.take_u32(length).ok_or_else(short)?;
    let mut body = Reader { bytes: body, at: 0 };
    if body.take(SIGNATURE.len()) != Some(SIGNATURE) {
        return Err(malformed("it lacks the signature `Spec ID Event03`"));
    }
    // Platform class, version (minor, major, errata) and the size of an integer: nothing depends on them.
    body.take(8).ok_or_else(short)?;
    if body.u32().ok_or_else(short)? != 1 {
        return Err(malformed("it lists another number of digests than one"));
    }
    let algorithm = (body.u16().ok_or_else(short)?, body.u16().ok_or_else(short)?);
    if algorithm != (SHA384, SHA384_LENGTH) {
        return Err(malformed("its digest is not SHA-384"));
    }
    let vendor = body.take(1).and_then(|bytes| bytes.first()).ok_or_else(short)?;
    body.take(usize::from(*vendor)).ok_or_else(short)?;
    if body.at == body.bytes.len() { Ok(()) } else { Err(malformed("bytes follow its fields")) }
}

/// Whether the log is over here; padding that is not padding is refused.
fn end(reader: &Reader<'_>) -> Result<Option<LogEnd>, LogError> {
    let rest = reader.rest();
    if rest.is_empty() {
        return Ok(Some(LogEnd::EndOfBytes));
    }
    if rest.iter().all(|byte| *byte == 0) {
        return Ok(Some(LogEnd::ZeroFill));
    }
    let Some(behind) = rest.strip_prefix(&END_MARK.to_le_bytes()) else { return Ok(None) };
    let padding = behind.first().copied().unwrap_or_default();
    if !matches!(padding, 0 | 0xff) || behind.iter().any(|byte| *byte != padding) {
        return Err(LogError::Trailing { offset: reader.at + 4 });
    }
    Ok(Some(LogEnd::Mark))
}

fn record(reader: &mut Reader<'_>, index: usize) -> Result<LoggedEvent, LogError> {
    let truncated = || LogError::Truncated { index };
    let number = reader.u32().ok_or_else(truncated)?;
    let register = Register::from_ccel(number)
        .ok_or(LogError::RegisterOutOfRange { index, register: number })?;
    let event_type = EventType::from(reader.u32().ok_or_else(truncated)?);
    if reader.u32().ok_or_else(truncated)? != 1 || reader.u16().ok_or_else(truncated)? != SHA384 {
        return Err(LogError::OtherBank { index });
    }
    let digest: Hex48 = reader.array().map(FixedHex).ok_or_else(truncated)?;
    if event_type == EventType::NoAction && !digest.is_zero() {
        return Err(LogError::NoActionDigest { index });
    }
    let length = reader.u32().ok_or_else(truncated)?;
    let payload = reader.take_u32(length).ok_or_else(truncated)?.to_vec();
    Ok(LoggedEvent { register, event_type, digest, payload })
}

/// Takes bytes from the front; nothing is allocated by a length that the log claims.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.rest().get(..length)?;
        self.at += length;
        Some(taken)
    }

    fn take_u32(&mut self, length: u32) -> Option<&'a [u8]> {
        self.take(usize::try_from(length).ok()?)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
}

/// Fuzz entry: what parses has bounded records, replays to the registers that it gives, and to no others.
pub fn fuzz_ccel(data: &[u8]) {
    let Ok(log) = CcelLog::parse(data) else { return };
    let bare = CcelLog::without_padding(data).and_then(CcelLog::parse);
    assert_eq!(bare.map(|bare| bare.events).as_ref(), Ok(&log.events));
    assert!(log.events.len() <= MAX_RECORDS && data.len() <= MAX_LOG_BYTES);
    let payloads: usize = log.events.iter().map(|event| event.payload.len()).sum();
    assert!(payloads < data.len());
    let mut registers = log.replay();
    assert_eq!(log.check_replay(&registers), Ok(()));
    registers[0].0[0] ^= 1;
    assert!(log.check_replay(&registers).is_err());
    if let Ok(bindings) = log.check_payloads() {
        assert_eq!(bindings.len(), log.events.len());
    }
    let _ = log.check_separators();
}
