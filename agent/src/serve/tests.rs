//! The supervisor's part, played over a pipe. The simulated TEE is played too: its quotes carry report data and nothing
//! else.

mod control;
mod double;
mod dstack;
mod gpu;
mod gpu_double;
mod jobs;
