//! Opens a layer through dm-verity. Root and all parameters come from the caller (the launch
//! configuration or the job specification); a superblock on the disk is never read. A block that
//! does not match the tree reads as an I/O error.

use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::DeviceError;
use super::disks::{self, Disk};
use super::dm::{Mapper, Target, errno_of};

const BLOCK_BYTES: u64 = 4096;
const SECTORS_A_BLOCK: u64 = BLOCK_BYTES / 512;
const HASHES_A_BLOCK: u64 = BLOCK_BYTES / 32;
const ROOT_CHARACTERS: usize = 64;
const MAX_SALT_CHARACTERS: usize = 512;
const CONTROL: &str = "/dev/mapper/control";

/// SHA-256 over blocks of 4096 bytes, data and hash tree on one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VerityParams {
    pub(crate) root_hex: String,
    pub(crate) data_blocks: u64,
    /// Where the hash tree starts, in bytes.
    pub(crate) hash_offset: u64,
    /// Empty for none.
    pub(crate) salt_hex: String,
}

impl VerityParams {
    fn check(&self) -> Result<(), DeviceError> {
        if self.root_hex.len() != ROOT_CHARACTERS || !is_lower_hex(&self.root_hex) {
            return Err(DeviceError::Parameters("the root is not 64 hex characters"));
        }
        if self.salt_hex.len() > MAX_SALT_CHARACTERS
            || !self.salt_hex.len().is_multiple_of(2)
            || !is_lower_hex(&self.salt_hex)
        {
            return Err(DeviceError::Parameters("the salt is not hex or too long"));
        }
        let data_bytes = self
            .data_blocks
            .checked_mul(BLOCK_BYTES)
            .filter(|bytes| *bytes > 0)
            .ok_or(DeviceError::Parameters("the number of data blocks is zero or too large"))?;
        if !self.hash_offset.is_multiple_of(BLOCK_BYTES) {
            return Err(DeviceError::Parameters("the hash tree does not start on a block"));
        }
        if self.hash_offset < data_bytes {
            return Err(DeviceError::Parameters("the hash tree lies within the data"));
        }
        Ok(())
    }

    /// Bytes that the disk must hold: the data and every level of the tree.
    fn needed_bytes(&self) -> u64 {
        let mut blocks = self.data_blocks;
        let mut tree = 0u64;
        while blocks > 1 {
            blocks = blocks.div_ceil(HASHES_A_BLOCK);
            tree += blocks;
        }
        // A single data block still has one hash block.
        self.hash_offset.saturating_add(tree.max(1).saturating_mul(BLOCK_BYTES))
    }

    fn target(&self, disk: &Disk) -> Target {
        let salt = if self.salt_hex.is_empty() { "-" } else { &self.salt_hex };
        Target {
            sectors: self.data_blocks * SECTORS_A_BLOCK,
            kind: "verity",
            line: format!(
                "1 {disk} {disk} {BLOCK_BYTES} {BLOCK_BYTES} {} {} sha256 {} {salt}",
                self.data_blocks,
                self.hash_offset / BLOCK_BYTES,
                self.root_hex,
                disk = disk.number,
            ),
        }
    }

    fn mapped_name(&self) -> String {
        format!("sealtune-{}", self.root_hex)
    }
}

/// Opens the layer with this root from the disk that carries it as serial; gives the device node.
pub(crate) fn open_layer(params: &VerityParams) -> Result<PathBuf, DeviceError> {
    params.check()?;
    let disk = disks::find_by_serial(Path::new("/sys"), disks::layer_serial(&params.root_hex))?;
    open_verity(&disk, params)
}

pub(crate) fn open_verity(disk: &Disk, params: &VerityParams) -> Result<PathBuf, DeviceError> {
    params.check()?;
    let needed = params.needed_bytes();
    if needed > disk.bytes {
        return Err(DeviceError::DiskTooSmall { needed, size: disk.bytes });
    }
    let device =
        Mapper::open(Path::new(CONTROL))?.activate(&params.mapped_name(), &params.target(disk))?;
    Ok(PathBuf::from(format!("/dev/dm-{}", device.minor)))
}

/// Mounts an opened layer. Makes the target folder.
pub(crate) fn mount_layer(device: &Path, target: &Path) -> Result<(), DeviceError> {
    let failed = |errno| DeviceError::LayerMount {
        source_path: device.to_path_buf(),
        target: target.to_path_buf(),
        errno,
    };
    std::fs::create_dir_all(target).map_err(|error| failed(errno_of(&error)))?;
    mount(
        Some(device),
        target,
        Some("erofs"),
        MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID,
        None::<&str>,
    )
    .map_err(failed)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> VerityParams {
        VerityParams {
            root_hex: "ab".repeat(32),
            data_blocks: 130,
            hash_offset: 130 * 4096,
            salt_hex: String::new(),
        }
    }

    fn disk(bytes: u64) -> Disk {
        Disk { node: "/dev/vda".into(), number: "254:0".into(), bytes }
    }

    #[test]
    fn table_line() {
        let target = params().target(&disk(0));
        assert_eq!(target.sectors, 1040);
        assert_eq!(
            target.line,
            format!("1 254:0 254:0 4096 4096 130 130 sha256 {} -", "ab".repeat(32))
        );
        let salted = VerityParams { salt_hex: "00ff".into(), ..params() };
        assert!(salted.target(&disk(0)).line.ends_with(" 00ff"));
    }

    #[test]
    fn size_counts_every_level_of_the_tree() {
        // 130 blocks: two hash blocks, and one above them.
        assert_eq!(params().needed_bytes(), (130 + 3) * 4096);
        let one = VerityParams { data_blocks: 1, hash_offset: 4096, ..params() };
        assert_eq!(one.needed_bytes(), 2 * 4096);
    }

    #[test]
    fn refuses_bad_parameters() {
        let bad = [
            VerityParams { root_hex: "AB".repeat(32), ..params() },
            VerityParams { root_hex: "ab".repeat(31), ..params() },
            VerityParams { salt_hex: "0".into(), ..params() },
            VerityParams { salt_hex: "- 1".into(), ..params() },
            VerityParams { data_blocks: 0, ..params() },
            VerityParams { data_blocks: u64::MAX, ..params() },
            VerityParams { hash_offset: 4096, ..params() },
            VerityParams { hash_offset: 130 * 4096 + 1, ..params() },
        ];
        for params in bad {
            assert_eq!(params.check().unwrap_err().code(), "ST-AGENT-10", "{params:?}");
        }
        assert!(params().check().is_ok());
    }

    #[test]
    fn a_short_disk_is_refused_before_the_kernel_sees_it() {
        let error = open_verity(&disk(132 * 4096), &params()).unwrap_err();
        assert_eq!(error.code(), "ST-AGENT-16");
    }
}
