//! Device nodes of the driver, which makes none itself: `nvidiactl`, one for each GPU, and those of unified memory where it
//! is loaded (CUDA needs it, evidence does not). As the driver's own settings have them: root's, open to all. The container
//! has a /dev of its own; it gets these when the GPUs are ready.
//!
//! Those of switches, `nvidia-nvswitchctl` and one for each, are for evidence alone: no container gets them, since work does
//! not use them, and through them routes would be changed.
//!
//! Major numbers stand in `/proc/devices`, a GPU's minor number in `/proc/driver/nvidia/gpus/<address>/information`. A
//! switch's minor number is its place: the driver gives the lowest free one. Written from NVIDIA's documentation of release
//! 550 and its open kernel modules; not run on hardware.

use std::fs::{self, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::PciAddress;

/// The driver's own default; it looks at owner and mode of nodes that exist, and leaves them if they are these.
const MODE: u32 = 0o666;
const CONTROL_MINOR: u64 = 255;
/// Newer releases and older ones.
const MAJOR_NAMES: [&str; 2] = ["nvidia", "nvidia-frontend"];
const SWITCH_MAJOR_NAME: &str = "nvidia-nvswitch";
const MEMORY_MAJOR_NAME: &str = "nvidia-uvm";
const MEMORY_NODES: [(&str, u64); 2] = [("nvidia-uvm", 0), ("nvidia-uvm-tools", 1)];
const MINOR_KEY: &str = "Device Minor:";
const MAX_TEXT_BYTES: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error("find NVIDIA's driver: {0}")]
    NoDriver(String),
    #[error("find the device number of the GPU at {address}: {cause}")]
    NoMinor { address: PciAddress, cause: String },
    #[error("find the NVSwitches in NVIDIA's driver: {0}")]
    NoSwitch(String),
    #[error("make the device node {path}: {error}")]
    Make { path: PathBuf, error: io::Error },
}

/// Where numbers are read and nodes are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodePlaces<'a> {
    pub(crate) proc: &'a Path,
    pub(crate) dev: &'a Path,
    /// Makes a character device with a major and a minor number.
    pub(crate) make: fn(&Path, u64, u64) -> io::Result<()>,
}

pub(super) fn make(
    places: &NodePlaces<'_>,
    gpus: impl Iterator<Item = PciAddress>,
) -> Result<Vec<PathBuf>, NodeError> {
    let devices = places.proc.join("devices");
    let devices = read(&devices).map_err(NodeError::NoDriver)?;
    let driver = MAJOR_NAMES.iter().find_map(|name| major(&devices, name));
    let driver = driver.ok_or_else(|| NodeError::NoDriver("it is not loaded".into()))?;
    let mut nodes = vec![("nvidiactl".to_owned(), driver, CONTROL_MINOR)];
    for address in gpus {
        let failed = |cause| NodeError::NoMinor { address, cause };
        let about = places.proc.join(format!("driver/nvidia/gpus/{address}/information"));
        let text = read(&about).map_err(failed)?;
        let minor = minor(&text).ok_or_else(|| failed("it says none".into()))?;
        if nodes.iter().any(|(.., other)| *other == minor) {
            return Err(failed("another GPU has the same".into()));
        }
        nodes.push((format!("nvidia{minor}"), driver, minor));
    }
    if let Some(memory) = major(&devices, MEMORY_MAJOR_NAME) {
        nodes.extend(MEMORY_NODES.map(|(name, minor)| (name.to_owned(), memory, minor)));
    }
    make_all(places, nodes)
}

/// Nodes that the library for switches opens.
pub(super) fn make_for_switches(
    places: &NodePlaces<'_>,
    switches: &[PciAddress],
) -> Result<(), NodeError> {
    if switches.is_empty() {
        return Ok(());
    }
    let devices = read(&places.proc.join("devices")).map_err(NodeError::NoDriver)?;
    let driver = major(&devices, SWITCH_MAJOR_NAME)
        .ok_or_else(|| NodeError::NoSwitch("it has no part for them".into()))?;
    for address in switches {
        let about = places.proc.join(format!("driver/nvidia-nvswitch/devices/{address}"));
        if !about.exists() {
            return Err(NodeError::NoSwitch(format!("it did not take {address}")));
        }
    }
    let own = (0_u64..).zip(switches).map(|(minor, _)| (format!("nvidia-nvswitch{minor}"), minor));
    let control = ("nvidia-nvswitchctl".to_owned(), CONTROL_MINOR);
    let nodes = std::iter::once(control).chain(own);
    make_all(places, nodes.map(|(name, minor)| (name, driver, minor)).collect()).map(drop)
}

