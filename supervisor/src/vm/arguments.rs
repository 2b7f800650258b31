//! QEMU's command line as a pure function of what a VM is. Golden files hold one line per backend.
//!
//! Facts for TDX: QEMU's `tdx-guest` object; vhost-vsock; no SeaBIOS. That line has not run on hardware here.

use std::path::PathBuf;

use sealtune_evidence::Tee;
use sealtune_job::Hex;

use super::quoting::QuoteService;

/// How the guest's instructions are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Accelerator {
    /// A TDX trust domain.
    Tdx,
    /// KVM without a TEE.
    Kvm,
    /// QEMU's own emulation.
    Tcg,
}

impl Accelerator {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tdx => "tdx",
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// Whether a VM that was started this way can have evidence of this kind. dstack's VMs are TDX VMs.
    pub(crate) fn makes_evidence_of(self, tee: Tee) -> bool {
        match self {
            Self::Tdx => matches!(tee, Tee::Tdx | Tee::Dstack),
            // Started without any TEE.
            Self::Kvm | Self::Tcg => false,
        }
    }
}

/// How supervisor and guest are connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VsockDevice {
    /// The kernel's vhost-vsock: AF_VSOCK on the host.
    Kernel { cid: u32 },
    /// `vhost-device-vsock`, a process beside QEMU: a unix socket on the host.
    VhostUser { socket: PathBuf },
}

/// A read-only disk with one layer; the agent finds it by its serial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerDisk {
    pub(crate) file: PathBuf,
    pub(crate) verity_root: Hex<32>,
}

impl LayerDisk {
    /// virtio-blk serials have at most 20 characters.
    pub(crate) fn serial(&self) -> String {
        self.verity_root.to_string()[..20].to_owned()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VmShape {
    pub(crate) name: String,
    pub(crate) accelerator: Accelerator,
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) firmware: Option<PathBuf>,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    pub(crate) command_line: String,
    pub(crate) console: PathBuf,
    pub(crate) vsock: VsockDevice,
    pub(crate) layers: Vec<LayerDisk>,
    pub(crate) mr_config_id: Hex<48>,
    pub(crate) quote_service: QuoteService,
    /// Whether this QEMU was built with its seccomp sandbox.
    pub(crate) sandbox: bool,
}

/// The arguments behind the program's name.
pub(crate) fn qemu_arguments(vm: &VmShape) -> Vec<String> {
    let mut arguments = Arguments::default();
    arguments.pair("-name", format!("sealtune-{}", vm.name));
    arguments.flag("-no-user-config").flag("-nodefaults").flag("-nographic").flag("-no-reboot");
    if vm.sandbox {
        arguments.pair(
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        );
    }
    machine(vm, &mut arguments);
    arguments.pair("-smp", vm.vcpus.to_string()).pair("-m", format!("{}M", vm.memory_mib));
    arguments
        .pair("-chardev", format!("file,id=console,path={},append=on", path(&vm.console)))
        .pair("-serial", "chardev:console");
    match &vm.vsock {
        VsockDevice::Kernel { cid } => {
            arguments.pair("-device", format!("vhost-vsock-pci,guest-cid={cid}"));
        }
        VsockDevice::VhostUser { socket } => {
            arguments
                .pair("-chardev", format!("socket,id=vsock,path={}", path(socket)))
                .pair("-device", "vhost-user-vsock-pci,chardev=vsock");
        }
    }
    if let Some(firmware) = &vm.firmware {
        arguments.pair("-bios", firmware.display().to_string());
    }
    arguments
        .pair("-kernel", vm.kernel.display().to_string())
        .pair("-initrd", vm.initramfs.display().to_string())
        .pair("-append", vm.command_line.clone());
    for (index, layer) in vm.layers.iter().enumerate() {
        arguments
            .pair(
                "-drive",
                format!(
                    "file={},if=none,id=layer{index},format=raw,readonly=on,file.locking=off",
                    path(&layer.file)
                ),
            )
            .pair(
                "-device",
                format!("virtio-blk-pci,drive=layer{index},serial={}", layer.serial()),
            );
    }
    arguments.0
}

fn machine(vm: &VmShape, arguments: &mut Arguments) {
    let shared_memory = format!("memory-backend-memfd,id=mem0,size={}M,share=on", vm.memory_mib);
    match vm.accelerator {
        Accelerator::Tdx => {
            let configuration = base64(&vm.mr_config_id.0);
            arguments
                .pair("-accel", "kvm")
                .pair("-cpu", "host")
                .pair(
                    "-machine",
                    "q35,kernel_irqchip=split,confidential-guest-support=tdx,hpet=off",
                )
                .pair(
                    "-object",
                    format!(
                        r#"{{"qom-type":"tdx-guest","id":"tdx","mrconfigid":"{configuration}","quote-generation-socket":{}}}"#,
                        vm.quote_service.socket_address()
                    ),
                );
        }
        Accelerator::Kvm => {
            arguments
                .pair("-accel", "kvm")
                .pair("-cpu", "host")
                .pair("-machine", "q35,memory-backend=mem0,hpet=off")
                .pair("-object", shared_memory);
        }
        Accelerator::Tcg => {
            arguments
                .pair("-accel", "tcg,thread=multi")
                .pair("-cpu", "max")
                .pair("-machine", "q35,memory-backend=mem0,hpet=off")
                .pair("-object", shared_memory);
        }
    }
}

/// QEMU reads a comma as the end of a value unless it is doubled.
fn path(path: &std::path::Path) -> String {
    path.display().to_string().replace(',', ",,")
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.to_owned());
        self
    }

    fn pair(&mut self, flag: &str, value: impl Into<String>) -> &mut Self {
        self.0.push(flag.to_owned());
        self.0.push(value.into());
        self
    }
}

