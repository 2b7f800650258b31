//! `sealtune serve`: configuration, the task that owns the pool of VMs, and the start and end of the daemon.

pub(crate) mod changes;
pub(crate) mod cli;
pub(crate) mod config;
pub(crate) mod pool;
pub(crate) mod serve;
