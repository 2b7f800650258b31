//! The kernel of a suite: its image, and the modules the agent loads, dependencies first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::apt::Candidate;
use crate::digest::read_bounded;
use crate::error::ImageError;
use crate::modinfo;
use crate::module_signature::without_signature;

/// Debian's meta-package; what it depends on in the chosen suite is the kernel.
pub const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// What the guest needs, and why. No virtio-rng: entropy must not come from the host.
pub const WANTED_MODULES: [(&str, &str); 18] = [
    ("vsock", "the wire to the supervisor"),
    ("vmw_vsock_virtio_transport_common", "the wire to the supervisor"),
    ("vmw_vsock_virtio_transport", "the wire to the supervisor"),
    ("virtio_pci", "the bus of all virtio devices"),
    ("virtio_blk", "layers and scratch disks"),
    ("dm-mod", "device mapper"),
    ("dm-verity", "layers are read through it"),
    ("dm-crypt", "scratch disk"),
    ("dm-integrity", "scratch disk"),
    ("gcm", "keyed integrity of the scratch disk"),
    ("aesni-intel", "AES at hardware speed"),
    ("erofs", "file system of layers"),
    ("overlay", "writable container roots over layers"),
    ("loop", "verified images from memory"),
    ("configfs", "where reports are asked for"),
    ("tsm_report", "reports of the TEE"),
    ("tdx-guest", "Intel TDX; refuses to load elsewhere"),
    ("sev-guest", "AMD SEV-SNP; refuses to load elsewhere"),
];

const MAX_KERNEL_BYTES: u64 = 128 << 20;
const MAX_LIST_BYTES: u64 = 16 << 20;

/// A kernel found in unpacked packages.
#[derive(Debug)]
pub struct Kernel {
    pub release: String,
    pub image: Vec<u8>,
    modules_dir: PathBuf,
    builtin: BTreeSet<String>,
    files: BTreeMap<String, PathBuf>,
}

/// A decompressed module and its place in the initramfs.
#[derive(Debug, Clone)]
pub struct Module {
    pub name: String,
    pub path: String,
    pub bytes: Vec<u8>,
    pub why: &'static str,
}

/// Which packages of the meta-package's closure are the kernel: those of its own source version.
/// The rest (systemd, dracut, …) serves machines that boot from a disk.
#[must_use]
pub fn is_kernel_package(candidate: &Candidate, closure: &[Candidate]) -> bool {
    closure.iter().find(|other| other.name == META_PACKAGE).is_some_and(|meta| {
        candidate.name.starts_with("linux-") && candidate.version == meta.version
    })
}

impl Kernel {
    /// # Errors
    /// No kernel image or not exactly one release of modules below `unpacked`.
    pub fn find(unpacked: &Path) -> Result<Self, ImageError> {
        let missing = |what: &str| ImageError::KernelIncomplete { what: what.to_owned() };
        let modules_dir = ["usr/lib/modules", "lib/modules"]
            .iter()
            .flat_map(|sub| subdirectories(&unpacked.join(sub)))
            .find(|dir| dir.join("kernel").is_dir())
            .ok_or_else(|| missing("modules"))?;
        let release = modules_dir
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| missing("a release"))?
            .to_owned();
        let image_path =
            [modules_dir.join("vmlinuz"), unpacked.join("boot").join(format!("vmlinuz-{release}"))]
                .into_iter()
                .find(|path| path.is_file())
                .ok_or_else(|| missing("vmlinuz"))?;
        let image = read_bounded(&image_path, MAX_KERNEL_BYTES)?;
        let builtin_list = read_bounded(&modules_dir.join("modules.builtin"), MAX_LIST_BYTES)?;
        let builtin = builtin_names(&String::from_utf8_lossy(&builtin_list));
        let mut files = BTreeMap::new();
        index_modules(&modules_dir.join("kernel"), &mut files)?;
        Ok(Self { release, image, modules_dir, builtin, files })
    }

    /// The wanted modules and what they depend on, in loading order; built-in ones are left out.
    ///
    /// # Errors
    /// A wanted module is neither built in nor there, or cannot be read.
    pub fn modules(&self) -> Result<Vec<Module>, ImageError> {
        let mut infos: BTreeMap<String, (Vec<u8>, modinfo::ModInfo)> = BTreeMap::new();
        let wanted: Vec<String> = WANTED_MODULES.iter().map(|(name, _)| plain_name(name)).collect();
        let order = load_order(&wanted, &self.builtin, |name| {
            let Some(path) = self.files.get(name) else { return Ok(None) };
            let bytes = read_module(path)?;
            let info = modinfo::parse(&bytes).map_err(|error| ImageError::BadModule {
                module: name.to_owned(),
                detail: error.to_string(),
            })?;
            let before = info.soft_before.iter().map(|name| plain_name(name));
            let soft = before.filter(|name| self.files.contains_key(name));
            let depends = info.depends.iter().map(|name| plain_name(name)).chain(soft).collect();
            infos.insert(name.to_owned(), (bytes, info));
            Ok(Some(depends))
        })?;
        order
            .into_iter()
            .filter_map(|name| {
                let (bytes, _) = infos.remove(&name)?;
                let path = self.guest_path(self.files.get(&name)?)?;
                let why = WANTED_MODULES
                    .iter()
                    .find(|(wanted, _)| plain_name(wanted) == name)
                    .map_or("needed by the next ones", |(_, why)| why);
                Some(Ok(Module { name, path, bytes, why }))
            })
            .collect()
    }

    fn guest_path(&self, file: &Path) -> Option<String> {
        let below = file.strip_prefix(&self.modules_dir).ok()?.to_str()?;
        let plain = below.split(".ko").next()?;
        Some(format!("/lib/modules/{}/{plain}.ko", self.release))
    }
}

