//! The opaque data at the end of a device's MEASUREMENTS response: what NVIDIA's firmware says about itself, as a sequence
//! of { type u16, length u16, value }, little-endian. The device signs it.
//!
//! A switch (LS10) has few of a GPU's fields, and three that mean something else or that GPUs do not have: its BIOS version
//! as text, its own number (PDI) where a GPU lists switches, the GPUs that it is linked to, and whether it is locked.

use std::collections::{BTreeMap, BTreeSet};

use super::codes::Code;

const MAX_FIELDS: usize = 64;
const MAX_TEXT: usize = 64;
const ENABLED: u8 = 0xaa;
const DISABLED: u8 = 0x55;

/// The types that are read here; newer firmware adds others, which are kept and not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Field {
    DriverVersion = 3,
    VbiosVersion = 6,
    Nvdec0Status = 11,
    ChipSku = 15,
    Project = 17,
    ProjectSku = 18,
    Fwid = 20,
    ProtectedPcieStatus = 21,
    SwitchPdis = 22,
    LockStatus = 25,
    GpuPdis = 26,
    ChipInfo = 35,
    FeatureFlag = 36,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::DriverVersion => "driver version",
            Self::VbiosVersion => "VBIOS version",
            Self::Nvdec0Status => "NVDEC0 status",
            Self::ChipSku => "chip SKU",
            Self::Project => "project",
            Self::ProjectSku => "project SKU",
            Self::Fwid => "FWID",
            Self::ProtectedPcieStatus => "protected PCIe status",
            Self::SwitchPdis => "switch PDIs",
            Self::LockStatus => "lock status",
            Self::GpuPdis => "GPU PDIs",
            Self::ChipInfo => "chip info",
            Self::FeatureFlag => "feature flag",
        }
    }
}

/// A device's own number, in the order of bytes of its certificates and of what switches report. GPUs list switches the
/// other way round.
pub type Pdi = [u8; PDI_BYTES];
pub(crate) const PDI_BYTES: usize = 8;
/// Of a switch's field 26, the first entries are GPUs; the rest tells which port each is on.
const GPUS_OF_SWITCH: usize = 8;
const NOBODY: [Pdi; 2] = [[0; PDI_BYTES], [0xff; PDI_BYTES]];

/// A unit or mode that is on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    On,
    Off,
}

/// How the GPU may be combined with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureFlag {
    /// One GPU passed through.
    Single,
    /// Several GPUs passed through.
    Multi,
    /// Eight GPUs behind switches, with protected PCIe.
    ProtectedPcie,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opaque {
    fields: BTreeMap<u16, Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpaqueError {
    #[error("the opaque data end inside of a field")]
    Short,
    #[error("the opaque data have field {0} twice, or too many fields")]
    Repeated(u16),
    #[error("the opaque data have no {0}")]
    Missing(&'static str),
    #[error("the {0} in the opaque data is not of its form")]
    Form(&'static str),
}

impl OpaqueError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Short | Self::Repeated(_) => Code::TranscriptMalformed,
            Self::Missing(_) | Self::Form(_) => Code::TranscriptField,
        }
    }
}

impl Opaque {
    pub fn parse(mut bytes: &[u8]) -> Result<Self, OpaqueError> {
        let mut fields = BTreeMap::new();
        while !bytes.is_empty() {
            let (kind, rest) = take_u16(bytes)?;
            let (length, rest) = take_u16(rest)?;
            let (value, rest) =
                rest.split_at_checked(usize::from(length)).ok_or(OpaqueError::Short)?;
            if fields.len() >= MAX_FIELDS || fields.insert(kind, value.to_vec()).is_some() {
                return Err(OpaqueError::Repeated(kind));
            }
            bytes = rest;
        }
        Ok(Self { fields })
    }

    fn get(&self, field: Field) -> Option<&[u8]> {
        self.fields.get(&(field as u16)).map(Vec::as_slice)
    }

