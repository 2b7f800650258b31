//! What a TDX VM measures at launch, computed from the files that it is started from.
//!
//! Pure functions of bytes: firmware, kernel, initramfs and command line in, MRTD and RTMR0 to RTMR2 with their events out.
//! What cannot be computed (ACPI and SMBIOS tables depend on the build of QEMU) is data, in a [`Recipe`] that was recorded
//! from a real boot of one firmware on one class of QEMU.

pub mod acpi;
pub mod authenticode;
pub mod codes;
pub mod compare;
mod error;
mod field;
pub mod hob;
pub mod image;
pub mod mrtd;
pub mod recipe;
pub mod record;
pub mod rtmr0;
pub mod rtmr1;
pub mod rtmr2;
pub mod tdvf;
pub mod witness;

pub use acpi::AcpiTables;
pub use codes::Code;
pub use compare::{Comparison, FreeDigest, Strictness, compare, compare_register};
pub use error::{EventDifference, MeasureError, MeasuredFile};
pub use hob::{AcceptedMemory, MemoryRange};
pub use image::{
    ExpectedEvent, MachineShape, TdxImage, TdxMeasurement, expected_events, measure_tdx, register,
    registers,
};
pub use mrtd::{PageOrder, mrtd};
pub use recipe::{DigestSource, KernelForm, Recipe, RecipeEvent, RecordedTables, SHIPPED};
pub use record::{RecordedBoot, record, record_shape};
pub use rtmr2::CommandLineForm;
pub use tdvf::{Section, SectionKind, Tdvf};
pub use witness::{Recording, Witness, WitnessError, record_witness};

#[cfg(test)]
mod tests;