/// Depth first, dependencies before dependents, each once. `lookup` answers with a module's
/// dependencies, or `None` when the kernel has no such file.
///
/// # Errors
/// A name that is neither built in nor known, or an error of `lookup`.
pub fn load_order(
    wanted: &[String],
    builtin: &BTreeSet<String>,
    mut lookup: impl FnMut(&str) -> Result<Option<Vec<String>>, ImageError>,
) -> Result<Vec<String>, ImageError> {
    enum Step {
        Enter(String),
        Leave(String),
    }
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    let mut steps: Vec<Step> = wanted.iter().rev().cloned().map(Step::Enter).collect();
    while let Some(step) = steps.pop() {
        match step {
            Step::Leave(name) => order.push(name),
            Step::Enter(name) => {
                if builtin.contains(&name) || !seen.insert(name.clone()) {
                    continue;
                }
                let depends = lookup(&name)?.ok_or_else(|| ImageError::KernelIncomplete {
                    what: format!("module {name}"),
                })?;
                steps.push(Step::Leave(name));
                steps.extend(depends.into_iter().rev().map(Step::Enter));
            }
        }
    }
    Ok(order)
}

/// Module names are the same with `-` and `_`.
#[must_use]
pub fn plain_name(name: &str) -> String {
    name.replace('-', "_")
}

#[must_use]
pub fn builtin_names(list: &str) -> BTreeSet<String> {
    list.lines()
        .filter_map(|line| line.trim().rsplit('/').next())
        .filter_map(|file| file.strip_suffix(".ko"))
        .map(plain_name)
        .collect()
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .map(|entries| {
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
        })
        .unwrap_or_default();
    found.sort();
    found
}

fn index_modules(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), ImageError> {
    for entry in fs::read_dir(dir).map_err(ImageError::io("read", dir))? {
        let path = entry.map_err(ImageError::io("read", dir))?.path();
        if path.is_dir() {
            index_modules(&path, files)?;
        } else if let Some((name, _)) =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once(".ko"))
        {
            files.insert(plain_name(name), path.clone());
        }
    }
    Ok(())
}

