//! Reference values: what a release measures. Written when an image is built, read by verifiers.
//!
//! Registers are compared whole and together: a row says "this firmware, started in this shape with this kernel, command
//! line and initramfs, gives these four registers". Nothing is searched for in event logs. A file without rows would match
//! nothing and is an error.

mod departure;
mod image;
mod layout;

use layout::MAX_LAYOUTS;
use ring::digest;
use sealtune_seal::canonical::{self, CanonicalError};
use serde::{Deserialize, Serialize};

use crate::{
    codes::Code,
    fixed_hex::{Hex32, Hex48},
    launch::{Layer, Shape},
    layout1::{self, BootFiles, BootRegisters},
};

pub use departure::Departure;
pub use image::{ImageEvent, ImageReference, ImageRegisters};
pub use layout::{HostCode, Rtmr0Event, Rtmr0Layout};

pub const MAX_REFERENCE_BYTES: usize = 1024 * 1024;
pub const MAX_ROWS: usize = 4096;
const MAX_LAYERS: usize = 256;
const MAX_TEXT: usize = 128;
const MAX_CMDLINE: usize = 2048;

/// Whether an image lets its operator in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    Dev,
    Prod,
}

impl Profile {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Prod => "prod",
        }
    }
}

/// How registers follow from files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    #[serde(rename = "simulated-1")]
    Simulated1,
    /// Recorded from a real boot.
    #[serde(rename = "recorded")]
    Recorded,
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Simulated1 => "simulated-1",
            Self::Recorded => "recorded",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDigests {
    pub sha256: Hex32,
    pub sha384: Hex48,
}

impl FileDigests {
    pub fn of(bytes: &[u8]) -> Self {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self { sha256: sha256.into(), sha384: layout1::file_digest(bytes) }
    }
}

/// One way to start the release, and the registers that it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterRow {
    pub layout: Layout,
    /// SHA-384 of the firmware file.
    pub firmware: Hex48,
    pub vcpus: u32,
    /// Absent where the registers do not depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    pub mrtd: Hex48,
    /// Absent where the host's tables are not known: for policies with `rtmr0 = "layout-free"` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtmr0: Option<Hex48>,
    pub rtmr1: Hex48,
    pub rtmr2: Hex48,
}

/// One way to start the release on SEV-SNP, and the launch digest that it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpRow {
    /// SHA-384 of the firmware file.
    pub firmware: Hex48,
    pub vcpus: u32,
    pub measurement: Hex48,
}

