//! What this host can do, found out by trying: which QEMU, and which accelerator really runs a guest.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::arguments::Accelerator;

/// Oldest QEMU that is known to boot our image (vhost-user-vsock, memfd, `-kernel` on q35).
const OLDEST: (u32, u32) = (7, 2);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("run QEMU as {program:?}: {error}")]
    QemuMissing { program: String, error: std::io::Error },
    #[error("use QEMU {found}: it is older than {}.{}", OLDEST.0, OLDEST.1)]
    QemuTooOld { found: String },
    #[error("read QEMU's version from {0:?}")]
    QemuVersion(String),
    #[error("run vhost-device-vsock as {program:?}: {error}")]
    VsockHelperMissing { program: String, error: std::io::Error },
    #[error("use KVM as asked: {0}")]
    KvmUnusable(String),
    #[error("use TDX as asked: this QEMU and host do not offer it: {0}")]
    TdxUnusable(String),
}

impl ProbeError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::QemuMissing { .. } => "ST-VM-01",
            Self::QemuTooOld { .. } => "ST-VM-02",
            Self::QemuVersion(_) => "ST-VM-03",
            Self::VsockHelperMissing { .. } => "ST-VM-04",
            Self::KvmUnusable(_) => "ST-VM-05",
            Self::TdxUnusable(_) => "ST-VM-06",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::QemuMissing { .. } => {
                "install QEMU (Debian, Ubuntu: apt install qemu-system-x86) or name it with --qemu"
            }
            Self::QemuTooOld { .. } | Self::QemuVersion(_) => {
                "install QEMU 7.2 or newer, or name another one with --qemu"
            }
            Self::VsockHelperMissing { .. } => {
                "cargo install vhost-device-vsock@0.3.0 --locked, or name it with --vsock-helper"
            }
            Self::KvmUnusable(_) => {
                "leave --accelerator at auto to fall back to emulation, or repair /dev/kvm"
            }
            Self::TdxUnusable(_) => "use a TDX host with a QEMU that has the tdx-guest object",
        }
    }
}

/// What the operator asks for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Wanted {
    Auto,
    Tdx,
    Kvm,
    Tcg,
}

#[derive(Debug, Clone)]
pub(crate) struct HostAbility {
    pub(crate) qemu_version: String,
    pub(crate) accelerator: Accelerator,
    /// Why it is this one, for the operator.
    pub(crate) reason: String,
    pub(crate) sandbox: bool,
    /// AF_VSOCK through the kernel; otherwise `vhost-device-vsock`.
    pub(crate) kernel_vsock: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct ProbeRequest<'a> {
    pub(crate) qemu: &'a Path,
    pub(crate) vsock_helper: &'a Path,
    pub(crate) kvm_device: &'a Path,
    pub(crate) wanted: Wanted,
    pub(crate) scratch: &'a Path,
    /// The guest kernel: KVM counts when it boots.
    pub(crate) kernel: &'a Path,
}

pub(crate) fn probe(request: &ProbeRequest<'_>) -> Result<HostAbility, ProbeError> {
    let program = request.qemu.display().to_string();
    let output = Command::new(request.qemu)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| ProbeError::QemuMissing { program, error })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = parse_version(&text)
        .ok_or_else(|| ProbeError::QemuVersion(text.lines().next().unwrap_or("").to_owned()))?;
    let qemu_version = format!("{}.{}", version.0, version.1);
    if version < OLDEST {
        return Err(ProbeError::QemuTooOld { found: qemu_version });
    }
    let (accelerator, reason) = choose_accelerator(request)?;
    let kernel_vsock = accelerator == Accelerator::Tdx
        || (accelerator == Accelerator::Kvm && Path::new("/dev/vhost-vsock").exists());
    if !kernel_vsock {
        let program = request.vsock_helper.display().to_string();
        Command::new(request.vsock_helper)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| ProbeError::VsockHelperMissing { program, error })?;
    }
    let sandbox = Command::new(request.qemu)
        .args(["-sandbox", "on", "-machine", "none", "-display", "none", "--version"])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success());
    Ok(HostAbility { qemu_version, accelerator, reason, sandbox, kernel_vsock })
}

fn choose_accelerator(request: &ProbeRequest<'_>) -> Result<(Accelerator, String), ProbeError> {
    let kvm = || try_kvm(request);
    match request.wanted {
        Wanted::Tcg => Ok((Accelerator::Tcg, "asked for".into())),
        Wanted::Kvm => kvm()
            .map(|()| (Accelerator::Kvm, "asked for, and our kernel boots".into()))
            .map_err(ProbeError::KvmUnusable),
        Wanted::Tdx => try_tdx(request.qemu)
            .map(|()| (Accelerator::Tdx, "asked for".into()))
            .map_err(ProbeError::TdxUnusable),
        Wanted::Auto => Ok(match try_tdx(request.qemu) {
            Ok(()) => (Accelerator::Tdx, "this host offers TDX".into()),
            Err(no_tdx) => match kvm() {
                Ok(()) => (Accelerator::Kvm, format!("our kernel boots under KVM; {no_tdx}")),
                Err(no_kvm) => (Accelerator::Tcg, format!("{no_kvm}; {no_tdx}")),
            },
        }),
    }
}

