//! What the machine must have. What is missing is installed, and that is said.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Outcome, Trouble,
    process::{self, step},
    workspace::{Workspace, write},
};

pub(crate) const MUSL: &str = "x86_64-unknown-linux-musl";
const VSOCK_HELPER: &str = "vhost-device-vsock";
const VSOCK_HELPER_VERSION: &str = "0.3.0";

/// Something that a Debian package brings.
#[derive(Debug, Clone, Copy)]
enum Sign {
    Program(&'static str),
    /// One of these files.
    File(&'static [&'static str]),
    /// A module of the system's Python.
    PythonModule(&'static str),
}

#[derive(Debug, Clone, Copy)]
struct Need {
    sign: Sign,
    package: &'static str,
    why: &'static str,
}

const FIRMWARE: &[&str] = &[
    "/usr/share/seabios/bios-256k.bin",
    "/usr/share/qemu/bios-256k.bin",
    "/usr/local/share/qemu/bios-256k.bin",
];

const TO_BUILD: &[Need] = &[
    Need { sign: Sign::Program("cc"), package: "gcc", why: "links Rust programs" },
    Need { sign: Sign::Program("musl-gcc"), package: "musl-tools", why: "builds the static agent" },
];

const TO_RUN: &[Need] = &[
    Need { sign: Sign::Program("qemu-system-x86_64"), package: "qemu-system-x86", why: "runs VMs" },
    Need { sign: Sign::File(FIRMWARE), package: "seabios", why: "is the VMs' firmware" },
    Need { sign: Sign::Program("apt-get"), package: "apt", why: "fetches packages for images" },
    Need { sign: Sign::Program("dpkg-deb"), package: "dpkg", why: "unpacks packages for images" },
    Need {
        sign: Sign::File(&[
            "/usr/share/keyrings/debian-archive-keyring.gpg",
            "/usr/share/keyrings/debian-archive-keyring.pgp",
        ]),
        package: "debian-archive-keyring",
        why: "checks the packages that images are made of",
    },
    Need { sign: Sign::Program("python3"), package: "python3", why: "runs the demo's own steps" },
];

const FOR_VENV: &[Need] = &[Need {
    sign: Sign::PythonModule("ensurepip"),
    package: "python3-venv",
    why: "makes a place for Python packages",
}];

/// What `check` and unit tests need.
pub(crate) fn to_build() -> Outcome<()> {
    step("what this machine must have to build", || {
        install(TO_BUILD)?;
        musl_target()
    })
}

/// What running VMs needs besides.
#[derive(Debug, Clone)]
pub(crate) struct VmTools {
    pub(crate) vsock_helper: PathBuf,
    pub(crate) firmware: PathBuf,
}

pub(crate) fn to_run_vms(workspace: &Workspace) -> Outcome<VmTools> {
    step("what this machine must have to run VMs", || {
        install(TO_RUN)?;
        let firmware = FIRMWARE.iter().map(PathBuf::from).find(|path| path.is_file());
        let firmware = firmware.ok_or_else(|| Trouble::failed("find QEMU's firmware"))?;
        Ok(VmTools { vsock_helper: vsock_helper(workspace)?, firmware })
    })
}

/// A Python with numpy: the system's own, or one in a virtual environment below the target directory.
pub(crate) fn python_with_numpy(workspace: &Workspace) -> Outcome<PathBuf> {
    let has_numpy =
        |python: &Path| process::succeeds(Command::new(python).args(["-c", "import numpy"]));
    let system = PathBuf::from("python3");
    if has_numpy(&system) {
        return Ok(system);
    }
    environment(workspace, "python", &["numpy"])
}

/// A Python with other people's readers and signers of DSSE envelopes and in-toto statements.
pub(crate) fn python_with_dsse(workspace: &Workspace) -> Outcome<PathBuf> {
    environment(workspace, "python-dsse", &["securesystemslib[crypto]", "in-toto-attestation"])
}

/// A virtual environment below the target directory, made once for its list of packages.
fn environment(workspace: &Workspace, name: &str, packages: &[&str]) -> Outcome<PathBuf> {
    let folder = workspace.made(name);
    let (python, stamp) = (folder.join("bin/python"), folder.join("sealtune-packages"));
    let list = packages.join("\n");
    let is_made = std::fs::read_to_string(&stamp).is_ok_and(|made| made == list);
    // Its interpreter is a link to the system's, which may have gone.
    if is_made && process::succeeds(Command::new(&python).args(["-c", ""])) {
        return Ok(python);
    }
    install(FOR_VENV)?;
    eprintln!("making {} with {}", folder.display(), packages.join(", "));
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut pip = Command::new(&python);
    process::run(pip.args(["-m", "pip", "install", "--quiet"]).args(packages))?;
    write(&stamp, &list)?;
    Ok(python)
}

/// The Python that the demo has made, with numpy, or else the system's, with or without it.
pub(crate) fn likely_python(workspace: &Workspace) -> PathBuf {
    let made = workspace.made("python").join("bin/python");
    if made.is_file() { made } else { PathBuf::from("python3") }
}

fn is_there(sign: Sign) -> bool {
    match sign {
        Sign::Program(name) => in_path(name).is_some(),
        Sign::File(paths) => paths.iter().any(|path| Path::new(path).is_file()),
        Sign::PythonModule(name) => {
            process::succeeds(Command::new("python3").arg("-c").arg(format!("import {name}")))
        }
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn install(needs: &[Need]) -> Outcome<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !is_there(need.sign)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        eprintln!("missing: {} (it {})", need.package, need.why);
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let by_hand = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if in_path("apt-get").is_none() {
        return Err(Trouble::failed(format!(
            "install {}: this machine has no apt; install them its own way",
            packages.join(", ")
        )));
    }
    let is_root = process::output(Command::new("id").arg("-u"))?.trim() == "0";
    let may_sudo = || process::succeeds(Command::new("sudo").args(["-n", "true"]));
    if !is_root && !may_sudo() {
        return Err(Trouble::failed(format!(
            "install packages without root; run this, then start again:\n  sudo {by_hand}"
        )));
    }
    eprintln!("installing: {by_hand}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new(if is_root { "env" } else { "sudo" });
        if !is_root {
            command.args(["-n", "env"]);
        }
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]).args(arguments);
        process::run(&mut command)
    };
    let mut arguments = vec!["install", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    // Package lists may be missing or old; only then ask for new ones.
    if apt(&arguments).is_ok() {
        return Ok(());
    }
    apt(&["update"])?;
    apt(&arguments)
}

fn musl_target() -> Outcome<()> {
    let mut ask = Command::new("rustc");
    ask.args(["--print", "target-libdir", "--target", MUSL]);
    let is_there = || {
        let folder = ask.output().map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
        folder.is_ok_and(|folder| !folder.is_empty() && Path::new(&folder).is_dir())
    };
    if { is_there }() {
        return Ok(());
    }
    eprintln!("missing: Rust's target {MUSL}; adding it");
    process::run(Command::new("rustup").args(["target", "add", MUSL]))
}

/// AF_VSOCK for VMs where the host's kernel has no vhost-vsock.
fn vsock_helper(workspace: &Workspace) -> Outcome<PathBuf> {
    let root = workspace.target.join("tools");
    let helper = root.join("bin").join(VSOCK_HELPER);
    if has_version(&helper) {
        return Ok(helper);
    }
    if let Some(found) = in_path(VSOCK_HELPER).filter(|path| has_version(path)) {
        return Ok(found);
    }
    eprintln!(
        "missing: {VSOCK_HELPER} {VSOCK_HELPER_VERSION}; building it below {}",
        root.display()
    );
    let mut cargo = workspace.cargo("install");
    cargo.args(["--locked", "--version", VSOCK_HELPER_VERSION, "--root"]).arg(&root);
    cargo.arg("--target-dir").arg(root.join("build")).arg(VSOCK_HELPER);
    process::run(&mut cargo)?;
    crate::workspace::remove_directory(&root.join("build"))?;
    Ok(helper)
}

fn has_version(helper: &Path) -> bool {
    Command::new(helper)
        .arg("--version")
        .output()
        .is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(VSOCK_HELPER_VERSION))
}
