//! Virtual machines: what this host can run, the command line, the processes, the connection, and the one task that
//! owns each VM ([`task`]).

pub(crate) mod arguments;
pub(crate) mod collateral;
pub(crate) mod definition;
pub(crate) mod image;
pub(crate) mod link;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod quoting;
pub(crate) mod state;
pub(crate) mod streams;
pub(crate) mod task;
pub(crate) mod tee;
pub(crate) mod transport;
