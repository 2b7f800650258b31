//! `sealtune-image build`: packages, kernel, initramfs and descriptions become one directory.

use std::fs;
use std::path::{Path, PathBuf};

use sealtune_evidence::reference::ImageReference;
use serde::Serialize;

use crate::apt::Suite;
use crate::digest::{read_bounded, sha256_hex};
use crate::error::ImageError;
use crate::initramfs::{self, Contents};
use crate::kernel::{self, Kernel, META_PACKAGE};
use crate::metadata::{
    DIGEST, INITRAMFS, KERNEL, METADATA, Metadata, Provenance, REFERENCE_VALUES, SUMS, digest_text,
    reference_values, sums_text,
};
use crate::modinfo::is_static_x86_64;
use crate::output::StagedDir;
use crate::packages::PackageCache;
use crate::profile::{Profile, RELEASE};

/// Kernel or initramfs of any image that is looked at.
pub const MAX_KERNEL_BYTES: u64 = 256 << 20;
const MAX_AGENT_BYTES: u64 = 64 << 20;
/// What an agent with the simulated TEE carries in its bytes; a prod image refuses it.
pub const SIMULATED_TEE_MARKER: &[u8] = b"SIMULATED TEE";
// Chosen by measuring boots; README.md has the figures.
const ZSTD_LEVEL: i32 = 19;

/// What to build.
#[derive(Debug)]
pub struct Order<'a> {
    pub profile: Profile,
    pub suite: Suite,
    pub agent: &'a Path,
    pub out: &'a Path,
}

/// What was built, and why each part is in it.
#[derive(Debug, Serialize)]
pub struct Report {
    pub directory: PathBuf,
    pub digest: String,
    pub metadata: Metadata,
    pub reference_values: ImageReference,
    pub parts: Vec<Part>,
    pub kernel_bytes: usize,
    pub initramfs_bytes: usize,
    pub initramfs_unpacked_bytes: usize,
}

#[derive(Debug, Serialize)]
pub struct Part {
    pub what: String,
    pub bytes: usize,
    pub why: &'static str,
}

/// # Errors
/// See [`ImageError`].
pub fn build(order: &Order<'_>, cache: &PackageCache) -> Result<Report, ImageError> {
    let agent = read_agent(order.agent, order.profile)?;
    let staged = StagedDir::beside(order.out, METADATA)?;
    let unpacked = cache.work_dir()?;

    let kernel_packages =
        cache.fetch(&order.suite, &[META_PACKAGE.to_owned()], kernel::is_kernel_package)?;
    cache.unpack(&kernel_packages, unpacked.path())?;
    let kernel = Kernel::find(unpacked.path())?;
    let busybox = match order.profile {
        Profile::Dev => Some(busybox(order, cache, unpacked.path())?),
        Profile::Prod => None,
    };
    let package = format!("linux-image-{}", kernel.release);
    let version = kernel_packages
        .iter()
        .find(|candidate| candidate.name == META_PACKAGE)
        .map(|candidate| candidate.version.clone())
        .ok_or_else(|| ImageError::KernelIncomplete { what: META_PACKAGE.to_owned() })?;

    let modules = kernel.modules()?;
    let mut parts = vec![
        Part {
            what: format!("kernel {}", kernel.release),
            bytes: kernel.image.len(),
            why: "Debian's cloud kernel",
        },
        Part { what: "/init".to_owned(), bytes: agent.len(), why: "the agent, PID 1" },
    ];
    parts.extend(modules.iter().map(|module| Part {
        what: module.name.clone(),
        bytes: module.bytes.len(),
        why: module.why,
    }));
    if let Some(busybox) = &busybox {
        parts.push(Part {
            what: "/dev-tools/busybox".to_owned(),
            bytes: busybox.len(),
            why: "a shell: dev only",
        });
    }
    let metadata = Metadata {
        bios: None,
        kernel: KERNEL.to_owned(),
        initrd: INITRAMFS.to_owned(),
        cmdline: order.profile.command_line().to_owned(),
        version: RELEASE.to_owned(),
        is_dev: order.profile == Profile::Dev,
        sealtune: Some(Provenance {
            profile: order.profile,
            suite: order.suite.name().to_owned(),
            kernel_package: package,
            kernel_package_version: version,
            kernel_release: kernel.release.clone(),
            agent_sha256: sha256_hex(&agent),
            modules: modules.iter().map(|module| module.name.clone()).collect(),
        }),
    };
    let tree = initramfs::plan(Contents {
        profile: order.profile,
        release: RELEASE,
        agent,
        modules,
        busybox,
    })?;
    let archive = tree.to_cpio()?;
    let packed = initramfs::compress(&archive, ZSTD_LEVEL)?;
    let reference_values = reference_values(
        order.profile,
        RELEASE,
        order.profile.command_line(),
        &kernel.image,
        &packed,
    )?;

    let metadata_text = json(&metadata)?;
    let sums = sums_text(&[
        (KERNEL, sha256_hex(&kernel.image)),
        (INITRAMFS, sha256_hex(&packed)),
        (METADATA, sha256_hex(&metadata_text)),
    ]);
    let digest = digest_text(&sums);
    for (name, bytes) in [
        (KERNEL, kernel.image.as_slice()),
        (INITRAMFS, &packed),
        (METADATA, &metadata_text),
        (SUMS, sums.as_bytes()),
        (DIGEST, digest.as_bytes()),
        (REFERENCE_VALUES, &json(&reference_values)?),
    ] {
        let path = staged.path().join(name);
        fs::write(&path, bytes).map_err(ImageError::io("write", &path))?;
    }
    staged.commit()?;
    Ok(Report {
        directory: order.out.to_path_buf(),
        digest: digest.trim().to_owned(),
        metadata,
        reference_values,
        parts,
        kernel_bytes: kernel.image.len(),
        initramfs_bytes: packed.len(),
        initramfs_unpacked_bytes: archive.len(),
    })
}

