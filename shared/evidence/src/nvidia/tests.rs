//! Whole judgements: simulated GPUs with one thing changed at a time, and what real hardware made.

pub(crate) mod bundle;
mod hostile;
mod inquiry;
mod machine;
mod pitfalls;
mod revocation;
mod rims;
mod scene;
mod vectors;
