//! Simulated layout 1: what the simulated TEE measures, and into which register.
//!
//! | register | events |
//! |---|---|
//! | MRTD | SHA-384 of the firmware file |
//! | RTMR0 | `shape`: the canonical JSON of the shape |
//! | RTMR1 | `kernel`: SHA-384 of the kernel file |
//! | RTMR2 | `cmdline`: the bytes of the command line; `initramfs`: SHA-384 of the initramfs file |
//! | RTMR3 | the agent's |
//!
//! Hardware recipes replace this one without touching quote or verifier.

use sealtune_seal::canonical;
use serde::{Deserialize, Serialize};

use crate::{
    event_log::{Event, EventLog},
    fixed_hex::Hex48,
    launch::Shape,
};

/// The digests of the files that a VM is started from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// SHA-384 of the firmware file.
    pub firmware: Hex48,
    /// SHA-384 of the kernel file.
    pub kernel: Hex48,
    /// SHA-384 of the initramfs file.
    pub initramfs: Hex48,
    pub cmdline: String,
}

/// The registers that are final when the guest kernel starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootRegisters {
    pub mrtd: Hex48,
    pub rtmr0: Hex48,
    pub rtmr1: Hex48,
    pub rtmr2: Hex48,
}

/// What a VM measures before its first own instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootMeasurement {
    pub registers: BootRegisters,
    pub log: EventLog,
}

/// SHA-384 of a whole file that is already in memory.
pub fn file_digest(bytes: &[u8]) -> Hex48 {
    let mut digest = [0; 48];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA384, bytes).as_ref());
    digest.into()
}

/// Measures `files` in a VM of `shape`.
pub fn measure(
    files: &BootFiles,
    shape: Shape,
) -> Result<BootMeasurement, sealtune_seal::canonical::CanonicalError> {
    let log = EventLog {
        events: vec![
            Event::new(0, "shape", canonical::to_vec(&shape)?),
            Event::new(1, "kernel", files.kernel.0.to_vec()),
            Event::new(2, "cmdline", files.cmdline.as_bytes().to_vec()),
            Event::new(2, "initramfs", files.initramfs.0.to_vec()),
        ],
    };
    let [rtmr0, rtmr1, rtmr2, _] = log.replay();
    Ok(BootMeasurement {
        registers: BootRegisters { mrtd: files.firmware, rtmr0, rtmr1, rtmr2 },
        log,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn files() -> BootFiles {
        BootFiles {
            firmware: file_digest(b"firmware"),
            kernel: file_digest(b"kernel"),
            initramfs: file_digest(b"initramfs"),
            cmdline: "console=ttyS0 sealtune.profile=dev".into(),
        }
    }

    pub(crate) const SHAPE: Shape = Shape { vcpus: 2, memory_mib: 2048 };

    #[test]
    fn each_input_moves_its_own_register() {
        let base = measure(&files(), SHAPE).expect("measures").registers;
        let with = |change: fn(&mut BootFiles)| {
            let mut files = files();
            change(&mut files);
            measure(&files, SHAPE).expect("measures").registers
        };
        let differs = |other: BootRegisters| {
            [
                base.mrtd != other.mrtd,
                base.rtmr0 != other.rtmr0,
                base.rtmr1 != other.rtmr1,
                base.rtmr2 != other.rtmr2,
            ]
        };
        assert_eq!(differs(with(|f| f.firmware.0[0] ^= 1)), [true, false, false, false]);
        assert_eq!(differs(with(|f| f.kernel.0[0] ^= 1)), [false, false, true, false]);
        assert_eq!(differs(with(|f| f.initramfs.0[0] ^= 1)), [false, false, false, true]);
        assert_eq!(differs(with(|f| f.cmdline.push(' '))), [false, false, false, true]);
        let bigger = Shape { vcpus: 4, ..SHAPE };
        let registers = measure(&files(), bigger).expect("measures").registers;
        assert_eq!(differs(registers), [false, true, false, false]);
    }

    /// Computed independently: `python3 -c` with hashlib over the recipe in the module documentation.
    #[test]
    fn the_values_are_fixed_for_ever() {
        let registers = measure(&files(), SHAPE).expect("measures").registers;
        assert_eq!(
            registers.mrtd.to_string(),
            "bbf7209c1a756b2747bba45f37c0244e5d5e9d03231528d52223b7303d0d157a209a54370f245c3fedc3f3bd96795e95"
        );
        assert_eq!(
            registers.rtmr0.to_string(),
            "e157a2692d055013fe6b42159359e43581193f95f49fdfc31f7da2b99f6d400d571c017b5213fd718deefdfe8a0dc4f7"
        );
        assert_eq!(
            registers.rtmr1.to_string(),
            "079a07a0bb8107462d942fa4b3cf1049329d35b5592cab183871b109068f3aff10132278752c2c8627c1f75a8f88f8e5"
        );
        assert_eq!(
            registers.rtmr2.to_string(),
            "de09e05805095723c54f6d9030a591a165053faa414708c2a3dcfe96d1cf1c6e50b2c8a4793024c9ec564739b641a4b3"
        );
    }
}
