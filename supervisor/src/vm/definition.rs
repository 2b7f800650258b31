//! Everything that decides what a VM is, stored before it starts: enough to find it again.

use std::path::PathBuf;

use sealtune_evidence::{
    BootMeasurement, BootRegisters, EventLog, LaunchConfiguration, Layer, Role, Shape, VmMode,
};
use sealtune_job::{Hex, JobId};
use serde::{Deserialize, Serialize};

use super::{
    arguments::{Accelerator, LayerDisk, VmShape, VsockDevice},
    image::GuestImage,
    quoting::QuoteService,
    transport::Address,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VmDefinition {
    pub(crate) id: String,
    pub(crate) job: Option<JobId>,
    pub(crate) accelerator: Accelerator,
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) cid: u32,
    pub(crate) address: Address,
    /// Console, logs and sockets.
    pub(crate) folder: PathBuf,
    pub(crate) firmware: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) command_line: String,
    pub(crate) image_name: String,
    pub(crate) image_version: String,
    pub(crate) layers: Vec<DefinedLayer>,
    /// What the agent asks of whoever connects; its hash stands in the launch configuration.
    pub(crate) token: Hex<32>,
    /// Canonical bytes of the launch configuration, as text.
    pub(crate) launch: String,
    pub(crate) mr_config_id: Hex<48>,
    /// Older daemons knew the usual one only.
    #[serde(default)]
    pub(crate) quote_service: QuoteService,
    /// What the VM measures before its first own instruction.
    pub(crate) registers: BootRegisters,
    pub(crate) boot_log: EventLog,
    /// The log that the VM's own firmware wrote, base64: as its agent sent it, for verifiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ccel: Option<String>,
    pub(crate) sandbox: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DefinedLayer {
    pub(crate) file: PathBuf,
    pub(crate) layer: Layer,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionError {
    #[error("make the launch configuration: {0}")]
    Launch(#[from] sealtune_evidence::launch::LaunchError),
    #[error("get random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

/// What the daemon decides about a new VM.
#[derive(Debug)]
pub(crate) struct VmPlan<'a> {
    pub(crate) job: Option<JobId>,
    pub(crate) accelerator: Accelerator,
    pub(crate) kernel_vsock: bool,
    pub(crate) sandbox: bool,
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) run_directory: &'a std::path::Path,
    pub(crate) firmware: &'a std::path::Path,
    pub(crate) image: &'a GuestImage,
    pub(crate) layers: Vec<DefinedLayer>,
    pub(crate) boot: BootMeasurement,
    pub(crate) quote_service: QuoteService,
}

impl VmDefinition {
    pub(crate) fn new(plan: VmPlan<'_>) -> Result<Self, DefinitionError> {
        let mut random = [0; 12];
        getrandom::fill(&mut random)?;
        let id = hex::encode(&random[..6]);
        let [.., a, b, c] = random;
        // Below 3 are reserved; a collision among three random bytes fails the start and is tried again.
        let cid = 4096 + u32::from_be_bytes([0, a, b, c]);
        let mut token = [0; 32];
        getrandom::fill(&mut token)?;
        let configuration = LaunchConfiguration {
            version: 1,
            release: plan.image.release.clone(),
            role: Role::Worker,
            vm_mode: VmMode::PerJob,
            shape: Shape { vcpus: plan.vcpus, memory_mib: plan.memory_mib },
            gpus: Vec::new(),
            layers: plan.layers.iter().map(|layer| layer.layer.clone()).collect(),
            devices: Vec::new(),
            settlement: None,
            token_hash: sha256(&token).into(),
        };
        let folder = plan.run_directory.join(&id);
        let address = if plan.kernel_vsock {
            Address::Vsock { cid }
        } else {
            Address::Unix { socket: folder.join("host") }
        };
        let launch = configuration.canonical_bytes()?;
        Ok(Self {
            id,
            job: plan.job,
            accelerator: plan.accelerator,
            vcpus: plan.vcpus,
            memory_mib: plan.memory_mib,
            cid,
            address,
            folder,
            firmware: plan.firmware.to_owned(),
            kernel: plan.image.kernel.clone(),
            initramfs: plan.image.initramfs.clone(),
            command_line: plan.image.command_line.clone(),
            image_name: plan.image.name.clone(),
            image_version: plan.image.release.clone(),
            layers: plan.layers,
            token: Hex(token),
            launch: String::from_utf8_lossy(&launch).into_owned(),
            mr_config_id: Hex(configuration.mr_config_id()?.0),
            quote_service: plan.quote_service,
            registers: plan.boot.registers,
            boot_log: plan.boot.log,
            ccel: None,
            sandbox: plan.sandbox,
        })
    }

    /// GPUs, and what is listed beside them: making evidence takes longer for each.
    pub(crate) fn devices(&self) -> usize {
        LaunchConfiguration::parse(self.launch.as_bytes())
            .map_or(0, |launch| launch.gpus.len() + launch.devices.len())
    }

    pub(crate) fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    pub(crate) fn device_socket(&self) -> PathBuf {
        self.folder.join("device")
    }

    pub(crate) fn shape(&self) -> VmShape {
        let vsock = match &self.address {
            Address::Vsock { cid } => VsockDevice::Kernel { cid: *cid },
            Address::Unix { .. } => VsockDevice::VhostUser { socket: self.device_socket() },
        };
        let disk = |layer: &DefinedLayer| LayerDisk {
            file: layer.file.clone(),
            verity_root: Hex(layer.layer.root.0),
        };
        VmShape {
            name: self.id.clone(),
            accelerator: self.accelerator,
            vcpus: self.vcpus,
            memory_mib: self.memory_mib,
            firmware: Some(self.firmware.clone()),
            kernel: self.kernel.clone(),
            initramfs: self.initramfs.clone(),
            command_line: self.command_line.clone(),
            console: self.console(),
            vsock,
            layers: self.layers.iter().map(disk).collect(),
            mr_config_id: self.mr_config_id,
            quote_service: self.quote_service.clone(),
            sandbox: self.sandbox,
        }
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}
