//! A recipe: which events one firmware makes on one class of QEMU, in which order, and where each digest comes from.
//!
//! TOML, version 1, closed. A digest is fixed (the same in every boot of this firmware), computed from what the VM is
//! started with, or recorded for a shape of VM.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    error::MeasureError,
    hob::AcceptedMemory,
    image::{ExpectedEvent, MachineShape},
    mrtd::PageOrder,
    rtmr2::CommandLineForm,
};
use crate::{
    fixed_hex::Hex48,
    logs::{EventType, Register},
};

pub const RECIPE_VERSION: u32 = 1;
pub const MAX_RECIPE_BYTES: usize = 256 << 10;
const MAX_EVENTS: usize = 64;
const MAX_RECORDED: usize = 512;
const MAX_TEXT: usize = 512;

/// The recipes that come with this program, by name.
pub const SHIPPED: [(&str, &str); 4] = [
    ("edk2-202502-qemu8", include_str!("recipes/edk2-202502-qemu8.toml")),
    ("edk2-202502-qemu9", include_str!("recipes/edk2-202502-qemu9.toml")),
    ("debian-202608-qemu10.1", include_str!("recipes/debian-202608-qemu10.1.toml")),
    ("debian-202608-qemu10.2", include_str!("recipes/debian-202608-qemu10.2.toml")),
];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub version: u32,
    pub name: String,
    /// How it was recorded, for people.
    pub source: String,
    /// Of the measured code; the variable store is an event of its own.
    pub mrtd: Hex48,
    pub page_order: PageOrder,
    pub kernel: KernelForm,
    #[serde(default)]
    pub command_line: CommandLineForm,
    pub memory: AcceptedMemory,
    #[serde(rename = "event")]
    pub events: Vec<RecipeEvent>,
    #[serde(default)]
    pub recorded: Vec<RecordedTables>,
}

/// What the firmware hashes as the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelForm {
    /// With the fields that QEMU up to 10.1 writes into the setup header.
    Patched,
    /// The file (QEMU 10.2 and later).
    AsIs,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeEvent {
    /// 0, 1 or 2.
    pub register: u32,
    #[serde(rename = "type")]
    pub event_type: u32,
    pub name: String,
    pub digest: DigestSource,
    /// For a fixed digest, and only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Hex48>,
}

/// Where the digest of an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DigestSource {
    Fixed,
    TdHob,
    VariableStore,
    AcpiLoader,
    AcpiRsdp,
    AcpiTables,
    Smbios,
    Kernel,
    CommandLine,
    Initramfs,
}

impl DigestSource {
    /// Whether the host decides it, within what the shape of the VM allows.
    pub fn is_host_layout(self) -> bool {
        matches!(self, Self::TdHob | Self::AcpiLoader | Self::AcpiRsdp | Self::AcpiTables)
    }

    /// The one run-time register that such a digest belongs into.
    pub(super) fn register(self) -> Option<usize> {
        match self {
            Self::Fixed => None,
            Self::Kernel => Some(1),
            Self::CommandLine | Self::Initramfs => Some(2),
            _ => Some(0),
        }
    }
}

impl fmt::Display for DigestSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed => "fixed digest",
            Self::TdHob => "TD HOB",
            Self::VariableStore => "variable store",
            Self::AcpiLoader => "ACPI loader",
            Self::AcpiRsdp => "ACPI RSDP",
            Self::AcpiTables => "ACPI tables",
            Self::Smbios => "SMBIOS tables",
            Self::Kernel => "kernel",
            Self::CommandLine => "command line",
            Self::Initramfs => "initramfs",
        })
    }
}

/// Tables that one build of QEMU makes for one shape of VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedTables {
    pub shape: MachineShape,
    pub acpi_loader: Hex48,
    pub acpi_rsdp: Hex48,
    pub acpi_tables: Hex48,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smbios: Option<Hex48>,
}

impl Recipe {
    pub fn parse(toml: &[u8]) -> Result<Self, MeasureError> {
        let unreadable = |text: String| MeasureError::RecipeUnreadable(text);
        if toml.len() > MAX_RECIPE_BYTES {
            return Err(unreadable("it is longer than 256 KiB".to_owned()));
        }
        let text = std::str::from_utf8(toml).map_err(|error| unreadable(error.to_string()))?;
        let recipe: Self =
            toml::from_str(text).map_err(|error| unreadable(error.message().to_owned()))?;
        recipe.check().map(|()| recipe)
    }

