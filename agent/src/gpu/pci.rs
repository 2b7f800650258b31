//! NVIDIA GPUs on the PCI bus, from `/sys/bus/pci/devices`. A device counts by vendor and base class, so one that the
//! driver did not take is counted too. NVSwitches are bridges of NVIDIA's; they are no GPUs and are counted apart.

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

const NVIDIA: u32 = 0x10de;
/// Base class 3: VGA, 3D and other display controllers.
const DISPLAY: u32 = 0x03;
/// Class 06 80, other bridges: what NVSwitches are.
const OTHER_BRIDGE: u32 = 0x0680;
const MAX_ATTRIBUTE_BYTES: u64 = 64;

/// `/sys`, or a tree like it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sysfs<'a> {
    pub(crate) root: &'a Path,
}

/// As Linux writes it: `dddd:bb:dd.f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PciError {
    #[error("read {path} of the PCI bus: {cause}")]
    Unreadable { path: PathBuf, cause: String },
}

/// What of NVIDIA is on the bus, each in the order of its addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NvidiaDevices {
    pub(crate) gpus: Vec<PciAddress>,
    pub(crate) switches: Vec<PciAddress>,
}

impl Sysfs<'_> {
    /// A machine without a PCI bus has none.
    pub(crate) fn nvidia_devices(&self) -> Result<NvidiaDevices, PciError> {
        let devices = self.root.join("bus/pci/devices");
        let mut found = NvidiaDevices::default();
        let listing = match fs::read_dir(&devices) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            listing => listing.map_err(|error| unreadable(&devices, &error.to_string()))?,
        };
        for entry in listing {
            let path = entry.map_err(|error| unreadable(&devices, &error.to_string()))?.path();
            if number(&path.join("vendor"))? != NVIDIA {
                continue;
            }
            let class = number(&path.join("class"))?;
            let list = if class >> 16 == DISPLAY {
                &mut found.gpus
            } else if class >> 8 == OTHER_BRIDGE {
                &mut found.switches
            } else {
                continue;
            };
            let name = path.file_name().and_then(|name| name.to_str());
            let address = name.and_then(PciAddress::parse);
            list.push(address.ok_or_else(|| unreadable(&path, "its name is no address"))?);
        }
        found.gpus.sort_unstable();
        found.switches.sort_unstable();
        Ok(found)
    }
}

impl PciAddress {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (domain, rest) = text.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (device, function) = rest.split_once('.')?;
        let address = Self {
            domain: u32::from_str_radix(domain, 16).ok()?,
            bus: u8::from_str_radix(bus, 16).ok()?,
            device: u8::from_str_radix(device, 16).ok().filter(|device| *device < 32)?,
            function: u8::from_str_radix(function, 16).ok().filter(|number| *number < 8)?,
        };
        // One spelling only.
        (address.to_string() == text).then_some(address)
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

fn number(path: &Path) -> Result<u32, PciError> {
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_ATTRIBUTE_BYTES).read_to_string(&mut text))
        .map_err(|error| unreadable(path, &error.to_string()))?;
    let digits = text.trim_end().strip_prefix("0x");
    digits
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(|| unreadable(path, "not a hexadecimal number"))
}

fn unreadable(path: &Path, cause: &str) -> PciError {
    PciError::Unreadable { path: path.to_owned(), cause: cause.to_owned() }
}

