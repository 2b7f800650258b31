//! The boot log of a TDX VM's firmware, as the kernel shows it: the memory that the ACPI table CCEL points to.
//!
//! It explains the boot registers to a verifier, who replays it to the quote; without it, they must be ones that he knows.
//! Written from the kernel's documentation; it has not run on hardware yet.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sealtune_evidence::bundle::MAX_CCEL_BYTES;
use sealtune_evidence::logs::{CcelLog, ccel::MAX_LOG_BYTES};

pub(super) const DATA: &str = "/sys/firmware/acpi/tables/data/CCEL";

/// Without padding. One that is absent, too long or not of its form is left out: it would convince nobody.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    let mut area = Vec::new();
    let limit = u64::try_from(MAX_LOG_BYTES).ok()?;
    File::open(path).ok()?.take(limit).read_to_end(&mut area).ok()?;
    let log = CcelLog::without_padding(&area).ok()?;
    (log.len() <= MAX_CCEL_BYTES).then(|| log.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a log for SHA-384, and one event.
    fn log() -> Vec<u8> {
        let mut bytes = [1_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
        bytes.extend([0; 20]);
        bytes.extend(33_u32.to_le_bytes());
        bytes.extend(b"Spec ID Event03\0");
        bytes.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 12, 0, 48, 0, 0]);
        for word in [1_u32, 6, 1] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(12_u16.to_le_bytes());
        bytes.extend([7; 48]);
        bytes.extend(2_u32.to_le_bytes());
        bytes.extend(b"ok");
        bytes
    }

    #[test]
    fn a_log_is_read_without_its_padding_or_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("CCEL");
        assert_eq!(read(&path), None);
        let area = [log(), vec![0xff; 4096]].concat();
        std::fs::write(&path, &area).unwrap();
        assert_eq!(read(&path), Some(log()));
        std::fs::write(&path, &area[..80]).unwrap();
        assert_eq!(read(&path), None, "cut in the middle");
        std::fs::write(&path, vec![0xff; MAX_LOG_BYTES + 1]).unwrap();
        assert_eq!(read(&path), None);
        // Of its form, and longer than evidence may carry.
        let mut long = log();
        while long.len() <= MAX_CCEL_BYTES {
            long.extend_from_slice(&log()[65..]);
        }
        std::fs::write(&path, &long).unwrap();
        assert_eq!(read(&path), None);
    }
}