impl SnpRow {
    /// Memory is not in the launch digest.
    pub fn covers(&self, shape: Shape) -> bool {
        self.vcpus == shape.vcpus
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceValues {
    pub version: u32,
    pub release: String,
    pub profile: Profile,
    pub cmdline: String,
    pub kernel: FileDigests,
    pub initramfs: FileDigests,
    pub registers: Vec<RegisterRow>,
    /// What RTMR0 is made of, for policies with `rtmr0 = "layout-free"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rtmr0: Vec<Rtmr0Layout>,
    /// The same for SEV-SNP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snp: Vec<SnpRow>,
    /// Layers that belong to the release.
    pub layers: Vec<Layer>,
    #[serde(skip)]
    pub host_code: HostCode,
}

/// What the image builder knows about an image.
#[derive(Debug, Clone)]
pub struct ImageFacts {
    pub release: String,
    pub profile: Profile,
    pub cmdline: String,
    pub kernel: FileDigests,
    pub initramfs: FileDigests,
    pub layers: Vec<Layer>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    #[error("read the reference values: {0}")]
    Parse(String),
    #[error("accept the reference values: they list no registers")]
    Empty,
    #[error("accept the reference values: {field}: {reason}")]
    Field { field: &'static str, reason: &'static str },
    #[error("write the reference values: {0}")]
    Write(#[source] CanonicalError),
}

impl ReferenceError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Parse(_) => Code::ReferenceUnreadable,
            Self::Empty => Code::ReferenceEmpty,
            Self::Field { .. } | Self::Write(_) => Code::ReferenceField,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl ReferenceValues {
    /// Reference values of an image in simulated layout 1, for every firmware and shape that it shall be started with.
    ///
    /// `firmware` holds SHA-384 digests of firmware files.
    pub fn from_image(
        image: ImageFacts,
        firmware: &[Hex48],
        shapes: &[Shape],
    ) -> Result<Self, ReferenceError> {
        let mut values = Self::without_rows(image);
        for firmware in firmware {
            for shape in shapes {
                values.add(*firmware, *shape)?;
            }
        }
        values.validate()?;
        Ok(values)
    }

    /// Reference values of an image with rows that were measured by a recipe.
    pub fn from_rows(
        image: ImageFacts,
        registers: Vec<RegisterRow>,
        rtmr0: Vec<Rtmr0Layout>,
    ) -> Result<Self, ReferenceError> {
        let values = Self { registers, rtmr0, ..Self::without_rows(image) };
        values.validate()?;
        Ok(values)
    }

    fn without_rows(image: ImageFacts) -> Self {
        Self {
            version: 1,
            release: image.release,
            profile: image.profile,
            cmdline: image.cmdline,
            kernel: image.kernel,
            initramfs: image.initramfs,
            registers: vec![],
            rtmr0: vec![],
            snp: vec![],
            layers: image.layers,
            host_code: HostCode::Unstated,
        }
    }

    /// Adds the row for one firmware and shape in simulated layout 1, unless it is there.
    pub fn add(&mut self, firmware: Hex48, shape: Shape) -> Result<(), ReferenceError> {
        let row = self.simulated_row(firmware, shape)?;
        if !self.registers.contains(&row) {
            if self.registers.len() >= MAX_ROWS {
                return Err(ReferenceError::Field {
                    field: "registers",
                    reason: "more than 4096 rows",
                });
            }
            self.registers.push(row);
        }
        Ok(())
    }

    /// The row that is listed for this firmware and shape.
    pub fn registers_for(&self, firmware: &Hex48, shape: Shape) -> Option<&RegisterRow> {
        self.registers.iter().find(|row| row.firmware == *firmware && row.covers(shape))
    }

    /// Reads and checks a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReferenceError> {
        if bytes.len() > MAX_REFERENCE_BYTES {
            return Err(ReferenceError::Parse("longer than 1 MiB".to_owned()));
        }
        let values: Self = serde_json::from_slice(bytes)
            .map_err(|error| ReferenceError::Parse(error.to_string()))?;
        values.validate()?;
        Ok(values)
    }

    pub fn to_bytes(&self) -> Result<Vec<u8>, ReferenceError> {
        self.validate()?;
        canonical::to_vec(self).map_err(ReferenceError::Write)
    }

    /// Which row the measured registers are, as a whole; or where they leave all rows.
    pub fn find(&self, measured: &BootRegisters, shape: Shape) -> Result<&RegisterRow, Departure> {
        let rows = || self.registers.iter();
        let firmware = |row: &&RegisterRow| row.mrtd == measured.mrtd;
        let covering = |row: &&RegisterRow| firmware(row) && row.covers(shape);
        let shaped = |row: &&RegisterRow| {
            covering(row) && row.rtmr0.is_none_or(|rtmr0| rtmr0 == measured.rtmr0)
        };
        let kernel = |row: &&RegisterRow| shaped(row) && row.rtmr1 == measured.rtmr1;
        let boot = |row: &&RegisterRow| kernel(row) && row.rtmr2 == measured.rtmr2;
        if let Some(row) = rows().find(|row| boot(row) && row.rtmr0.is_some()) {
            return Ok(row);
        }
        Err(if !rows().any(|row| firmware(&row)) {
            Departure::Firmware
        } else if !rows().any(|row| shaped(&row)) {
            Departure::Shape
        } else if !rows().any(|row| kernel(&row)) {
            Departure::Kernel
        } else if !rows().any(|row| boot(&row)) {
            Departure::Boot
        } else {
            Departure::Unrecorded
        })
    }

    fn simulated_row(&self, firmware: Hex48, shape: Shape) -> Result<RegisterRow, ReferenceError> {
        let files = BootFiles {
            firmware,
            kernel: self.kernel.sha384,
            initramfs: self.initramfs.sha384,
            cmdline: self.cmdline.clone(),
        };
        let BootRegisters { mrtd, rtmr0, rtmr1, rtmr2 } =
            layout1::measure(&files, shape).map_err(ReferenceError::Write)?.registers;
        Ok(RegisterRow {
            layout: Layout::Simulated1,
            firmware,
            vcpus: shape.vcpus,
            memory_mib: Some(shape.memory_mib),
            mrtd,
            rtmr0: Some(rtmr0),
            rtmr1,
            rtmr2,
        })
    }

    fn validate(&self) -> Result<(), ReferenceError> {
        let refuse = |field, reason| Err(ReferenceError::Field { field, reason });
        if self.version != 1 {
            return refuse("version", "this program knows version 1");
        }
        if self.release.is_empty() || self.release.len() > MAX_TEXT {
            return refuse("release", "expected a short name");
        }
        if self.cmdline.len() > MAX_CMDLINE {
            return refuse("cmdline", "the kernel cuts lines at 2048 bytes");
        }
        if self.layers.len() > MAX_LAYERS {
            return refuse("layers", "expected at most 256");
        }
        if self.registers.is_empty() && self.snp.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if self.snp.len() > MAX_ROWS || self.snp.iter().any(|row| row.measurement.is_zero()) {
            return refuse("snp", "more than 4096 rows, or a measurement that is all zero");
        }
        if self.registers.len() > MAX_ROWS {
            return refuse("registers", "more than 4096 rows");
        }
        if self.rtmr0.len() > MAX_LAYOUTS || !self.rtmr0.iter().all(Rtmr0Layout::is_valid) {
            return refuse(
                "rtmr0",
                "more than 256 layouts or 64 events, or nothing in one is fixed",
            );
        }
        for row in &self.registers {
            let rtmr0 = row.rtmr0.iter();
            if rtmr0.chain([&row.mrtd, &row.rtmr1, &row.rtmr2]).any(Hex48::is_zero) {
                return refuse("registers", "a register is all zero");
            }
            if row.rtmr0.is_none() && !self.rtmr0.iter().any(|layout| layout.is_of(row)) {
                return refuse("registers", "a row has no rtmr0, and there are no events for it");
            }
            // A row of a computed layout must follow from the digests above it, or the file contradicts itself.
            if row.layout == Layout::Simulated1 {
                let Some(memory_mib) = row.memory_mib else {
                    return refuse("registers", "simulated-1 needs memory_mib");
                };
                let shape = Shape { vcpus: row.vcpus, memory_mib };
                if self.simulated_row(row.firmware, shape)? != *row {
                    return refuse("registers", "a row does not follow from the file's digests");
                }
            }
        }
        Ok(())
    }
}

impl RegisterRow {
    /// What a recorded boot gives for one firmware and shape.
    pub fn recorded(firmware: Hex48, shape: Shape, registers: &BootRegisters) -> Self {
        let BootRegisters { mrtd, rtmr0, rtmr1, rtmr2 } = *registers;
        Self {
            layout: Layout::Recorded,
            firmware,
            vcpus: shape.vcpus,
            memory_mib: Some(shape.memory_mib),
            mrtd,
            rtmr0: Some(rtmr0),
            rtmr1,
            rtmr2,
        }
    }

    /// All four, where they are known.
    pub fn registers(&self) -> Option<BootRegisters> {
        let Self { mrtd, rtmr0, rtmr1, rtmr2, .. } = *self;
        rtmr0.map(|rtmr0| BootRegisters { mrtd, rtmr0, rtmr1, rtmr2 })
    }

    pub fn covers(&self, shape: Shape) -> bool {
        self.vcpus == shape.vcpus
            && self.memory_mib.is_none_or(|memory_mib| memory_mib == shape.memory_mib)
    }
}

/// Fuzz entry: whatever is accepted has rows, finds each of them, and reads back from its canonical form.
pub fn fuzz_reference_values(data: &[u8]) {
    if let Ok(values) = ReferenceValues::parse(data) {
        assert!(!values.registers.is_empty() || !values.snp.is_empty());
        for row in &values.registers {
            let Some(measured) = row.registers() else { continue };
            let shape = Shape { vcpus: row.vcpus, memory_mib: row.memory_mib.unwrap_or(1) };
            assert!(values.find(&measured, shape).is_ok());
        }
        if let Ok(bytes) = values.to_bytes() {
            assert_eq!(ReferenceValues::parse(&bytes).ok().as_ref(), Some(&values));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn values(profile: Profile) -> ReferenceValues {
        let files = layout1::tests::files();
        let image = ImageFacts {
            release: "0.1.0".into(),
            profile,
            cmdline: files.cmdline.clone(),
            kernel: FileDigests::of(b"kernel"),
            initramfs: FileDigests::of(b"initramfs"),
            layers: vec![],
        };
        ReferenceValues::from_image(image, &[files.firmware], &[layout1::tests::SHAPE])
            .expect("reference values")
    }

    fn measured() -> BootRegisters {
        layout1::measure(&layout1::tests::files(), layout1::tests::SHAPE)
            .expect("measures")
            .registers
    }

    #[test]
    fn finds_whole_rows_and_says_where_they_depart() {
        let values = values(Profile::Prod);
        let shape = layout1::tests::SHAPE;
        assert!(values.find(&measured(), shape).is_ok());
        type Change = fn(&mut BootRegisters);
        let changes: [(Departure, Change); 4] = [
            (Departure::Firmware, |r| r.mrtd.0[0] ^= 1),
            (Departure::Shape, |r| r.rtmr0.0[47] ^= 1),
            (Departure::Kernel, |r| r.rtmr1.0[5] ^= 1),
            (Departure::Boot, |r| r.rtmr2.0[9] ^= 1),
        ];
        for (departure, change) in changes {
            let mut registers = measured();
            change(&mut registers);
            assert_eq!(values.find(&registers, shape), Err(departure));
        }
        let bigger = Shape { memory_mib: 4096, ..shape };
        assert_eq!(values.find(&measured(), bigger), Err(Departure::Shape));
    }

    #[test]
    fn an_empty_list_is_an_error() {
        let mut values = values(Profile::Prod);
        values.registers.clear();
        assert_eq!(values.to_bytes().expect_err("empty").entry(), Code::ReferenceEmpty);
    }

    #[test]
    fn a_file_that_contradicts_itself_is_refused() {
        let mut values = values(Profile::Prod);
        values.cmdline.push_str(" init=/bin/sh");
        assert_eq!(values.to_bytes().expect_err("stale rows").entry(), Code::ReferenceField);
    }

    #[test]
    fn reads_back_what_it_writes_and_nothing_else() {
        let values = values(Profile::Dev);
        let bytes = values.to_bytes().expect("writes");
        assert_eq!(ReferenceValues::parse(&bytes).expect("reads"), values);
        let text = String::from_utf8(bytes).expect("text");
        let unknown = text.replacen('{', "{\"any\":true,", 1);
        let error = ReferenceValues::parse(unknown.as_bytes()).expect_err("unknown field");
        assert_eq!(error.entry(), Code::ReferenceUnreadable);
    }
}