    /// The events of a boot, with the digests that `digest` knows; it is not asked for fixed ones.
    pub fn expect(
        &self,
        digest: impl Fn(DigestSource) -> Result<Option<Hex48>, MeasureError>,
    ) -> Result<Vec<ExpectedEvent>, MeasureError> {
        let expected = self.events.iter().map(|event| {
            Ok(ExpectedEvent {
                register: event.register(),
                event_type: EventType::from(event.event_type),
                name: event.name.clone(),
                source: event.digest,
                digest: match event.digest {
                    DigestSource::Fixed => event.value,
                    source => digest(source)?,
                },
            })
        });
        expected.collect()
    }

    pub fn tables_for(&self, shape: MachineShape) -> Option<&RecordedTables> {
        self.recorded.iter().find(|recorded| recorded.shape == shape)
    }

    /// What a file that this program reads would hold.
    pub fn to_toml(&self) -> Result<String, MeasureError> {
        toml::to_string(self).map_err(|error| MeasureError::RecipeUnreadable(error.to_string()))
    }

    pub(super) fn check(&self) -> Result<(), MeasureError> {
        if self.version != RECIPE_VERSION {
            return Err(MeasureError::RecipeVersion(self.version));
        }
        let refused = |reason| Err(MeasureError::RecipeField(reason));
        if self.name.is_empty() || self.name.len() > MAX_TEXT || self.source.len() > MAX_TEXT {
            return refused("its name is empty, or a text is longer than 512 bytes");
        }
        if self.mrtd.is_zero() {
            return refused("its MRTD is zero");
        }
        if !(1..=MAX_EVENTS).contains(&self.events.len()) || self.recorded.len() > MAX_RECORDED {
            return refused("it has no events, more than 64, or more than 512 recordings");
        }
        self.memory.check()?;
        self.events.iter().try_for_each(RecipeEvent::check)?;
        for source in [
            DigestSource::TdHob,
            DigestSource::VariableStore,
            DigestSource::AcpiLoader,
            DigestSource::AcpiRsdp,
            DigestSource::AcpiTables,
            DigestSource::Kernel,
            DigestSource::CommandLine,
            DigestSource::Initramfs,
        ] {
            if self.events.iter().filter(|event| event.digest == source).count() != 1 {
                return refused(
                    "memory, variables, ACPI, kernel, command line and initramfs occur once each",
                );
            }
        }
        let smbios = self.events.iter().any(|event| event.digest == DigestSource::Smbios);
        for (index, recorded) in self.recorded.iter().enumerate() {
            if recorded.smbios.is_some() != smbios {
                return refused(
                    "recordings have an SMBIOS digest if and only if there is such an event",
                );
            }
            let earlier = self.recorded.iter().take(index);
            if earlier.into_iter().any(|other| other.shape == recorded.shape) {
                return refused("a shape is recorded twice");
            }
        }
        Ok(())
    }
}

impl RecipeEvent {
    fn check(&self) -> Result<(), MeasureError> {
        let refused = |reason| Err(MeasureError::RecipeField(reason));
        if self.register > 2
            || self.digest.register().is_some_and(|own| Some(own) != self.register().rtmr())
        {
            return refused("an event is of another register than its digest");
        }
        if self.name.is_empty() || self.name.len() > MAX_TEXT {
            return refused("an event's name is empty or longer than 512 bytes");
        }
        if self.value.is_some() != (self.digest == DigestSource::Fixed) {
            return refused("an event has a value if and only if its digest is fixed");
        }
        Ok(())
    }

    /// Never above register 2 in a recipe that was checked.
    pub fn register(&self) -> Register {
        Register::from_imr(self.register).unwrap_or(Register::Rtmr3)
    }
}

/// Fuzz entry: a recipe that parses survives being written and read.
pub fn fuzz_recipe(data: &[u8]) {
    let Ok(recipe) = Recipe::parse(data) else { return };
    assert!(recipe.events.len() <= MAX_EVENTS && recipe.recorded.len() <= MAX_RECORDED);
    if let Ok(text) = toml::to_string(&recipe) {
        assert_eq!(Recipe::parse(text.as_bytes()), Ok(recipe));
    }
}
