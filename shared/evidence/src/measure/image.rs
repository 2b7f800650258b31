//! A whole launch: from the files that a VM is started from to its registers and the events behind them.

use serde::{Deserialize, Serialize};

use super::{
    error::MeasureError,
    hob::AcceptedMemory,
    mrtd::mrtd,
    recipe::{DigestSource, Recipe},
    rtmr0::configuration_volume_digest,
    rtmr1::kernel_digest,
    rtmr2::{command_line_digest, initramfs_digest},
    tdvf::Tdvf,
};
use crate::{
    event_log::extend,
    fixed_hex::Hex48,
    layout1::BootRegisters,
    logs::{EventType, Register},
};

#[derive(Debug, Clone, Copy)]
pub struct TdxImage<'a> {
    pub firmware: &'a [u8],
    pub kernel: &'a [u8],
    pub initrd: &'a [u8],
    /// Without what the firmware adds.
    pub cmdline: &'a str,
}

/// Everything about a VM that its host's tables depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineShape {
    pub vcpus: u32,
    pub memory_mib: u64,
    /// Read-only disks, one for each layer.
    #[serde(default)]
    pub disks: u32,
    #[serde(default)]
    pub gpus: u32,
}

impl MachineShape {
    pub fn memory_bytes(self) -> Result<u64, MeasureError> {
        self.memory_mib.checked_mul(1 << 20).ok_or(MeasureError::Memory {
            bytes: u64::MAX,
            reason: "it has more bytes than can be counted",
        })
    }
}

/// An event that this launch makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedEvent {
    pub register: Register,
    pub event_type: EventType,
    pub name: String,
    pub source: DigestSource,
    /// None where the recipe holds no recording for the shape.
    pub digest: Option<Hex48>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxMeasurement {
    pub registers: BootRegisters,
    pub events: Vec<ExpectedEvent>,
}

/// Registers and events of a launch. Fails where the recipe lacks a recording for the shape: what is not known is not
/// guessed.
pub fn measure_tdx(
    image: &TdxImage<'_>,
    shape: MachineShape,
    recipe: &Recipe,
) -> Result<TdxMeasurement, MeasureError> {
    let events = expected_events(image, shape, recipe)?;
    let registers = registers(recipe.mrtd, &events)?;
    Ok(TdxMeasurement { registers, events })
}

/// The registers that expected events lead to.
pub fn registers(mrtd: Hex48, events: &[ExpectedEvent]) -> Result<BootRegisters, MeasureError> {
    Ok(BootRegisters {
        mrtd,
        rtmr0: register(Register::Rtmr0, events)?,
        rtmr1: register(Register::Rtmr1, events)?,
        rtmr2: register(Register::Rtmr2, events)?,
    })
}

/// The value that the events of one register lead to.
pub fn register(register: Register, events: &[ExpectedEvent]) -> Result<Hex48, MeasureError> {
    let mut own = events.iter().filter(|event| event.register == register);
    own.try_fold(Hex48::ZERO, |value, event| {
        let digest = event.digest.ok_or(MeasureError::NotRecorded(event.source))?;
        Ok(extend(&value, &digest))
    })
}

/// The events of a launch, with every digest that is known; for a comparison that leaves the host's tables free.
pub fn expected_events(
    image: &TdxImage<'_>,
    shape: MachineShape,
    recipe: &Recipe,
) -> Result<Vec<ExpectedEvent>, MeasureError> {
    let tdvf = Tdvf::parse(image.firmware)?;
    let found = mrtd(image.firmware, &tdvf, recipe.page_order)?;
    if found != recipe.mrtd {
        return Err(MeasureError::RecipeFirmware {
            what: "MRTD",
            found: found.to_string(),
            expected: recipe.mrtd.to_string(),
        });
    }
    let memory = AcceptedMemory::of(&tdvf)?;
    if memory != recipe.memory {
        return Err(MeasureError::RecipeFirmware {
            what: "accepted memory",
            found: format!("{:x?}", memory.ranges),
            expected: format!("{:x?}", recipe.memory.ranges),
        });
    }
    let launch = Launch { image, shape, recipe, tdvf: &tdvf };
    recipe.expect(|source| launch.digest(source))
}

struct Launch<'a> {
    image: &'a TdxImage<'a>,
    shape: MachineShape,
    recipe: &'a Recipe,
    tdvf: &'a Tdvf,
}

impl Launch<'_> {
    fn digest(&self, source: DigestSource) -> Result<Option<Hex48>, MeasureError> {
        let tables = self.recipe.tables_for(self.shape);
        let memory = self.shape.memory_bytes()?;
        let image = self.image;
        Ok(match source {
            DigestSource::Fixed => None,
            DigestSource::TdHob => Some(self.recipe.memory.digest(memory)?),
            DigestSource::VariableStore => {
                Some(configuration_volume_digest(image.firmware, self.tdvf)?)
            }
            DigestSource::AcpiLoader => tables.map(|tables| tables.acpi_loader),
            DigestSource::AcpiRsdp => tables.map(|tables| tables.acpi_rsdp),
            DigestSource::AcpiTables => tables.map(|tables| tables.acpi_tables),
            DigestSource::Smbios => tables.and_then(|tables| tables.smbios),
            DigestSource::Kernel => {
                let form = self.recipe.kernel;
                Some(kernel_digest(image.kernel, image.initrd.len(), memory, form)?)
            }
            DigestSource::CommandLine => {
                Some(command_line_digest(image.cmdline, self.recipe.command_line)?)
            }
            DigestSource::Initramfs => Some(initramfs_digest(image.initrd)?),
        })
    }
}
