//! What the agent asks of the guest kernel beside processes: verified disks, run-time knobs, the
//! loopback interface. Everything here fails closed and says so with a stable code.

pub(crate) mod disks;
pub(crate) mod dm;
pub(crate) mod knobs;
pub(crate) mod netif;
pub(crate) mod verity;

use std::path::PathBuf;

use nix::errno::Errno;

/// The file that init makes when every module is in.
pub(crate) const ALL_LOADED: &str = "/run/sealtune/modules-loaded";

/// Why a layer could not be opened. Codes 10 to 19 of the area AGENT.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error("use verity parameters: {0}")]
    Parameters(&'static str),
    #[error("open the device-mapper control node {path}: {errno}")]
    Control { path: PathBuf, errno: Errno },
    #[error("run device-mapper command {command} for {name}: {errno}")]
    Mapper { command: &'static str, name: String, errno: Errno },
    #[error("find a disk with the serial {0}")]
    DiskMissing(String),
    #[error("choose between {count} disks with the serial {serial}")]
    DiskAmbiguous { serial: String, count: usize },
    #[error("read {path} of the disk: {cause}")]
    DiskUnreadable { path: PathBuf, cause: String },
    #[error("fit {needed} bytes on a disk of {size} bytes")]
    DiskTooSmall { needed: u64, size: u64 },
    #[error("mount the layer {source_path} on {target}: {errno}")]
    LayerMount { source_path: PathBuf, target: PathBuf, errno: Errno },
    #[error("bring up the loopback interface: {0}")]
    Loopback(Errno),
}

impl DeviceError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Parameters(_) => "ST-AGENT-10",
            Self::Control { .. } => "ST-AGENT-11",
            Self::Mapper { .. } => "ST-AGENT-12",
            Self::DiskMissing(_) => "ST-AGENT-13",
            Self::DiskAmbiguous { .. } => "ST-AGENT-14",
            Self::DiskUnreadable { .. } => "ST-AGENT-15",
            Self::DiskTooSmall { .. } => "ST-AGENT-16",
            Self::LayerMount { .. } => "ST-AGENT-17",
            Self::Loopback(_) => "ST-AGENT-18",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Parameters(_) => "rebuild the layer, or correct the launch configuration",
            Self::Control { .. } => "put dm-mod into the image's module list",
            Self::Mapper { .. } => "check root, salt and sizes of the layer; see the kernel log",
            Self::DiskMissing(_) => "attach the layer as virtio-blk with its root as serial",
            Self::DiskAmbiguous { .. } => "attach each layer once",
            Self::DiskUnreadable { .. } => "check that the disk is virtio-blk and sysfs is mounted",
            Self::DiskTooSmall { .. } => "attach the whole layer file, hash tree included",
            Self::LayerMount { .. } => "check that the layer is an erofs image",
            Self::Loopback(_) => "use a kernel with IPv4",
        }
    }

    #[cfg(test)]
    pub(crate) fn samples() -> Vec<Self> {
        let path = PathBuf::from("/x");
        vec![
            Self::Parameters("x"),
            Self::Control { path: path.clone(), errno: Errno::ENOENT },
            Self::Mapper { command: "x", name: "x".into(), errno: Errno::EINVAL },
            Self::DiskMissing("x".into()),
            Self::DiskAmbiguous { serial: "x".into(), count: 2 },
            Self::DiskUnreadable { path: path.clone(), cause: "x".into() },
            Self::DiskTooSmall { needed: 2, size: 1 },
            Self::LayerMount { source_path: path.clone(), target: path, errno: Errno::EINVAL },
            Self::Loopback(Errno::ENODEV),
        ]
    }
}
