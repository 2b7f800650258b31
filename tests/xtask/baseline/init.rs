//! Process 1 of the machine that boots are compared with: says that it is up, and powers off.

use std::io::Write as _;

const POWER_OFF: i32 = 0x4321_fedc;

unsafe extern "C" {
    fn reboot(command: i32) -> i32;
}

fn main() {
    let _ = std::io::stdout().write_all(b"sealtune-baseline-is-up\n");
    // SAFETY: the C library's reboot takes one number and touches no memory of ours.
    unsafe {
        reboot(POWER_OFF);
    }
}
