//! How long evidence may take, by one formula for whoever makes it and whoever waits for it: nobody gives up before the one
//! whom he asked. It follows from the GPUs, which the launch configuration lists; the switches beside them it does not.
//!
//! ```text
//! customer: line, then the turn of the VM ─► supervisor: answer ─► agent: what a job has made, then this
//!                                                                  └─► GPU helper, then the quote
//! ```

use std::time::Duration;

/// A quote. The kernel's TDX driver and the agent give their quoting service as long.
pub const QUOTE: Duration = Duration::from_secs(30);
/// The GPU helper and the driver below it, before any device.
pub const GPU_HELPER: Duration = Duration::from_secs(30);
/// The first use of a GPU sets it up; the driver waits 5 seconds for a switch's certificates and 10 for its report.
const EACH_DEVICE: Duration = Duration::from_secs(15);
/// A helper that was killed is gone within this time, or stuck.
pub const GPU_HELPER_END: Duration = Duration::from_secs(5);
/// From one side to the other, past whatever else they say.
const WAY: Duration = Duration::from_secs(10);
/// In the line of strangers, before a VM is asked.
pub const LINE: Duration = Duration::from_secs(20);
/// For the provider to fetch what is missing of collateral.
pub const COLLATERAL: Duration = Duration::from_secs(10);
/// More than one VM has anywhere.
const MOST_DEVICES: usize = 64;
/// GPUs, for those who do not know what the VM has.
pub const LARGEST_MACHINE: usize = 8;
/// Eight GPUs have four switches beside them.
const GPUS_A_SWITCH: usize = 2;

/// What is `basic` without devices, with them.
#[must_use]
pub fn with_devices(basic: Duration, devices: usize) -> Duration {
    let devices = u32::try_from(devices.min(MOST_DEVICES)).unwrap_or(u32::MAX);
    basic.saturating_add(EACH_DEVICE.saturating_mul(devices))
}

/// One piece of evidence, made in the guest.
#[must_use]
pub fn evidence(gpus: usize) -> Duration {
    if gpus == 0 {
        return QUOTE;
    }
    // The helper is asked about GPUs and about switches, each time past one that was killed before.
    let ask = |devices| with_devices(GPU_HELPER + GPU_HELPER_END, devices);
    ask(gpus) + ask(gpus / GPUS_A_SWITCH) + GPU_HELPER_END + QUOTE
}

/// The agent's answer to a request for evidence: a job's own may be in the making.
#[must_use]
pub fn answer(gpus: usize) -> Duration {
    evidence(gpus) + evidence(gpus) + WAY
}

/// The turn of a VM, while one other question is before it.
#[must_use]
pub fn turn(gpus: usize) -> Duration {
    answer(gpus) + WAY
}

/// The whole of it, for a customer or a verifier.
#[must_use]
pub fn customer(gpus: usize) -> Duration {
    LINE + turn(gpus) + answer(gpus) + COLLATERAL + WAY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_has_more_patience_than_whom_he_asks() {
        for gpus in [0, 1, LARGEST_MACHINE, 48, usize::MAX] {
            let helper = |devices| GPU_HELPER_END + with_devices(GPU_HELPER, devices);
            let helpers = helper(gpus) + helper(gpus / 2) + GPU_HELPER_END;
            assert!(evidence(gpus) >= if gpus == 0 { QUOTE } else { helpers + QUOTE });
            assert!(answer(gpus) > evidence(gpus) * 2, "{gpus}");
            assert!(turn(gpus) > answer(gpus), "{gpus}");
            assert!(customer(gpus) > LINE + turn(gpus) + answer(gpus), "{gpus}");
        }
    }

    #[test]
    fn figures() {
        let seconds =
            |gpus| [evidence, answer, turn, customer].map(|formula| formula(gpus).as_secs());
        assert_eq!(seconds(0), [30, 70, 80, 190]);
        assert_eq!(seconds(1), [120, 250, 260, 550]);
        assert_eq!(seconds(8), [285, 580, 590, 1210]);
        assert_eq!(with_devices(GPU_HELPER, 8).as_secs(), 150);
        assert_eq!(evidence(usize::MAX), evidence(128));
    }
}