    /// Text that is padded with zero bytes.
    fn text(&self, field: Field) -> Result<&str, OpaqueError> {
        let bytes = self.get(field).ok_or(OpaqueError::Missing(field.name()))?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let (text, padding) = bytes.split_at(end);
        let plain = (1..=MAX_TEXT).contains(&text.len())
            && text
                .iter()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'.' | b'-'))
            && padding.iter().all(|byte| *byte == 0);
        if !plain {
            return Err(OpaqueError::Form(field.name()));
        }
        str::from_utf8(text).map_err(|_| OpaqueError::Form(field.name()))
    }

    /// A little-endian number of at most 8 bytes.
    fn number(&self, field: Field) -> Result<Option<u64>, OpaqueError> {
        let Some(bytes) = self.get(field) else { return Ok(None) };
        if bytes.is_empty() || bytes.len() > 8 {
            return Err(OpaqueError::Form(field.name()));
        }
        Ok(Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))))
    }

    fn switch(&self, field: Field) -> Result<Option<Switch>, OpaqueError> {
        match self.number(field)? {
            None => Ok(None),
            Some(value) if value == u64::from(ENABLED) => Ok(Some(Switch::On)),
            Some(value) if value == u64::from(DISABLED) => Ok(Some(Switch::Off)),
            Some(_) => Err(OpaqueError::Form(field.name())),
        }
    }

    pub fn driver_version(&self) -> Result<&str, OpaqueError> {
        self.text(Field::DriverVersion)
    }

    /// As `96.00.9f.00.01`: of the eight bytes, the first four backwards and then the fifth.
    pub fn vbios_version(&self) -> Result<String, OpaqueError> {
        let name = Field::VbiosVersion.name();
        match self.get(Field::VbiosVersion) {
            Some([a, b, c, d, e, 0, 0, 0]) => {
                Ok(format!("{d:02x}.{c:02x}.{b:02x}.{a:02x}.{e:02x}"))
            }
            Some(_) => Err(OpaqueError::Form(name)),
            None => Err(OpaqueError::Missing(name)),
        }
    }

    pub fn project(&self) -> Result<&str, OpaqueError> {
        self.text(Field::Project)
    }

    pub fn project_sku(&self) -> Result<&str, OpaqueError> {
        self.text(Field::ProjectSku)
    }

    pub fn chip_sku(&self) -> Result<&str, OpaqueError> {
        self.text(Field::ChipSku)
    }

    /// The chip's name; Hopper's firmware does not say it.
    pub fn chip_info(&self) -> Result<Option<&str>, OpaqueError> {
        match self.get(Field::ChipInfo) {
            None => Ok(None),
            Some(_) => self.text(Field::ChipInfo).map(Some),
        }
    }

    /// SHA-384 of the firmware that holds the leaf key.
    pub fn fwid(&self) -> Option<[u8; 48]> {
        self.get(Field::Fwid).and_then(|bytes| bytes.try_into().ok())
    }

    /// Whether the first video decoder is there; measurement 35 means something only then.
    pub fn nvdec0(&self) -> Result<Option<Switch>, OpaqueError> {
        self.switch(Field::Nvdec0Status)
    }

    pub fn protected_pcie(&self) -> Result<Option<Switch>, OpaqueError> {
        self.switch(Field::ProtectedPcieStatus)
    }

    pub fn feature_flag(&self) -> Result<Option<FeatureFlag>, OpaqueError> {
        match self.number(Field::FeatureFlag)? {
            None => Ok(None),
            Some(0) => Ok(Some(FeatureFlag::Single)),
            Some(1) => Ok(Some(FeatureFlag::Multi)),
            Some(2) => Ok(Some(FeatureFlag::ProtectedPcie)),
            Some(_) => Err(OpaqueError::Form(Field::FeatureFlag.name())),
        }
    }

    /// The switches that a GPU is linked to, each once, in their own order of bytes.
    pub fn switches(&self) -> Result<BTreeSet<Pdi>, OpaqueError> {
        let bytes = self.get(Field::SwitchPdis).unwrap_or_default();
        let reversed = pdis(bytes).ok_or(OpaqueError::Form(Field::SwitchPdis.name()))?;
        Ok(reversed.into_iter().map(reversed_bytes).collect())
    }

    /// A switch's own number.
    pub fn own_pdi(&self) -> Result<Pdi, OpaqueError> {
        let name = Field::SwitchPdis.name();
        let bytes = self.get(Field::SwitchPdis).ok_or(OpaqueError::Missing(name))?;
        let pdi = bytes.try_into().map_err(|_| OpaqueError::Form(name))?;
        if NOBODY.contains(&pdi) { Err(OpaqueError::Form(name)) } else { Ok(pdi) }
    }

    /// The GPUs that a switch is linked to.
    pub fn gpus(&self) -> Result<BTreeSet<Pdi>, OpaqueError> {
        let name = Field::GpuPdis.name();
        let bytes = self.get(Field::GpuPdis).ok_or(OpaqueError::Missing(name))?;
        let list = bytes.get(..GPUS_OF_SWITCH * PDI_BYTES).ok_or(OpaqueError::Form(name))?;
        pdis(list).ok_or(OpaqueError::Form(name))
    }

    /// Whether a switch is locked: configured for protected PCIe, and not to be configured again before a reset.
    pub fn lock(&self) -> Result<Option<Switch>, OpaqueError> {
        match self.number(Field::LockStatus)? {
            None => Ok(None),
            Some(0) => Ok(Some(Switch::Off)),
            Some(1) => Ok(Some(Switch::On)),
            Some(_) => Err(OpaqueError::Form(Field::LockStatus.name())),
        }
    }

    /// A switch's BIOS version, which it reports as text.
    pub fn bios_version(&self) -> Result<&str, OpaqueError> {
        self.text(Field::VbiosVersion)
    }
}

/// Those that are not nobody's; none at all if the list has no whole number of them.
fn pdis(bytes: &[u8]) -> Option<BTreeSet<Pdi>> {
    let (list, rest) = bytes.as_chunks::<PDI_BYTES>();
    let found = list.iter().copied().filter(|pdi| !NOBODY.contains(pdi)).collect();
    rest.is_empty().then_some(found)
}

fn reversed_bytes(mut pdi: Pdi) -> Pdi {
    pdi.reverse();
    pdi
}

