//! What follows from an image alone; firmware and shape are the host's.

use serde::{Deserialize, Serialize};

use super::{FileDigests, ImageFacts, MAX_REFERENCE_BYTES, Profile, ReferenceError};
use crate::{
    fixed_hex::Hex48,
    launch::{Layer, Shape},
    layout1::{self, BootFiles},
};

/// `reference-values.json` of an image directory: what follows from the image alone. Firmware and shape are the host's, so
/// this file has no rows; [`ReferenceValues::from_image`] adds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageReference {
    pub version: u32,
    pub release: String,
    pub profile: Profile,
    pub cmdline: String,
    pub kernel: FileDigests,
    pub initramfs: FileDigests,
    pub simulated_layout_1: ImageRegisters,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRegisters {
    pub rtmr1: Hex48,
    pub rtmr2: Hex48,
    pub events: Vec<ImageEvent>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageEvent {
    pub register: u8,
    pub name: String,
    pub digest: Hex48,
}

impl ImageReference {
    /// What follows from an image; layers are no part of it.
    pub fn of(image: ImageFacts) -> Result<Self, ReferenceError> {
        let files = BootFiles {
            firmware: Hex48::ZERO,
            kernel: image.kernel.sha384,
            initramfs: image.initramfs.sha384,
            cmdline: image.cmdline.clone(),
        };
        // Neither firmware nor shape reaches registers 1 and 2.
        let shape = Shape { vcpus: 1, memory_mib: 1 };
        let measured = layout1::measure(&files, shape).map_err(ReferenceError::Write)?;
        let events = measured.log.events.into_iter().filter(|event| event.imr != 0);
        Ok(Self {
            version: 1,
            release: image.release,
            profile: image.profile,
            cmdline: image.cmdline,
            kernel: image.kernel,
            initramfs: image.initramfs,
            simulated_layout_1: ImageRegisters {
                rtmr1: measured.registers.rtmr1,
                rtmr2: measured.registers.rtmr2,
                events: events
                    .map(|event| ImageEvent {
                        register: event.imr,
                        name: event.name,
                        digest: event.digest,
                    })
                    .collect(),
            },
        })
    }

    /// Reads the file and refuses it if its registers do not follow from its digests.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReferenceError> {
        if bytes.len() > MAX_REFERENCE_BYTES {
            return Err(ReferenceError::Parse("longer than 1 MiB".to_owned()));
        }
        let image: Self = serde_json::from_slice(bytes)
            .map_err(|error| ReferenceError::Parse(error.to_string()))?;
        if image.version != 1 || Self::of(image.facts(vec![]))? != image {
            return Err(ReferenceError::Field {
                field: "simulated_layout_1",
                reason: "it does not follow from the file's digests",
            });
        }
        Ok(image)
    }

    pub fn facts(&self, layers: Vec<Layer>) -> ImageFacts {
        ImageFacts {
            release: self.release.clone(),
            profile: self.profile,
            cmdline: self.cmdline.clone(),
            kernel: self.kernel,
            initramfs: self.initramfs,
            layers,
        }
    }
}