impl PciError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "ST-AGPU-01",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "check that sysfs is mounted; report this as a bug",
        }
    }

    #[cfg(test)]
    pub(crate) fn samples() -> Vec<Self> {
        vec![unreadable(Path::new("/x"), "x")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(sysfs: &Path, name: &str, vendor: &str, class: &str) {
        let folder = sysfs.join("bus/pci/devices").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("vendor"), format!("{vendor}\n")).unwrap();
        fs::write(folder.join("class"), format!("{class}\n")).unwrap();
    }

    fn shown(addresses: &[PciAddress]) -> Vec<String> {
        addresses.iter().map(ToString::to_string).collect()
    }

    fn found(sysfs: &Path) -> Result<Vec<String>, &'static str> {
        let found = Sysfs { root: sysfs }.nvidia_devices();
        found.map(|found| shown(&found.gpus)).map_err(|error| error.code())
    }

    fn switches(sysfs: &Path) -> Vec<String> {
        shown(&Sysfs { root: sysfs }.nvidia_devices().unwrap().switches)
    }

    #[test]
    fn display_controllers_of_nvidia_are_counted_and_nothing_else() {
        let sysfs = tempfile::tempdir().unwrap();
        assert_eq!(found(sysfs.path()), Ok(vec![]));
        for (name, vendor, class) in [
            ("0000:be:00.0", "0x10de", "0x030200"),
            ("0000:01:00.0", "0x10de", "0x030000"),
            ("0000:02:00.0", "0x10de", "0x038000"),
            ("10000:01:00.0", "0x10de", "0x030200"),
            // An NVSwitch, another's bridge, a sound function, a virtio disk, another display.
            ("0000:bd:00.0", "0x10de", "0x068000"),
            ("0000:bc:00.0", "0x8086", "0x068000"),
            ("0000:01:00.1", "0x10de", "0x040300"),
            ("0000:00:02.0", "0x1af4", "0x010000"),
            ("0000:00:03.0", "0x1234", "0x030000"),
        ] {
            device(sysfs.path(), name, vendor, class);
        }
        let expected = ["0000:01:00.0", "0000:02:00.0", "0000:be:00.0", "10000:01:00.0"];
        assert_eq!(found(sysfs.path()), Ok(expected.map(str::to_owned).to_vec()));
        assert_eq!(switches(sysfs.path()), ["0000:bd:00.0"]);
    }

    /// A device that cannot be read could be a GPU: it is not skipped.
    #[test]
    fn what_cannot_be_read_is_an_error() {
        for (name, vendor, class) in [
            ("0000:01:00.0", "10de", "0x030200"),
            ("0000:01:00.0", "", "0x030200"),
            ("0000:01:00.0", "0x10de", "display"),
            ("0000:01:00", "0x10de", "0x030200"),
            ("0000:1:00.0", "0x10de", "0x030200"),
            ("0000:01:20.0", "0x10de", "0x030200"),
            ("0000:01:00.8", "0x10de", "0x030200"),
            ("0000:AB:00.0", "0x10de", "0x030200"),
        ] {
            let sysfs = tempfile::tempdir().unwrap();
            device(sysfs.path(), name, vendor, class);
            assert_eq!(found(sysfs.path()), Err("ST-AGPU-01"), "{name} {vendor} {class}");
        }
        let sysfs = tempfile::tempdir().unwrap();
        device(sysfs.path(), "0000:01:00.0", "0x10de", "0x030200");
        fs::remove_file(sysfs.path().join("bus/pci/devices/0000:01:00.0/class")).unwrap();
        assert_eq!(found(sysfs.path()), Err("ST-AGPU-01"));
    }

    /// Addresses as lspci prints them on a machine with eight GPUs and NVSwitches.
    #[test]
    fn a_real_listing_of_switches_has_no_gpu() {
        let root = std::env::var_os("SEALTUNE_VECTORS").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors")),
            PathBuf::from,
        );
        let path = root.join("pci/lspci-8xh100-nvswitch.snap");
        let Ok(text) = fs::read_to_string(&path) else {
            println!("skipped: no vector {}", path.display());
            return;
        };
        let values = |key: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.trim().strip_prefix(key));
            lines.map(|value| value.trim_matches([' ', '"', ',']).to_owned()).collect()
        };
        let (slots, vendors) = (values("slot:"), values("vendor_id:"));
        let classes = values("class_id:");
        assert!(slots.len() == vendors.len() && slots.len() == classes.len() && slots.len() > 3);
        let sysfs = tempfile::tempdir().unwrap();
        let (mut expected, mut bridges) = (Vec::new(), Vec::new());
        for ((slot, vendor), class) in slots.iter().zip(&vendors).zip(&classes) {
            let name = format!("0000:{slot}");
            device(sysfs.path(), &name, &format!("0x{vendor}"), &format!("0x{class}00"));
            if vendor == "10de" && class.starts_with("03") {
                expected.push(name);
            } else if vendor == "10de" && class == "0680" {
                bridges.push(name);
            }
        }
        expected.sort();
        bridges.sort();
        assert!(!bridges.is_empty());
        assert_eq!(found(sysfs.path()), Ok(expected));
        assert_eq!(switches(sysfs.path()), bridges);
    }
}