/// TDX needs the kernel module's switch and a QEMU that knows the object.
fn try_tdx(qemu: &Path) -> Result<(), String> {
    let enabled = std::fs::read_to_string("/sys/module/kvm_intel/parameters/tdx")
        .is_ok_and(|text| matches!(text.trim(), "Y" | "1"));
    if !enabled {
        return Err("the kernel does not offer TDX".into());
    }
    let help = Command::new(qemu)
        .args(["-object", "tdx-guest,help"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if help.status.success() { Ok(()) } else { Err("QEMU has no tdx-guest object".into()) }
}

/// Boots the guest kernel under KVM, without a root to mount: it panics, and that ends QEMU. `/dev/kvm` may open and
/// still not run anything, or run the first instructions only (nested hosts).
fn try_kvm(request: &ProbeRequest<'_>) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt as _;
    let device = request.kvm_device;
    let metadata = std::fs::metadata(device)
        .map_err(|error| format!("no KVM: {}: {error}", device.display()))?;
    if !metadata.file_type().is_char_device() {
        return Err(format!("no KVM: {} is not a device", device.display()));
    }
    let log = request.scratch.join("kvm-probe.log");
    let (output, errors) = (std::fs::File::create(&log), std::fs::File::create(&log));
    let (Ok(_), Ok(errors)) = (output, errors) else {
        return Err(format!("no KVM probe: {} cannot be written", log.display()));
    };
    let run = Command::new(request.qemu)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-accel", "kvm", "-cpu", "host", "-machine", "q35", "-m", "256M"])
        .args(["-append", "panic=-1 oops=panic"])
        .arg("-kernel")
        .arg(request.kernel)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn();
    let verdict =
        run.map_err(|error| error.to_string()).and_then(|child| wait_for_panic(child, &log));
    let _ = std::fs::remove_file(&log);
    verdict.map_err(|error| format!("KVM is there but does not run our kernel: {error}"))
}

/// A kernel that boots is through in a second or two; QEMU reports one that it cannot run and then stands still.
fn wait_for_panic(mut child: std::process::Child, log: &Path) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let verdict = loop {
        let said = std::fs::read_to_string(log).unwrap_or_default();
        if let Some(line) = said.lines().find(|line| line.contains("KVM internal error")) {
            break Err(line.to_owned());
        }
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break Ok(()),
            Ok(Some(status)) => break Err(format!("the test guest ended with {status}")),
            Ok(None) if Instant::now() < deadline => park(Duration::from_millis(20)),
            Ok(None) => break Err("the test guest did not end".into()),
            Err(error) => break Err(error.to_string()),
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    verdict
}

/// Waits a little between two looks at a child that has no descriptor to wait on.
fn park(time: Duration) {
    std::thread::park_timeout(time);
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let after = text.split("version ").nth(1)?;
    let mut numbers = after.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn versions_are_read_as_qemu_prints_them() {
        let printed = "QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u13)\nCopyright";
        assert_eq!(parse_version(printed), Some((7, 2)));
        assert_eq!(parse_version("QEMU emulator version 10.0.2"), Some((10, 0)));
        assert_eq!(parse_version("something else"), None);
        assert!((6, 0) < OLDEST && (10, 0) > OLDEST);
    }

    fn request<'a>(qemu: &'a Path, scratch: &'a Path) -> ProbeRequest<'a> {
        let true_program = Path::new("/bin/true");
        ProbeRequest {
            qemu,
            vsock_helper: true_program,
            kvm_device: Path::new("/dev/null/kvm"),
            wanted: Wanted::Auto,
            scratch,
            kernel: Path::new("/nowhere/bzImage"),
        }
    }

    fn stub(folder: &Path, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let program = folder.join("qemu-stub");
        std::fs::write(&program, format!("#!/bin/sh\necho '{text}'\n")).expect("write the stub");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("mode");
        program
    }

    #[test]
    fn a_missing_qemu_and_an_old_one_have_their_codes() {
        let folder = tempfile::tempdir().expect("folder");
        let missing = probe(&request(Path::new("/nowhere/qemu"), folder.path()));
        assert_eq!(missing.expect_err("missing").code(), "ST-VM-01");
        let old = stub(folder.path(), "QEMU emulator version 6.0.0");
        let error = probe(&request(&old, folder.path())).expect_err("old");
        assert_eq!(error.code(), "ST-VM-02");
    }

    #[test]
    fn a_kvm_device_that_is_not_one_falls_back_and_says_why() {
        let folder = tempfile::tempdir().expect("folder");
        let fake = folder.path().join("kvm");
        std::fs::write(&fake, b"").expect("fake device");
        let qemu = stub(folder.path(), "QEMU emulator version 7.2.0");
        let mut request = request(&qemu, folder.path());
        request.kvm_device = &fake;
        let ability = probe(&request).expect("falls back");
        assert_eq!(ability.accelerator, Accelerator::Tcg);
        assert!(ability.reason.contains("is not a device"), "{}", ability.reason);
        request.wanted = Wanted::Kvm;
        assert_eq!(probe(&request).expect_err("asked for").code(), "ST-VM-05");
    }
}
