//! The Sealtune agent: one static program, three roles, each a process of its own.

#![deny(unsafe_code, unsafe_op_in_unsafe_fn)]

mod container;
mod device;
mod init;
mod serve;
mod tee;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        // The kernel's command line may add words: process 1 is init whatever they are.
        _ if std::process::id() == 1 => init::run(),
        Some("serve") => serve::run(),
        Some("run-container") => container::run(),
        _ => {
            eprintln!("usage: sealtune-agent serve|run-container");
            ExitCode::from(2)
        }
    }
}
