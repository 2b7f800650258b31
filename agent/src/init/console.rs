//! What the console is told. In `prod` one code and nothing else: the console belongs to the host.

use std::fs::File;
use std::io::Write;

use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::InitError;
use super::profile::Profile;

const CONSOLE: &str = "/dev/console";
/// Not an error value: nothing but the panic hook says it.
pub(super) const PANIC_CODE: &str = "ST-AGENT-19";

/// Standard streams to the console of the new root, or to /dev/null where there is no console.
pub(super) fn attach() {
    let stream = File::options()
        .read(true)
        .write(true)
        .open(CONSOLE)
        .or_else(|_| File::options().read(true).write(true).open("/dev/null"));
    if let Ok(stream) = stream {
        // Without them output goes nowhere, which is no reason to stop.
        let _ = dup2_stdin(&stream);
        let _ = dup2_stdout(&stream);
        let _ = dup2_stderr(&stream);
    }
}

pub(super) fn report(profile: Profile, error: &InitError) {
    match profile {
        Profile::Prod => line(error.code()),
        Profile::Dev => {
            line(&format!("{} failed to {error} (fix: {})", error.code(), error.fix()));
        }
    }
}

pub(super) fn line(text: &str) {
    // Panics of println! on a closed console must not end process 1.
    let _ = writeln!(std::io::stdout(), "sealtune: {text}");
}

/// A crash line of the kernel carries a name that the crashed program chose. The command line of
/// a release says `loglevel=0` already; this holds whatever it says.
pub(super) fn silence_kernel() {
    let _ = std::fs::write("/proc/sys/kernel/printk", "1 4 1 7");
}

/// A panic of process 1 would be a kernel panic; a power-off is quiet and certain.
pub(super) fn power_off_on_panic() {
    std::panic::set_hook(Box::new(|_| {
        line(PANIC_CODE);
        let _ = reboot(RebootMode::RB_POWER_OFF);
    }));
}