fn take_u16(bytes: &[u8]) -> Result<(u16, &[u8]), OpaqueError> {
    match bytes {
        [low, high, rest @ ..] => Ok((u16::from_le_bytes([*low, *high]), rest)),
        _ => Err(OpaqueError::Short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opaque(fields: &[(u16, &[u8])]) -> Opaque {
        let mut bytes = Vec::new();
        for (kind, value) in fields {
            bytes.extend(kind.to_le_bytes());
            bytes.extend(u16::try_from(value.len()).expect("short").to_le_bytes());
            bytes.extend(*value);
        }
        Opaque::parse(&bytes).expect("parses")
    }

    #[test]
    fn versions_and_names() {
        let read = opaque(&[
            (3, b"550.90.07\0\0"),
            (6, &[0, 0x9f, 0, 0x96, 1, 0, 0, 0]),
            (15, b"882\0\0"),
            (17, b"1010\0"),
            (99, b"of newer firmware"),
        ]);
        assert_eq!(read.driver_version(), Ok("550.90.07"));
        assert_eq!(read.vbios_version().as_deref(), Ok("96.00.9f.00.01"));
        assert_eq!((read.chip_sku(), read.project()), (Ok("882"), Ok("1010")));
        assert_eq!(read.project_sku(), Err(OpaqueError::Missing("project SKU")));
        assert_eq!(
            opaque(&[(3, b"1\0x")]).driver_version(),
            Err(OpaqueError::Form("driver version"))
        );
        assert!(opaque(&[(3, b"../x")]).driver_version().is_err());
        assert!(opaque(&[(6, b"96.10.55.00.01")]).vbios_version().is_err());
    }

    #[test]
    fn switches_and_flags() {
        assert_eq!(opaque(&[(11, &[0x55])]).nvdec0(), Ok(Some(Switch::Off)));
        assert_eq!(opaque(&[(11, &[0xaa, 0, 0, 0])]).nvdec0(), Ok(Some(Switch::On)));
        assert_eq!(opaque(&[]).nvdec0(), Ok(None));
        assert!(opaque(&[(11, &[0x54])]).nvdec0().is_err());
        assert!(opaque(&[(11, &[])]).nvdec0().is_err());
        for (value, expected) in
            [(0, FeatureFlag::Single), (1, FeatureFlag::Multi), (2, FeatureFlag::ProtectedPcie)]
        {
            assert_eq!(opaque(&[(36, &[value])]).feature_flag(), Ok(Some(expected)));
        }
        assert!(opaque(&[(36, &[3])]).feature_flag().is_err());
        let pdis = [[1; 8], [2; 8], [1; 8], [0; 8]].concat();
        assert_eq!(opaque(&[(22, &pdis)]).switches(), Ok(BTreeSet::from([[1; 8], [2; 8]])));
        let listed = opaque(&[(22, &[1, 2, 3, 4, 5, 6, 7, 8])]);
        assert_eq!(listed.switches(), Ok(BTreeSet::from([[8, 7, 6, 5, 4, 3, 2, 1]])));
        assert!(opaque(&[(22, &[1; 7])]).switches().is_err());
    }

    #[test]
    fn fields_of_switches() {
        let (own, gpu) = ([1, 2, 3, 4, 5, 6, 7, 8], [[9; 8], [7; 8]].concat());
        let list = [gpu.as_slice(), &[0xff; 48], &[3; 64]].concat();
        let read = opaque(&[(6, b"96.10.73.00.01"), (22, &own), (25, &[1, 0]), (26, &list)]);
        assert_eq!(read.bios_version(), Ok("96.10.73.00.01"));
        assert_eq!((read.own_pdi(), read.lock()), (Ok(own), Ok(Some(Switch::On))));
        assert_eq!(read.gpus(), Ok(BTreeSet::from([[7; 8], [9; 8]])));
        assert_eq!(opaque(&[(25, &[0, 0])]).lock(), Ok(Some(Switch::Off)));
        assert_eq!(opaque(&[]).lock(), Ok(None));
        assert!(opaque(&[(25, &[2, 0])]).lock().is_err());
        for bytes in [&[0; 8][..], &[0xff; 8], &[1; 16], &[]] {
            assert!(opaque(&[(22, bytes)]).own_pdi().is_err());
        }
        assert!(opaque(&[]).own_pdi().is_err() && opaque(&[]).gpus().is_err());
        assert!(opaque(&[(26, &[1; 63])]).gpus().is_err());
    }

    #[test]
    fn refuses_what_does_not_come_out() {
        for bytes in [&[3, 0, 1][..], &[3, 0, 1, 0], &[3]] {
            assert_eq!(Opaque::parse(bytes), Err(OpaqueError::Short));
        }
        assert_eq!(Opaque::parse(&[3, 0, 0, 0, 3, 0, 0, 0]), Err(OpaqueError::Repeated(3)));
        let many: Vec<u8> = (0..65_u16)
            .flat_map(|kind| {
                let [low, high] = kind.to_le_bytes();
                [low, high, 0, 0]
            })
            .collect();
        assert!(Opaque::parse(&many).is_err());
    }
}
