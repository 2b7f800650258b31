//! Finds a virtio-blk disk by its serial number, which is the start of the layer's verity root.
//! The serial only names the disk: what is read from it is believed because of the root.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::DeviceError;

/// virtio-blk serial numbers hold at most this many bytes.
pub(crate) const SERIAL_CHARACTERS: usize = 20;
const SECTOR_BYTES: u64 = 512;
const MAX_ATTRIBUTE_BYTES: u64 = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) node: PathBuf,
    /// `major:minor`, as device-mapper tables take it.
    pub(crate) number: String,
    pub(crate) bytes: u64,
}

/// The serial under which a layer is attached.
pub(crate) fn layer_serial(root_hex: &str) -> &str {
    root_hex.get(..SERIAL_CHARACTERS).unwrap_or(root_hex)
}

/// `sysfs` is `/sys` except in tests.
pub(crate) fn find_by_serial(sysfs: &Path, serial: &str) -> Result<Disk, DeviceError> {
    let block = sysfs.join("block");
    let listing = fs::read_dir(&block).map_err(|error| unreadable(&block, &error))?;
    let mut found = Vec::new();
    for entry in listing.flatten() {
        let name = entry.file_name();
        let is_virtio_disk = name.to_str().is_some_and(|name| name.starts_with("vd"));
        // A disk without a serial has an empty attribute, or none.
        if is_virtio_disk && attribute(&entry.path().join("serial")).is_ok_and(|is| is == serial) {
            found.push(entry.path());
        }
    }
    let [path] = found.as_slice() else {
        return Err(match found.len() {
            0 => DeviceError::DiskMissing(serial.to_owned()),
            count => DeviceError::DiskAmbiguous { serial: serial.to_owned(), count },
        });
    };
    let size = path.join("size");
    let sectors: u64 = attribute(&size)?
        .parse()
        .map_err(|_| DeviceError::DiskUnreadable { path: size, cause: "not a number".into() })?;
    Ok(Disk {
        node: Path::new("/dev").join(path.file_name().unwrap_or_default()),
        number: attribute(&path.join("dev"))?,
        bytes: sectors.saturating_mul(SECTOR_BYTES),
    })
}

fn attribute(path: &Path) -> Result<String, DeviceError> {
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_ATTRIBUTE_BYTES).read_to_string(&mut text))
        .map_err(|error| unreadable(path, &error))?;
    Ok(text.trim_end().to_owned())
}

fn unreadable(path: &Path, error: &std::io::Error) -> DeviceError {
    DeviceError::DiskUnreadable { path: path.to_path_buf(), cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(sysfs: &Path, name: &str, serial: Option<&str>) {
        let folder = sysfs.join("block").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("size"), "2048\n").unwrap();
        fs::write(folder.join("dev"), "254:16\n").unwrap();
        if let Some(serial) = serial {
            fs::write(folder.join("serial"), serial).unwrap();
        }
    }

    #[test]
    fn finds_the_one_disk_with_the_serial() {
        let sysfs = tempfile::tempdir().unwrap();
        disk(sysfs.path(), "vda", Some("other"));
        disk(sysfs.path(), "vdb", Some("00112233445566778899"));
        disk(sysfs.path(), "vdc", None);
        disk(sysfs.path(), "sda", Some("00112233445566778899"));
        let found = find_by_serial(sysfs.path(), "00112233445566778899").unwrap();
        assert_eq!(found.node, Path::new("/dev/vdb"));
        assert_eq!(found.number, "254:16");
        assert_eq!(found.bytes, 1024 * 1024);
    }

    #[test]
    fn none_and_two_are_different_errors() {
        let sysfs = tempfile::tempdir().unwrap();
        disk(sysfs.path(), "vda", Some("same"));
        disk(sysfs.path(), "vdb", Some("same"));
        let twice = find_by_serial(sysfs.path(), "same").unwrap_err();
        assert_eq!(twice.code(), "ST-AGENT-14");
        let none = find_by_serial(sysfs.path(), "else").unwrap_err();
        assert_eq!(none.code(), "ST-AGENT-13");
    }

    #[test]
    fn serial_is_the_start_of_the_root() {
        assert_eq!(layer_serial(&"ab".repeat(32)), "ab".repeat(10));
    }
}
