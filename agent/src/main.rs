//! The Sealtune agent: one static program, five roles, each a process of its own.

#![deny(unsafe_code, unsafe_op_in_unsafe_fn)]

mod container;
mod device;
mod gpu;
mod init;
mod seccomp;
mod serve;
mod tee;
mod unpack;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        // The kernel's command line may add words: process 1 is init whatever they are.
        _ if std::process::id() == 1 => init::run(),
        Some("serve") => serve::run(),
        Some("run-container") => container::run(),
        Some(unpack::ROLE) => unpack::run(),
        Some("tee") => tee::role::run(),
        _ => {
            eprintln!("usage: sealtune-agent serve|run-container|unpack-archive|tee");
            ExitCode::from(2)
        }
    }
}
