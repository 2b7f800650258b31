//! The launch digest (MEASUREMENT) of an SNP VM that QEMU boots directly into a kernel.
//!
//! Source: AMD 56860, SNP_LAUNCH_UPDATE: the digest is SHA-384 over a PAGE_INFO structure of 112 bytes for each page, which
//! begins with the digest before it. Order as QEMU launches: firmware file, sections of the firmware's list, one save area
//! a processor. The table of kernel hashes is QEMU's (`target/i386/sev.c`).

use ring::digest::{self, SHA256, SHA384};
use serde::{Deserialize, Serialize};

use super::{
    codes::Code,
    ovmf::{Firmware, FirmwareError, PAGE, Section, SectionKind, guid},
    vmsa,
};
use crate::fixed_hex::{FixedHex, Hex32, Hex48};

const MAX_VCPUS: u32 = 1024;
const PAGE_INFO_BYTES: u16 = 0x70;
/// Save areas have no address of their own.
const SAVE_AREA_ADDRESS: u64 = 0xffff_ffff_f000;
const TABLE_BYTES: u16 = 168;
const ENTRY_BYTES: u16 = 50;

const TABLE_GUID: [u8; 16] = guid(0x9438d606_4f22_4cc9_b479_a793d411fd21);
const LINE_GUID: [u8; 16] = guid(0x97d02dd8_bd20_4c94_aa78_e7714d36ab2a);
const INITRAMFS_GUID: [u8; 16] = guid(0x44baf731_3a2f_4bd7_9af1_41e29169781d);
const KERNEL_GUID: [u8; 16] = guid(0x4de79437_abd2_427f_b835_d5b172d2045b);

/// What firmware compares kernel, initramfs and command line with before it uses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelHashes {
    /// SHA-256 of each.
    pub kernel: Hex32,
    pub initramfs: Hex32,
    /// With the zero byte that ends it.
    pub command_line: Hex32,
}

/// CPUID Fn0000_0001_EAX of the processor model that QEMU shows to the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CpuSignature(pub u32);

/// What differs between VMs of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchShape {
    pub vcpus: u32,
    pub cpu: CpuSignature,
    /// SEV_FEATURES of the save areas; bit 0 is SNP itself.
    pub guest_features: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchDigestError {
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    #[error("measure the kernel: the firmware has no page for its hashes")]
    NoKernelHashes,
    #[error("measure {0} processors: the firmware does not say where further ones start")]
    NoResetVector(u32),
    #[error("measure {0} processors, expected 1 to 1024")]
    Vcpus(u32),
    #[error(
        "use the processor signature of family {family:#x}, model {model:#x}, stepping {stepping:#x}"
    )]
    Signature { family: u32, model: u32, stepping: u32 },
}

impl LaunchDigestError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Firmware(error) => error.entry(),
            Self::NoKernelHashes => Code::FirmwareKernelHashes,
            Self::NoResetVector(_) => Code::FirmwareResetVector,
            Self::Vcpus(_) | Self::Signature { .. } => Code::ShapeField,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl KernelHashes {
    pub fn of(kernel: &[u8], initramfs: &[u8], command_line: &str) -> Self {
        let line = [command_line.as_bytes(), &[0]].concat();
        Self { kernel: sha256(kernel), initramfs: sha256(initramfs), command_line: sha256(&line) }
    }

    /// The page that QEMU puts into memory for the firmware, with the table at `offset`.
    fn page(&self, offset: usize) -> Vec<u8> {
        let mut page = vec![0; offset];
        page.extend(TABLE_GUID);
        page.extend(TABLE_BYTES.to_le_bytes());
        for (name, hash) in [
            (LINE_GUID, self.command_line),
            (INITRAMFS_GUID, self.initramfs),
            (KERNEL_GUID, self.kernel),
        ] {
            page.extend(name);
            page.extend(ENTRY_BYTES.to_le_bytes());
            page.extend(hash.as_bytes());
        }
        page.resize(PAGE, 0);
        page
    }
}

impl CpuSignature {
    /// From the numbers by which processors are named.
    pub fn new(family: u32, model: u32, stepping: u32) -> Result<Self, LaunchDigestError> {
        if !(0xf..=0xf + 0xff).contains(&family) || model > 0xff || stepping > 0xf {
            return Err(LaunchDigestError::Signature { family, model, stepping });
        }
        let extended_family = family - 0xf;
        let (high, low) = (model >> 4, model & 0xf);
        Ok(Self(extended_family << 20 | high << 16 | 0xf << 8 | low << 4 | stepping))
    }

