//! Whole appraisals: simulated round trips, one change at a time, and quotes of real hardware.

mod boot_log;
mod collateral;
mod dstack;
mod hardware;
mod hostile;
mod inventory;
mod mutations;
mod negative;
mod pitfalls;
mod rows;
pub(crate) mod scene;
mod simulated;
mod worth;
