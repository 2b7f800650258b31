//! How far an event's payload can be believed: recomputing the digest from it, where its type says how.
//!
//! Source: TCG PC Client Platform Firmware Profile 1.06, section 10.4, and what EDK II does in TDX guests. Measured files
//! (kernel, firmware volumes, ACPI tables) leave only a description in the log; for these the verifier must know the digest.

use ring::digest;

use super::{
    error::LogError,
    event::{EventType, LoggedEvent},
};
use crate::fixed_hex::Hex48;

/// What of an event's payload its digest covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binding {
    /// Every byte.
    Payload,
    /// Of a UEFI variable only its value; name and vendor are a comment.
    VariableValue,
    /// The boot loader's command without the prefix that the log adds.
    Command,
    /// Nothing: the payload is a comment.
    Comment,
}

/// How the digest of one kind of event is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// SHA-384 of the payload.
    Whole,
    /// SHA-384 of the payload, or (EDK II) of the variable's value alone.
    WholeOrValue,
    /// SHA-384 of the command; boot loaders differ, so what does not fit is a comment.
    Command,
    /// Of bytes that are not in the log.
    Elsewhere,
}

fn rule(event_type: EventType) -> Rule {
    match event_type {
        EventType::Separator
        | EventType::CrtmVersion
        | EventType::Action
        | EventType::VariableDriverConfig
        | EventType::VariableAuthority
        | EventType::Gpt => Rule::Whole,
        EventType::VariableBoot => Rule::WholeOrValue,
        EventType::Ipl => Rule::Command,
        _ => Rule::Elsewhere,
    }
}

/// Ties the payload of the event at `index` to its digest, or refuses it where its type says what the digest must be.
pub fn bind(index: usize, event: &LoggedEvent) -> Result<Binding, LogError> {
    let hashes_to = |bytes: &[u8]| sha384(bytes) == event.digest;
    let refused = || LogError::PayloadDigest { index, event_type: event.event_type };
    match rule(event.event_type) {
        Rule::Whole if hashes_to(&event.payload) => Ok(Binding::Payload),
        Rule::Whole => Err(refused()),
        Rule::WholeOrValue if hashes_to(&event.payload) => Ok(Binding::Payload),
        Rule::WholeOrValue => match variable_value(&event.payload) {
            Some(value) if hashes_to(value) => Ok(Binding::VariableValue),
            _ => Err(refused()),
        },
        Rule::Command if command(&event.payload).is_some_and(hashes_to) => Ok(Binding::Command),
        Rule::Command | Rule::Elsewhere => Ok(Binding::Comment),
    }
}

/// Binds every event, in order; one answer for each.
pub fn bind_all(events: &[LoggedEvent]) -> Result<Vec<Binding>, LogError> {
    events.iter().enumerate().map(|(index, event)| bind(index, event)).collect()
}

/// The value in a `UEFI_VARIABLE_DATA`: GUID, two 64-bit lengths (name in characters, value in bytes), name, value.
fn variable_value(payload: &[u8]) -> Option<&[u8]> {
    let (lengths, rest) = payload.get(16..)?.split_at_checked(16)?;
    let length = |at: usize| -> Option<usize> {
        let bytes: [u8; 8] = lengths.get(at..at + 8)?.try_into().ok()?;
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let value = rest.get(length(0)?.checked_mul(2)?..)?;
    (value.len() == length(8)?).then_some(value)
}

/// What GRUB measures of a command: the text behind `grub_cmd: ` or `kernel_cmdline: `, without the final zero byte.
fn command(payload: &[u8]) -> Option<&[u8]> {
    let text = payload.strip_suffix(&[0]).unwrap_or(payload);
    [b"grub_cmd: ".as_slice(), b"kernel_cmdline: ".as_slice()]
        .iter()
        .find_map(|prefix| text.strip_prefix(*prefix))
}

pub(crate) fn sha384(bytes: &[u8]) -> Hex48 {
    let mut value = [0; 48];
    value.copy_from_slice(digest::digest(&digest::SHA384, bytes).as_ref());
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{codes::Code, event::Register};

    fn event(event_type: EventType, digested: &[u8], payload: &[u8]) -> LoggedEvent {
        LoggedEvent {
            register: Register::Rtmr0,
            event_type,
            digest: sha384(digested),
            payload: payload.to_vec(),
        }
    }

    fn variable(name: &str, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![7; 16];
        bytes.extend(name.encode_utf16().count().to_le_bytes());
        bytes.extend(value.len().to_le_bytes());
        bytes.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
        bytes.extend(value);
        bytes
    }

    /// Row 37: where the type says how, a payload that its digest does not cover is refused; elsewhere it is a comment.
    #[test]
    fn each_type_has_its_rule() {
        let boot_order = variable("BootOrder", &[0, 0]);
        let cases = [
            (EventType::Separator, &[0; 4][..], &[0; 4][..], Some(Binding::Payload)),
            (EventType::Separator, &[0; 4], &[1, 0, 0, 0], None),
            (EventType::Action, b"Exit", b"Exit", Some(Binding::Payload)),
            (EventType::Action, b"Exit", b"exit", None),
            (EventType::CrtmVersion, b"1", b"2", None),
            (EventType::Gpt, b"table", b"table", Some(Binding::Payload)),
            (EventType::Gpt, b"table", b"other", None),
            (EventType::VariableDriverConfig, &boot_order, &boot_order, Some(Binding::Payload)),
            (EventType::VariableDriverConfig, &[0, 0], &boot_order, None),
            (EventType::VariableAuthority, b"a", b"b", None),
            (EventType::VariableBoot, &boot_order, &boot_order, Some(Binding::Payload)),
            (EventType::VariableBoot, &[0, 0], &boot_order, Some(Binding::VariableValue)),
            (EventType::VariableBoot, &[0, 1], &boot_order, None),
            (EventType::VariableBoot, b"short", b"shor", None),
            (EventType::Ipl, b"linux /x", b"grub_cmd: linux /x\0", Some(Binding::Command)),
            (EventType::Ipl, b"linux /x", b"kernel_cmdline: linux /x", Some(Binding::Command)),
            (EventType::Ipl, b"file", b"(hd0)/grub.cfg", Some(Binding::Comment)),
            (EventType::BootServicesApplication, b"kernel", b"path", Some(Binding::Comment)),
            (EventType::Other(77), b"x", b"y", Some(Binding::Comment)),
        ];
        for (event_type, digested, payload, expected) in cases {
            let found = bind(3, &event(event_type, digested, payload));
            match expected {
                Some(binding) => assert_eq!(found, Ok(binding), "{event_type} {payload:?}"),
                None => {
                    let error = found.expect_err("refused");
                    assert_eq!(error.entry(), Code::PayloadDigest);
                    assert_eq!(error, LogError::PayloadDigest { index: 3, event_type });
                }
            }
        }
    }

    #[test]
    fn lengths_in_a_variable_that_lie_are_no_value() {
        let good = variable("Boot0000", b"value");
        assert_eq!(variable_value(&good), Some(&b"value"[..]));
        for (at, byte) in [(16, 0xff), (23, 0xff), (24, 4), (31, 0x80)] {
            let mut lying = good.clone();
            lying[at] = byte;
            assert_eq!(variable_value(&lying), None, "byte {at}");
        }
        for length in 0..good.len() {
            assert_eq!(variable_value(&good[..length]), None, "{length} bytes");
        }
    }
}