fn read_agent(path: &Path, profile: Profile) -> Result<Vec<u8>, ImageError> {
    let bad =
        |detail: &str| ImageError::BadAgent { path: path.to_path_buf(), detail: detail.to_owned() };
    let agent = read_bounded(path, MAX_AGENT_BYTES)?;
    if !is_static_x86_64(&agent) {
        return Err(bad("it is not a static x86-64 program"));
    }
    if profile == Profile::Prod && contains(&agent, SIMULATED_TEE_MARKER) {
        return Err(ImageError::ForbiddenInProd {
            what: "an agent with the simulated TEE".to_owned(),
        });
    }
    Ok(agent)
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

fn busybox(
    order: &Order<'_>,
    cache: &PackageCache,
    unpacked: &Path,
) -> Result<Vec<u8>, ImageError> {
    let suite = Suite::parse(order.suite.base())?;
    let request = ["busybox-static".to_owned()];
    let packages =
        cache.fetch(&suite, &request, |candidate, _| candidate.name == "busybox-static")?;
    cache.unpack(&packages, unpacked)?;
    let path = ["usr/bin/busybox", "bin/busybox"]
        .iter()
        .map(|sub| unpacked.join(sub))
        .find(|path| path.is_file())
        .ok_or_else(|| ImageError::PackageFile {
            file: "busybox-static".to_owned(),
            detail: "it has no busybox".to_owned(),
        })?;
    read_bounded(&path, MAX_AGENT_BYTES)
}

/// # Errors
/// A bug: the value cannot be JSON.
pub fn json(value: &impl Serialize) -> Result<Vec<u8>, ImageError> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| ImageError::Encode { what: "JSON", detail: error.to_string() })?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn static_program(tail: &[u8]) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[0x12], elf[0x20], elf[0x36], elf[0x38], elf[64]) = (62, 64, 56, 1, 1);
        elf.extend(tail);
        elf
    }

    #[test]
    fn prod_refuses_an_agent_with_the_simulated_tee() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        fs::write(&path, static_program(b"..SIMULATED TEE..")).unwrap();
        assert!(read_agent(&path, Profile::Dev).is_ok());
        assert_eq!(read_agent(&path, Profile::Prod).unwrap_err().code(), "ST-IMAGE-10");
        fs::write(&path, static_program(b"clean")).unwrap();
        assert!(read_agent(&path, Profile::Prod).is_ok());
        fs::write(&path, b"#!/bin/sh\n").unwrap();
        assert_eq!(read_agent(&path, Profile::Dev).unwrap_err().code(), "ST-IMAGE-09");
    }
}
