//! "Simulated layout 1": what the simulated TEE's registers hold for an image. Pure; one file, so that
//! another implementation can take its place. Hardware measures otherwise.
//!
//! | register | content |
//! |---|---|
//! | MRTD | SHA-384 of the firmware file |
//! | RTMR0 | event `shape`, payload the canonical JSON of vCPUs and memory |
//! | RTMR1 | event `kernel`, payload SHA-384 of the kernel file |
//! | RTMR2 | events `cmdline` (the line's bytes) and `initramfs` (SHA-384 of the file) |
//!
//! Event digest = SHA-384(name ‖ 0x00 ‖ payload); a register starts at zero, extend = SHA-384(old ‖ digest).

use serde::{Deserialize, Serialize};

use crate::digest::sha384;
use crate::error::ImageError;

pub type Register = [u8; 48];

/// The machine's shape as it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub memory_mib: u64,
    pub vcpus: u32,
}

/// One entry of the simulated event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub register: u8,
    pub name: String,
    pub digest: String,
}

#[must_use]
pub fn event_digest(name: &str, payload: &[u8]) -> Register {
    sha384(&[name.as_bytes(), &[0], payload])
}

#[must_use]
pub fn extend(register: &Register, digest: &Register) -> Register {
    sha384(&[register, digest])
}

/// # Errors
/// The canonical form could not be made.
pub fn shape_bytes(shape: Shape) -> Result<Vec<u8>, ImageError> {
    serde_json_canonicalizer::to_vec(&shape)
        .map_err(|error| ImageError::Encode { what: "the shape", detail: error.to_string() })
}

/// # Errors
/// The canonical form of the shape could not be made.
pub fn rtmr0(shape: Shape) -> Result<Register, ImageError> {
    Ok(extend(&[0; 48], &event_digest("shape", &shape_bytes(shape)?)))
}

#[must_use]
pub fn rtmr1(kernel: &Register) -> Register {
    extend(&[0; 48], &event_digest("kernel", kernel))
}

#[must_use]
pub fn rtmr2(command_line: &str, initramfs: &Register) -> Register {
    let after_line = extend(&[0; 48], &event_digest("cmdline", command_line.as_bytes()));
    extend(&after_line, &event_digest("initramfs", initramfs))
}

/// The events of an image, in the order they are extended.
#[must_use]
pub fn image_events(kernel: &Register, command_line: &str, initramfs: &Register) -> Vec<Event> {
    let event = |register, name: &str, payload: &[u8]| Event {
        register,
        name: name.to_owned(),
        digest: hex::encode(event_digest(name, payload)),
    };
    vec![
        event(1, "kernel", kernel),
        event(2, "cmdline", command_line.as_bytes()),
        event(2, "initramfs", initramfs),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_canonical() {
        let shape = Shape { memory_mib: 2048, vcpus: 2 };
        assert_eq!(shape_bytes(shape).unwrap(), br#"{"memory_mib":2048,"vcpus":2}"#);
    }

    #[test]
    fn known_registers() {
        // Computed independently with Python's hashlib from the table above.
        let kernel = sha384(&[b"kernel"]);
        let initramfs = sha384(&[b"initramfs"]);
        assert_eq!(hex::encode(rtmr0(Shape { memory_mib: 2048, vcpus: 2 }).unwrap()), RTMR0);
        assert_eq!(hex::encode(rtmr1(&kernel)), RTMR1);
        assert_eq!(hex::encode(rtmr2("console=ttyS0", &initramfs)), RTMR2);
    }

    const RTMR0: &str = "e157a2692d055013fe6b42159359e43581193f95f49fdfc31f7da2b99f6d400d571c017b5213fd718deefdfe8a0dc4f7";
    const RTMR1: &str = "079a07a0bb8107462d942fa4b3cf1049329d35b5592cab183871b109068f3aff10132278752c2c8627c1f75a8f88f8e5";
    const RTMR2: &str = "78030e6090a2ac1e822e3165d7c5c877a8f4357e8a3e48110323219a193abb013f47673f771f839bda157828687fc0ed";

    #[test]
    fn registers_are_the_events_extended() {
        let (kernel, initramfs) = (sha384(&[b"k"]), sha384(&[b"i"]));
        let mut registers = [[0; 48]; 4];
        for event in image_events(&kernel, "x=1", &initramfs) {
            let digest: Register = hex::decode(&event.digest).unwrap().try_into().unwrap();
            let register = &mut registers[usize::from(event.register)];
            *register = extend(register, &digest);
        }
        assert_eq!(registers[1], rtmr1(&kernel));
        assert_eq!(registers[2], rtmr2("x=1", &initramfs));
    }
}
