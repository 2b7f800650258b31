//! Whether the boot events in a log are the expected ones, event by event.
//!
//! A log proves nothing before it was replayed to a quote ([`crate::logs`]); call this afterwards.

use super::{
    error::{EventDifference, MeasureError},
    image::ExpectedEvent,
    recipe::DigestSource,
};
use crate::{
    fixed_hex::Hex48,
    logs::{LoggedEvent, Register},
};

/// How much must be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strictness {
    /// Every digest.
    Full,
    /// Count, type and order of all events, and every digest but those of the list of memory and of the ACPI tables. A host
    /// that is free in these puts code of its own (AML) into the guest's kernel.
    LayoutFree,
}

/// A digest that was not held against an expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeDigest {
    pub name: String,
    pub source: DigestSource,
    pub found: Hex48,
    /// None where the recipe holds no recording for the shape.
    pub expected: Option<Hex48>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Empty where everything is equal.
    pub free: Vec<FreeDigest>,
}

/// Compares RTMR0 to RTMR2 of a log. Events of RTMR3 and those that extend nothing are skipped.
pub fn compare(
    expected: &[ExpectedEvent],
    logged: &[LoggedEvent],
    strictness: Strictness,
) -> Result<Comparison, MeasureError> {
    let mut free = Vec::new();
    for register in [Register::Rtmr0, Register::Rtmr1, Register::Rtmr2] {
        free.extend(compare_register(register, expected, logged, strictness)?.free);
    }
    Ok(Comparison { free })
}

/// The same for one register.
pub fn compare_register(
    register: Register,
    expected: &[ExpectedEvent],
    logged: &[LoggedEvent],
    strictness: Strictness,
) -> Result<Comparison, MeasureError> {
    let expected: Vec<_> = expected.iter().filter(|event| event.register == register).collect();
    let logged: Vec<_> = logged
        .iter()
        .filter(|event| event.register == register && event.extended_into().is_some())
        .collect();
    if expected.len() != logged.len() {
        return Err(MeasureError::EventCount {
            register,
            found: logged.len(),
            expected: expected.len(),
        });
    }
    let mut free = Vec::new();
    for (index, (expected, logged)) in expected.iter().zip(&logged).enumerate() {
        free.extend(compare_event(index, expected, logged, strictness)?);
    }
    Ok(Comparison { free })
}

fn compare_event(
    index: usize,
    expected: &ExpectedEvent,
    logged: &LoggedEvent,
    strictness: Strictness,
) -> Result<Option<FreeDigest>, MeasureError> {
    if expected.event_type != logged.event_type {
        return Err(MeasureError::EventType {
            register: expected.register,
            index,
            name: expected.name.clone(),
            found: logged.event_type,
            expected: expected.event_type,
        });
    }
    if expected.digest == Some(logged.digest) {
        return Ok(None);
    }
    if strictness == Strictness::LayoutFree && expected.source.is_host_layout() {
        return Ok(Some(FreeDigest {
            name: expected.name.clone(),
            source: expected.source,
            found: logged.digest,
            expected: expected.digest,
        }));
    }
    match expected.digest {
        None => Err(MeasureError::NotRecorded(expected.source)),
        Some(digest) => Err(MeasureError::EventDigest(Box::new(EventDifference {
            register: expected.register,
            index,
            name: expected.name.clone(),
            found: logged.digest,
            expected: digest,
        }))),
    }
}