    /// By the name of QEMU's processor model, whatever its version.
    pub fn of_qemu_model(name: &str) -> Option<Self> {
        let base = match name.rsplit_once("-v") {
            Some((base, version)) if version.parse::<u8>().is_ok() => base,
            _ => name,
        };
        match base {
            "EPYC" | "EPYC-IBPB" => Some(Self(0x0080_0f12)),
            "EPYC-Rome" => Some(Self(0x0083_0f10)),
            "EPYC-Milan" => Some(Self(0x00a0_0f11)),
            "EPYC-Genoa" => Some(Self(0x00a1_0f10)),
            "EPYC-Turin" => Some(Self(0x00b0_0f00)),
            _ => None,
        }
    }
}

impl Firmware {
    /// The MEASUREMENT of a VM with this firmware. With `kernel` the VM must be started with kernel hashes on.
    pub fn launch_digest(
        &self,
        shape: &LaunchShape,
        kernel: Option<&KernelHashes>,
    ) -> Result<Hex48, LaunchDigestError> {
        self.check()?;
        if !(1..=MAX_VCPUS).contains(&shape.vcpus) {
            return Err(LaunchDigestError::Vcpus(shape.vcpus));
        }
        let hashes = match kernel {
            None => None,
            Some(hashes) => {
                let offset = self.hashes_offset().ok_or(LaunchDigestError::NoKernelHashes)?;
                Some(hashes.page(offset))
            }
        };
        let mut context = GuestContext(self.pages);
        for section in &self.sections {
            context.measure_section(section, hashes.as_deref());
        }
        let LaunchShape { vcpus, cpu, guest_features } = *shape;
        context.measure_save_area(&vmsa::first_page(cpu.0, guest_features));
        if vcpus > 1 {
            let start = self.reset_vector.ok_or(LaunchDigestError::NoResetVector(vcpus))?;
            let page = vmsa::page(start, cpu.0, guest_features);
            for _ in 1..vcpus {
                context.measure_save_area(&page);
            }
        }
        Ok(context.digest())
    }
}

#[derive(Debug, Clone, Copy)]
enum PageKind {
    Normal = 1,
    SaveArea = 2,
    Zero = 3,
    Secrets = 5,
    CpuId = 6,
}

/// The digest as it grows.
#[derive(Debug, Clone, Default)]
pub(super) struct GuestContext(Hex48);

impl GuestContext {
    pub(super) fn digest(&self) -> Hex48 {
        self.0
    }

    pub(super) fn measure_pages(&mut self, start: u64, contents: &[u8]) {
        let mut address = start;
        for page in contents.chunks(PAGE) {
            self.measure(PageKind::Normal, address, sha384(page));
            address = address.wrapping_add(PAGE as u64);
        }
    }

    fn measure_section(&mut self, section: &Section, hashes: Option<&[u8]>) {
        let start = u64::from(section.address);
        let kind = match (section.kind, hashes) {
            (SectionKind::KernelHashes, Some(page)) => return self.measure_pages(start, page),
            (SectionKind::Secrets, _) => PageKind::Secrets,
            (SectionKind::CpuId, _) => PageKind::CpuId,
            (SectionKind::Memory | SectionKind::SvsmCallingArea, _)
            | (SectionKind::KernelHashes, None) => PageKind::Zero,
        };
        for page in 0..u64::from(section.length) / PAGE as u64 {
            self.measure(kind, start + page * PAGE as u64, FixedHex::ZERO);
        }
    }

    fn measure_save_area(&mut self, page: &[u8]) {
        self.measure(PageKind::SaveArea, SAVE_AREA_ADDRESS, sha384(page));
    }

    /// One PAGE_INFO: digest so far, digest of the page, length, kind, no initial migration image, no permissions for
    /// VMPL 1 to 3, address.
    fn measure(&mut self, kind: PageKind, address: u64, contents: Hex48) {
        let mut info = digest::Context::new(&SHA384);
        info.update(self.0.as_bytes());
        info.update(contents.as_bytes());
        info.update(&PAGE_INFO_BYTES.to_le_bytes());
        info.update(&[kind as u8, 0, 0, 0, 0, 0]);
        info.update(&address.to_le_bytes());
        self.0 = hex48(info.finish());
    }
}

fn sha384(bytes: &[u8]) -> Hex48 {
    hex48(digest::digest(&SHA384, bytes))
}

fn hex48(digest: digest::Digest) -> Hex48 {
    let mut value = [0; 48];
    value.copy_from_slice(digest.as_ref());
    FixedHex(value)
}

fn sha256(bytes: &[u8]) -> Hex32 {
    let mut value = [0; 32];
    value.copy_from_slice(digest::digest(&SHA256, bytes).as_ref());
    FixedHex(value)
}