/// Arguments of `vhost-device-vsock`.
pub(crate) fn vsock_helper_arguments(
    cid: u32,
    device_socket: &std::path::Path,
    host_socket: &std::path::Path,
) -> Vec<String> {
    let (device, host) = (device_socket.display(), host_socket.display());
    vec!["--vm".into(), format!("guest-cid={cid},socket={device},uds-path={host}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(accelerator: Accelerator) -> VmShape {
        VmShape {
            name: "v1".into(),
            accelerator,
            vcpus: 2,
            memory_mib: 1024,
            firmware: (accelerator == Accelerator::Tdx).then(|| "/image/ovmf.fd".into()),
            kernel: "/image/bzImage".into(),
            initramfs: "/image/initramfs".into(),
            command_line: "console=ttyS0 sealtune.profile=dev".into(),
            console: "/run/v1/a,b.log".into(),
            vsock: match accelerator {
                Accelerator::Tcg => VsockDevice::VhostUser { socket: "/run/v1/vsock".into() },
                _ => VsockDevice::Kernel { cid: 1001 },
            },
            layers: vec![LayerDisk {
                file: "/layers/training.erofs".into(),
                verity_root: Hex([0xab; 32]),
            }],
            mr_config_id: Hex([0x53; 48]),
            quote_service: QuoteService::default(),
            sandbox: true,
        }
    }

    #[test]
    fn golden_command_lines() {
        for accelerator in [Accelerator::Tdx, Accelerator::Kvm, Accelerator::Tcg] {
            let lines = qemu_arguments(&vm(accelerator)).join("\n");
            insta::assert_snapshot!(format!("qemu-{}", accelerator.name()), lines);
        }
    }

    #[test]
    fn a_comma_in_a_path_cannot_add_an_option() {
        let arguments = qemu_arguments(&vm(Accelerator::Tcg));
        assert!(arguments.iter().any(|a| a.contains("path=/run/v1/a,,b.log,append=on")));
    }
}
