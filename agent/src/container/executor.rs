//! Runs inside the container's first process, between libcontainer's preparation and the program:
//! puts on the seccomp filters while the container still waits to be started, so that the outside
//! can read them back, starts the program and stays behind as its process 1.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, execvp};
use oci_spec::runtime::Spec;

use super::first;
use super::inherited;
use crate::seccomp::Filters;

#[derive(Debug, Clone)]
pub(crate) struct SealedExecutor {
    filters: Filters,
    /// Closed by a successful exec; else it takes the reason. No exit code can then be mistaken
    /// for the program's own.
    refusal: Arc<OwnedFd>,
    /// Where process 1 writes how the program ended.
    told: Arc<OwnedFd>,
}

impl SealedExecutor {
    pub(crate) fn new(filters: Filters, refusal: OwnedFd, told: OwnedFd) -> Self {
        Self { filters, refusal: Arc::new(refusal), told: Arc::new(told) }
    }

    /// The program's side of the fork: replaces itself, or says why not.
    fn become_program(&self, arguments: &[CString]) -> ExecutorError {
        let Some(program) = arguments.first() else { return self.refuse("there is no program") };
        // `run-container` blocks signals to wait for them, and Rust ignores SIGPIPE: neither is
        // the program's business.
        if let Err(errno) = SigSet::empty().thread_set_mask() {
            return self.refuse(&errno.to_string());
        }
        inherited::restore_sigpipe();
        match execvp(program, arguments) {
            Ok(never) => match never {},
            Err(errno) => self.refuse(&format!("{}: {errno}", program.to_string_lossy())),
        }
    }

    fn refuse(&self, reason: &str) -> ExecutorError {
        // The other side sees the process end even where this cannot be written.
        let _ = nix::unistd::write(&self.refusal, reason.as_bytes());
        ExecutorError::Other(reason.to_owned())
    }
}

impl Executor for SealedExecutor {
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        self.filters.install().map_err(ExecutorValidationError::ArgValidationError)
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let arguments = spec.process().as_ref().and_then(|process| process.args().as_ref());
        let arguments: Vec<CString> = arguments
            .into_iter()
            .flatten()
            .map(|argument| CString::new(argument.as_bytes()))
            .collect::<Result<_, _>>()
            .map_err(|_| self.refuse("an argument holds a zero byte"))?;
        let told = self.told.try_clone().map_err(|error| self.refuse(&error.to_string()))?;
        match inherited::fork().map_err(|errno| self.refuse(&errno.to_string()))? {
            ForkResult::Parent { child } => first::stand_by(child, told),
            ForkResult::Child => {
                let _refused = self.become_program(&arguments);
                std::process::exit(1)
            }
        }
    }
}
