//! `sealtune-image`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sealtune_image::cli::run()
}