fn make_all(
    places: &NodePlaces<'_>,
    nodes: Vec<(String, u64, u64)>,
) -> Result<Vec<PathBuf>, NodeError> {
    let mut made = Vec::with_capacity(nodes.len());
    for (name, major, minor) in nodes {
        let path = places.dev.join(name);
        match (places.make)(&path, major, minor) {
            Ok(()) => made.push(path),
            Err(error) => return Err(NodeError::Make { path, error }),
        }
    }
    Ok(made)
}

/// One that is there already must be the same.
pub(crate) fn make_node(path: &Path, major: u64, minor: u64) -> io::Result<()> {
    let device = makedev(major, minor);
    match mknod(path, SFlag::S_IFCHR, Mode::empty(), device) {
        Ok(()) => {}
        Err(nix::errno::Errno::EEXIST) => {
            let found = fs::symlink_metadata(path)?;
            if !found.file_type().is_char_device() || found.rdev() != device {
                return Err(io::Error::other("there is something else"));
            }
        }
        Err(errno) => return Err(errno.into()),
    }
    // Set apart from the making, where a umask would count.
    fs::set_permissions(path, Permissions::from_mode(MODE))
}

/// Of the character devices: a block device may have the same name.
fn major(devices: &str, wanted: &str) -> Option<u64> {
    let characters = devices.split("Block devices:").next()?;
    characters.lines().find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        let number = number.parse().ok().filter(|number| (1..4096).contains(number))?;
        (name.trim() == wanted).then_some(number)
    })
}

fn minor(information: &str) -> Option<u64> {
    let mut values = information.lines().filter_map(|line| line.strip_prefix(MINOR_KEY));
    let minor = values.next()?.trim().parse().ok()?;
    (values.next().is_none() && minor < CONTROL_MINOR).then_some(minor)
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_TEXT_BYTES).read_to_string(&mut text))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}

