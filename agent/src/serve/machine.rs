//! What one boot is, once its launch configuration was checked. Nothing in here changes any more, but for the registers
//! inside the attester.

use std::path::{Path, PathBuf};

use ring::signature::Ed25519KeyPair;
use sealtune_evidence::LaunchConfiguration;
use sealtune_wire::v1::Rtmr3;
use tokio::time::{Duration, Instant};

use super::error::ServeError;
use super::evidence::Attester;
use crate::unpack::{UnpackFailure, UnpackTask};

/// An emulated guest needs a second for them.
const MODULES_TIME: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) configuration: LaunchConfiguration,
    /// As it was received: a repeated launch request must be the same.
    pub(crate) configuration_bytes: Vec<u8>,
    pub(crate) instance: [u8; 32],
    pub(crate) rtmr3: Rtmr3,
    /// Whether jobs can run here: in Sealtune's own image alone.
    pub(crate) has_own_image: bool,
    /// What the firmware logged, for whoever judges evidence.
    pub(crate) boot_log: Option<Vec<u8>>,
    /// Signs receipts; made for this boot and never stored.
    pub(crate) receipt_key: Ed25519KeyPair,
    pub(crate) attester: Attester,
    pub(crate) layers: Vec<OpenLayer>,
}

/// A verified layer and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenLayer {
    pub(crate) root: [u8; 32],
    pub(crate) folder: PathBuf,
}

impl Machine {
    pub(crate) fn layer(&self, root: &[u8; 32]) -> Option<&OpenLayer> {
        self.layers.iter().find(|layer| layer.root == *root)
    }
}

/// The folders and programs that the role uses; tests bring their own.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// Work folders of jobs, in the TEE's memory.
    pub(crate) scratch: PathBuf,
    pub(crate) layers: PathBuf,
    pub(crate) sysfs: PathBuf,
    pub(crate) proc: PathBuf,
    pub(crate) proc_sys: PathBuf,
    pub(crate) dev: PathBuf,
    /// Makes a character device: path, major and minor number.
    pub(crate) make_node: fn(&Path, u64, u64) -> std::io::Result<()>,
    /// Is there once init has loaded every module.
    pub(crate) modules: PathBuf,
    /// This agent, for the roles that work without keys.
    pub(crate) runner: PathBuf,
    pub(crate) unpack: fn(&Path, &UnpackTask<'_>) -> Result<(), UnpackFailure>,
    /// Where there is no device-mapper: a folder in place of every layer.
    #[cfg(test)]
    pub(crate) stand_in: Option<PathBuf>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            scratch: "/scratch".into(),
            layers: "/run/sealtune/layers".into(),
            sysfs: "/sys".into(),
            proc: "/proc".into(),
            proc_sys: "/proc/sys".into(),
            dev: "/dev".into(),
            make_node: crate::gpu::make_node,
            modules: crate::device::ALL_LOADED.into(),
            runner: "/proc/self/exe".into(),
            unpack: crate::unpack::in_own_process,
            #[cfg(test)]
            stand_in: None,
        }
    }
}

/// Seconds that the guest has been up, in milliseconds; zero where the kernel does not say.
pub(crate) fn uptime_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let mut parts = text.split([' ', '.']);
    let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).unwrap_or(0);
    let seconds = number();
    seconds * 1000 + number() * 10
}

/// Resident memory of this process.
pub(crate) fn resident_kib() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        })
        .unwrap_or(0)
}

pub(crate) fn kernel_release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

impl Places {
    /// Returns when every module is in. Init ends the VM where one is missing.
    pub(crate) async fn modules_loaded(&self) -> Result<(), ServeError> {
        let deadline = Instant::now() + MODULES_TIME;
        while !self.modules.exists() {
            if Instant::now() > deadline {
                return Err(ServeError::Modules);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_about_itself() {
        assert!(uptime_ms() > 0);
        assert!(resident_kib() > 100);
        assert!(!kernel_release().is_empty());
    }
}
