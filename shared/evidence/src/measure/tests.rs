//! Measurements against values that were computed or recorded elsewhere, and every way in which files can be wrong.

mod hardware;
mod kernel;
mod memory;
mod recipe;
mod record;
mod tdvf;
mod whole;
#[cfg(feature = "simulated-tee")]
mod witness;