impl NodeError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoDriver(_) => "ST-AGPU-06",
            Self::NoMinor { .. } => "ST-AGPU-07",
            Self::Make { .. } => "ST-AGPU-08",
            Self::NoSwitch(_) => "ST-AGPU-09",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::NoDriver(_) => "rebuild the image with the modules of NVIDIA's driver",
            Self::NoMinor { .. } => "see the kernel log: the driver did not take this GPU",
            Self::Make { .. } => "report this as a bug",
            Self::NoSwitch(_) => "see the kernel log: the driver did not take an NVSwitch",
        }
    }

    #[cfg(test)]
    pub(crate) fn samples() -> Vec<Self> {
        let address = PciAddress::parse("0000:01:00.0").unwrap();
        vec![
            Self::NoDriver("x".into()),
            Self::NoMinor { address, cause: "x".into() },
            Self::Make { path: "/x".into(), error: io::Error::other("x") },
            Self::NoSwitch("x".into()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const DEVICES: &str = "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n510 nvidia-uvm\n\n\
        Block devices:\n  8 sd\n254 virtblk\n";
    const ABOUT: &str = "Model: \t\t NVIDIA H100 PCIe\nIRQ:   \t\t 52\nGPU UUID: \t GPU-0\n\
        Bus Location: \t 0000:01:00.0\nDevice Minor: \t 3\nGPU Firmware: \t 550.90.07\n";

    #[test]
    fn the_major_number_is_the_drivers_character_device() {
        assert_eq!(major(DEVICES, "nvidia"), Some(195));
        assert_eq!(major(DEVICES, "nvidia-uvm"), Some(510));
        assert_eq!(major(DEVICES, "nvidia-frontend"), None);
        for none in [
            "",
            "Character devices:\n195 nvidiactl\n510 nvidia-uvm\n",
            "Character devices:\n  1 mem\n\nBlock devices:\n195 nvidia\n",
            "Character devices:\nx nvidia\n",
            "Character devices:\n0 nvidia\n",
            "Character devices:\n4096 nvidia\n",
            "Character devices:\n-1 nvidia\n",
        ] {
            assert_eq!(major(none, "nvidia"), None, "{none}");
        }
    }

    #[test]
    fn the_minor_number_is_said_once() {
        assert_eq!(minor(ABOUT), Some(3));
        for none in
            ["", "Device Minor:", "Device Minor: x", "Device Minor: 255", "Device Minor: -1"]
        {
            assert_eq!(minor(none), None, "{none}");
        }
        assert_eq!(minor(&format!("{ABOUT}Device Minor: 4\n")), None);
    }

    static MADE: Mutex<Vec<(PathBuf, u64, u64)>> = Mutex::new(Vec::new());

    #[test]
    fn every_gpu_and_the_control_device_have_a_node() {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path();
        let note = |path: &Path, major, minor| {
            MADE.lock().unwrap().push((path.to_owned(), major, minor));
            Ok(())
        };
        let places = NodePlaces { proc, dev: Path::new("/d"), make: note };
        let addresses =
            ["0000:01:00.0", "0000:02:00.0"].map(|text| PciAddress::parse(text).unwrap());
        let run = || {
            make(&places, addresses.into_iter())
                .map(|made| made.len())
                .map_err(|error| error.code())
        };
        assert_eq!(run(), Err("ST-AGPU-06"));
        fs::write(proc.join("devices"), "Character devices:\n  1 mem\n").unwrap();
        assert_eq!(run(), Err("ST-AGPU-06"));
        fs::write(proc.join("devices"), DEVICES).unwrap();
        assert_eq!(run(), Err("ST-AGPU-07"));
        for address in addresses {
            let about = proc.join(format!("driver/nvidia/gpus/{address}"));
            fs::create_dir_all(&about).unwrap();
            fs::write(about.join("information"), ABOUT).unwrap();
        }
        assert_eq!(run(), Err("ST-AGPU-07"), "two GPUs with one number");
        assert!(MADE.lock().unwrap().is_empty(), "nothing is made in part");
        let second = proc.join("driver/nvidia/gpus/0000:02:00.0/information");
        fs::write(second, ABOUT.replace("\t 3", "\t 0")).unwrap();
        assert_eq!(run(), Ok(5));
        let node = |name: &str, major, minor| (Path::new("/d").join(name), major, minor);
        let expected = [
            node("nvidiactl", 195, 255),
            node("nvidia3", 195, 3),
            node("nvidia0", 195, 0),
            node("nvidia-uvm", 510, 0),
            node("nvidia-uvm-tools", 510, 1),
        ];
        assert_eq!(*MADE.lock().unwrap(), expected);
        let failing = NodePlaces { make: |_, _, _| Err(io::Error::other("x")), ..places };
        let error = make(&failing, addresses.into_iter()).unwrap_err();
        assert_eq!(error.code(), "ST-AGPU-08");
    }

    static MADE_FOR_SWITCHES: Mutex<Vec<(PathBuf, u64, u64)>> = Mutex::new(Vec::new());

    #[test]
    fn switches_have_nodes_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path();
        let note = |path: &Path, major, minor| {
            MADE_FOR_SWITCHES.lock().unwrap().push((path.to_owned(), major, minor));
            Ok(())
        };
        let places = NodePlaces { proc, dev: Path::new("/d"), make: note };
        let addresses =
            ["0000:07:00.0", "0000:08:00.0"].map(|text| PciAddress::parse(text).unwrap());
        let run = || make_for_switches(&places, &addresses).map_err(|error| error.code());
        assert!(make_for_switches(&places, &[]).is_ok(), "a VM without switches needs no driver");
        assert_eq!(run(), Err("ST-AGPU-06"));
        fs::write(proc.join("devices"), DEVICES).unwrap();
        assert_eq!(run(), Err("ST-AGPU-09"));
        let with = DEVICES.replace("510 nvidia-uvm", "239 nvidia-nvswitch\n510 nvidia-uvm");
        fs::write(proc.join("devices"), with).unwrap();
        assert_eq!(run(), Err("ST-AGPU-09"));
        for (address, code) in [(addresses[1], Err("ST-AGPU-09")), (addresses[0], Ok(()))] {
            let taken = format!("driver/nvidia-nvswitch/devices/{address}");
            fs::create_dir_all(proc.join(taken)).unwrap();
            assert_eq!(MADE_FOR_SWITCHES.lock().unwrap().len(), 0, "nothing is made in part");
            assert_eq!(run(), code);
        }
        let node = |name: &str, minor| (Path::new("/d").join(name), 239, minor);
        let expected = [
            node("nvidia-nvswitchctl", 255),
            node("nvidia-nvswitch0", 0),
            node("nvidia-nvswitch1", 1),
        ];
        assert_eq!(*MADE_FOR_SWITCHES.lock().unwrap(), expected);
        let failing = NodePlaces { make: |_, _, _| Err(io::Error::other("x")), ..places };
        assert_eq!(make_for_switches(&failing, &addresses).unwrap_err().code(), "ST-AGPU-08");
    }

    /// The null device's numbers stand in for the driver's.
    #[test]
    fn a_node_is_made_once_and_open_to_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node");
        if let Err(error) = make_node(&path, 1, 3) {
            println!("skipped: this user cannot make device nodes: {error}");
            return;
        }
        make_node(&path, 1, 3).unwrap();
        let found = fs::symlink_metadata(&path).unwrap();
        assert_eq!((found.rdev(), found.mode() & 0o7777), (makedev(1, 3), 0o666));
        assert!(make_node(&path, 1, 5).is_err());
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(make_node(&file, 1, 3).is_err());
    }
}
