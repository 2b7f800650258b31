//! A strict reader of DER (ITU-T X.690): low tag numbers, definite lengths in their shortest form, nothing left over.
//!
//! It reads what certificates, DICE extensions and OCSP responses need and nothing else.

use crate::time::parse_rfc3339;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
const NULL: u8 = 0x05;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DerError {
    #[error("a value is cut short")]
    Truncated,
    #[error("expected a value of type {expected:#04x}, found {found:#04x}")]
    Tag { expected: u8, found: u8 },
    #[error("a type or length is not in its shortest form")]
    Form,
    #[error("there are bytes after the last value")]
    Trailing,
    #[error("{0}")]
    Value(&'static str),
}

/// The values that follow each other in some bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// With type and length.
    pub(crate) whole: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The content of the one value that these bytes must be.
    pub(crate) fn only(bytes: &'a [u8], tag: u8) -> Result<Self, DerError> {
        let mut reader = Self::new(bytes);
        let content = reader.enter(tag)?;
        reader.finish()?;
        Ok(content)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn finish(self) -> Result<(), DerError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DerError::Trailing) }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(crate) fn next(&mut self) -> Result<Value<'a>, DerError> {
        let (&tag, after_tag) = self.rest.split_first().ok_or(DerError::Truncated)?;
        if tag & 0x1f == 0x1f {
            return Err(DerError::Form);
        }
        let (length, after_length) = read_length(after_tag)?;
        let (content, rest) = after_length.split_at_checked(length).ok_or(DerError::Truncated)?;
        let header = self.rest.len() - after_length.len();
        let whole = self.rest.get(..header + length).ok_or(DerError::Truncated)?;
        self.rest = rest;
        Ok(Value { tag, content, whole })
    }

    pub(crate) fn value(&mut self, tag: u8) -> Result<Value<'a>, DerError> {
        let value = self.next()?;
        if value.tag == tag {
            Ok(value)
        } else {
            Err(DerError::Tag { expected: tag, found: value.tag })
        }
    }

    pub(crate) fn content(&mut self, tag: u8) -> Result<&'a [u8], DerError> {
        Ok(self.value(tag)?.content)
    }

    pub(crate) fn enter(&mut self, tag: u8) -> Result<Self, DerError> {
        Ok(Self::new(self.content(tag)?))
    }

    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Value<'a>>, DerError> {
        if self.peek() == Some(tag) { self.next().map(Some) } else { Ok(None) }
    }

    /// Bytes of an integer that is not negative, without the zero that may stand before them.
    pub(crate) fn unsigned(&mut self) -> Result<&'a [u8], DerError> {
        match self.content(INTEGER)? {
            [] => Err(DerError::Value("an integer has no bytes")),
            [0] => Ok(&[]),
            [0, rest @ ..] if rest.first().is_some_and(|byte| *byte >= 0x80) => Ok(rest),
            [0, ..] => Err(DerError::Form),
            bytes if bytes.first().is_some_and(|byte| *byte >= 0x80) => {
                Err(DerError::Value("an integer is negative"))
            }
            bytes => Ok(bytes),
        }
    }

    pub(crate) fn small(&mut self) -> Result<u8, DerError> {
        match self.unsigned()? {
            [] => Ok(0),
            [value] => Ok(*value),
            _ => Err(DerError::Value("an integer is too big")),
        }
    }

    /// Bytes of a bit string of whole bytes.
    pub(crate) fn bytes_of_bits(&mut self) -> Result<&'a [u8], DerError> {
        match self.content(BIT_STRING)? {
            [0, bytes @ ..] => Ok(bytes),
            _ => Err(DerError::Value("a bit string is not of whole bytes")),
        }
    }

    /// An algorithm identifier without parameters, or with NULL where older encoders write it.
    pub(crate) fn algorithm(&mut self) -> Result<&'a [u8], DerError> {
        let mut inner = self.enter(SEQUENCE)?;
        let oid = inner.content(OID)?;
        if let Some(null) = inner.optional(NULL)?
            && !null.content.is_empty()
        {
            return Err(DerError::Form);
        }
        inner.finish()?;
        Ok(oid)
    }

    /// Unix seconds of a UTCTime or GeneralizedTime with seconds and `Z`.
    pub(crate) fn time(&mut self) -> Result<u64, DerError> {
        let value = self.next()?;
        read_time(value)
    }

    pub(crate) fn boolean(&mut self) -> Result<bool, DerError> {
        match self.content(BOOLEAN)? {
            [0] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(DerError::Form),
        }
    }
}

