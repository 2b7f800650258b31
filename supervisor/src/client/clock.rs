//! This computer's clock and dice, in one place.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// A number up to `bound`, so that many clients do not come back at once.
pub(crate) fn jitter(bound: u64) -> u64 {
    let mut byte = [0; 1];
    if getrandom::fill(&mut byte).is_err() {
        return 0;
    }
    bound * u64::from(byte[0]) / 255
}

/// `2026-03-05 10:58:51Z` from Unix milliseconds.
pub(crate) fn shown(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| "-".into(), |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}
