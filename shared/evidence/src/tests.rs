//! Whole appraisals: simulated round trips, one change at a time, and quotes of real hardware.

mod hardware;
mod hostile;
mod negative;
mod scene;
mod simulated;
