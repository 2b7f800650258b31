//! Whole judgements: a simulated AMD chain changed one thing at a time, and reports of real hardware.

#[cfg(feature = "simulated-tee")]
pub(crate) mod bundle;
mod hostile;
mod measurement;
mod rows;
mod scene;
mod simulated;
mod vectors;