/// Decompressed here: the initramfs compresses better over plain modules, and the kernel's xz is slow. Without signatures,
/// for the reason that `module_signature` gives.
fn read_module(path: &Path) -> Result<Vec<u8>, ImageError> {
    let bad = |detail: String| ImageError::BadModule { module: path.display().to_string(), detail };
    let packed = read_bounded(path, modinfo::MAX_MODULE_BYTES)?;
    let mut plain = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => plain = packed,
        Some("xz") => lzma_rs::xz_decompress(&mut packed.as_slice(), &mut plain)
            .map_err(|error| bad(format!("{error:?}")))?,
        Some("zst") => {
            zstd::stream::Decoder::new(packed.as_slice())
                .and_then(|decoder| decoder.take(modinfo::MAX_MODULE_BYTES).read_to_end(&mut plain))
                .map_err(|error| bad(error.to_string()))?;
        }
        other => return Err(bad(format!("unknown compression {other:?}"))),
    }
    plain.truncate(without_signature(&plain).len());
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let graph = BTreeMap::from([
            ("dm_verity", names(&["dm_mod", "dm_bufio", "reed_solomon"])),
            ("dm_bufio", names(&["dm_mod"])),
            ("dm_mod", names(&["dax"])),
            ("reed_solomon", vec![]),
            ("dm_crypt", names(&["dm_mod"])),
        ]);
        let builtin = BTreeSet::from(["dax".to_owned()]);
        let lookup = |name: &str| Ok(graph.get(name).cloned());
        let order =
            load_order(&names(&["dm_verity", "dm_crypt", "dm_mod", "dax"]), &builtin, lookup)
                .unwrap();
        assert_eq!(order, ["dm_mod", "dm_bufio", "reed_solomon", "dm_verity", "dm_crypt"]);
    }

    #[test]
    fn a_circle_ends_and_a_missing_module_is_named() {
        let lookup = |name: &str| match name {
            "a" => Ok(Some(names(&["b"]))),
            "b" => Ok(Some(names(&["a"]))),
            _ => Ok(None),
        };
        assert_eq!(load_order(&names(&["a"]), &BTreeSet::new(), lookup).unwrap(), ["b", "a"]);
        let error = load_order(&names(&["nix"]), &BTreeSet::new(), lookup).unwrap_err();
        assert_eq!(error.to_string(), "find module nix in the kernel packages");
    }

    #[test]
    fn builtin_list() {
        let builtin =
            builtin_names("kernel/drivers/virtio/virtio_pci.ko\nkernel/crypto/sha256.ko\n\nodd\n");
        assert_eq!(builtin, BTreeSet::from(["sha256".to_owned(), "virtio_pci".to_owned()]));
    }

    #[test]
    fn only_packages_of_the_kernels_own_version_are_the_kernel() {
        let candidate = |name: &str, version: &str| Candidate {
            name: name.into(),
            version: version.into(),
            arch: "amd64".into(),
        };
        let closure = [
            candidate("linux-base", "4.17"),
            candidate("linux-image-7.3.4-cloud-amd64", "7.3.4-1"),
            candidate("linux-modules-7.3.4-cloud-amd64", "7.3.4-1"),
            candidate(META_PACKAGE, "7.3.4-1"),
            candidate("systemd", "7.3.4-1"),
        ];
        let kept: Vec<&str> = closure
            .iter()
            .filter(|candidate| is_kernel_package(candidate, &closure))
            .map(|candidate| candidate.name.as_str())
            .collect();
        assert_eq!(
            kept,
            ["linux-image-7.3.4-cloud-amd64", "linux-modules-7.3.4-cloud-amd64", META_PACKAGE]
        );
    }

    #[test]
    fn a_kernel_is_found_in_both_package_layouts() {
        for (modules, image) in [
            ("usr/lib/modules/7.3/kernel/net", "usr/lib/modules/7.3/vmlinuz"),
            ("lib/modules/7.3/kernel/net", "boot/vmlinuz-7.3"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let modules = dir.path().join(modules);
            fs::create_dir_all(&modules).unwrap();
            fs::create_dir_all(dir.path().join("boot")).unwrap();
            fs::write(
                modules.parent().unwrap().parent().unwrap().join("modules.builtin"),
                "kernel/a.ko\n",
            )
            .unwrap();
            fs::write(dir.path().join(image), b"kernel").unwrap();
            fs::write(modules.join("vsock.ko"), crate::modinfo::tests::module(b"depends=\0"))
                .unwrap();
            let kernel = Kernel::find(dir.path()).unwrap();
            assert_eq!(
                (kernel.release.as_str(), kernel.image.as_slice()),
                ("7.3", b"kernel".as_slice())
            );
            let path = kernel.files.get("vsock").unwrap();
            assert_eq!(kernel.guest_path(path).unwrap(), "/lib/modules/7.3/kernel/net/vsock.ko");
        }
    }
}