fn read_length(bytes: &[u8]) -> Result<(usize, &[u8]), DerError> {
    let (&first, rest) = bytes.split_first().ok_or(DerError::Truncated)?;
    if first < 0x80 {
        return Ok((usize::from(first), rest));
    }
    let count = usize::from(first & 0x7f);
    if !(1..=3).contains(&count) {
        return Err(DerError::Form);
    }
    let (digits, rest) = rest.split_at_checked(count).ok_or(DerError::Truncated)?;
    let length = digits.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    let shortest = length >= 0x80 && digits.first().is_some_and(|byte| *byte != 0);
    if shortest { Ok((length, rest)) } else { Err(DerError::Form) }
}

fn read_time(value: Value<'_>) -> Result<u64, DerError> {
    const BAD: DerError = DerError::Value("a time is not of the form that certificates have");
    let text = str::from_utf8(value.content).map_err(|_| BAD)?;
    let (century, digits) = match (value.tag, text.len()) {
        // RFC 5280: years 50 to 99 are of the last century.
        (UTC_TIME, 13) if text.as_bytes().first().is_some_and(|digit| *digit >= b'5') => {
            ("19", text)
        }
        (UTC_TIME, 13) => ("20", text),
        (GENERALIZED_TIME, 15) => ("", text),
        _ => return Err(BAD),
    };
    let whole = format!("{century}{digits}");
    let part = |range: std::ops::Range<usize>| whole.get(range).ok_or(BAD);
    let rfc3339 = format!(
        "{}-{}-{}T{}:{}:{}{}",
        part(0..4)?,
        part(4..6)?,
        part(6..8)?,
        part(8..10)?,
        part(10..12)?,
        part(12..14)?,
        part(14..15)?
    );
    parse_rfc3339(&rfc3339).ok_or(BAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_every_longer_form() {
        for bytes in [
            &[0x04, 0x81, 0x01, 0x00][..],
            &[0x04, 0x82, 0x00, 0x80],
            &[0x04, 0x80],
            &[0x1f, 0x01, 0x00],
            &[0x04, 0x84, 0, 0, 0, 1, 0],
            &[0x04, 0x02, 0x00],
            &[0x04],
        ] {
            assert!(Reader::new(bytes).next().is_err(), "{bytes:?}");
        }
        let mut reader = Reader::new(&[0x04, 0x01, 0x07, 0x05, 0x00]);
        assert_eq!(reader.content(OCTET_STRING), Ok(&[7][..]));
        assert!(reader.finish().is_err());
    }

    #[test]
    fn integers_have_one_spelling() {
        for (bytes, expected) in [
            (&[2, 1, 0][..], Ok(&[][..])),
            (&[2, 2, 0, 0x80], Ok(&[0x80][..])),
            (&[2, 1, 0x7f], Ok(&[0x7f][..])),
            (&[2, 2, 0, 0x7f], Err(())),
            (&[2, 1, 0x80], Err(())),
            (&[2, 0], Err(())),
        ] {
            assert_eq!(Reader::new(bytes).unsigned().map_err(|_| ()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn times_of_both_forms() {
        let time = |tag: u8, text: &str| {
            let mut bytes = vec![tag, u8::try_from(text.len()).expect("short")];
            bytes.extend(text.as_bytes());
            Reader::new(&bytes).time()
        };
        assert_eq!(time(UTC_TIME, "260305105851Z"), Ok(1_772_708_331));
        assert_eq!(time(GENERALIZED_TIME, "20260305105851Z"), Ok(1_772_708_331));
        assert_eq!(time(GENERALIZED_TIME, "99991231235959Z"), Ok(253_402_300_799));
        for (tag, text) in [
            (UTC_TIME, "2603051058Z"),
            (UTC_TIME, "260305105851+"),
            (GENERALIZED_TIME, "20260230105851Z"),
            (GENERALIZED_TIME, "20260305105851.5Z"),
            (OCTET_STRING, "20260305105851Z"),
            (UTC_TIME, "600305105851Z"),
        ] {
            assert!(time(tag, text).is_err(), "{text}");
        }
    }
}
