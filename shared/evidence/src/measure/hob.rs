//! The TD HOB: the list of memory that the host hands to the firmware, first event of RTMR0.
//!
//! Source: UEFI Platform Initialization Specification 1.8, volume 3 (hand-off blocks), as QEMU writes them for TDX: a
//! hand-off block, then one resource block for each range. The block that ends the list is not measured.

use serde::{Deserialize, Serialize};

use super::{
    error::MeasureError,
    tdvf::{SectionKind, Tdvf},
};
use crate::{fixed_hex::Hex48, logs::payload::sha384};

pub const MIN_MEMORY_BYTES: u64 = 16 << 20;
pub const MAX_MEMORY_BYTES: u64 = 64 << 40;
/// From this size on QEMU's q35 splits memory at 2 GiB.
pub(super) const SPLIT_FROM: u64 = 0xb000_0000;
pub(super) const SPLIT_AT: u64 = 0x8000_0000;
const FOUR_GIB: u64 = 1 << 32;
const MAX_RANGES: usize = 32;

const HANDOFF: u16 = 1;
const HANDOFF_LENGTH: u16 = 56;
const RESOURCE: u16 = 3;
const RESOURCE_LENGTH: u16 = 48;
const END_LENGTH: u64 = 8;
/// Present, initialised, tested.
const ATTRIBUTES: u32 = 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryRange {
    pub address: u64,
    pub length: u64,
}

/// What of a VM's memory is accepted before launch; with the memory's size it gives the whole list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedMemory {
    /// Where the list itself is put.
    pub hob_address: u64,
    /// Sorted, without overlap.
    pub ranges: Vec<MemoryRange>,
}

#[derive(Debug, Clone, Copy)]
enum Resource {
    Accepted = 0,
    Unaccepted = 7,
}

impl AcceptedMemory {
    /// What the metadata of a firmware say.
    pub fn of(tdvf: &Tdvf) -> Result<Self, MeasureError> {
        let hob_address = tdvf
            .of_kind(SectionKind::TdHob)
            .map(|section| section.address)
            .next()
            .ok_or(MeasureError::FirmwareNotTdx)?;
        let accepted = tdvf
            .sections()
            .iter()
            .filter(|section| matches!(section.kind, SectionKind::TdHob | SectionKind::TempMem));
        let mut ranges: Vec<_> = accepted
            .map(|section| MemoryRange { address: section.address, length: section.memory_length })
            .collect();
        ranges.sort_unstable();
        let memory = Self { hob_address, ranges };
        memory.check().map(|()| memory)
    }

    /// Bounded, sorted, without overlap, and one of the ranges holds the list.
    pub fn check(&self) -> Result<(), MeasureError> {
        let refused = |reason| Err(MeasureError::RecipeField(reason));
        if !(1..=MAX_RANGES).contains(&self.ranges.len()) {
            return refused("accepted memory has no ranges, or more than 32");
        }
        let mut free_from = 0;
        for range in &self.ranges {
            let end = range.address.checked_add(range.length).filter(|_| range.length > 0);
            let Some(end) = end.filter(|end| *end <= SPLIT_AT) else {
                return refused("a range of accepted memory is empty or above 2 GiB");
            };
            if range.address < free_from {
                return refused("ranges of accepted memory overlap or are not sorted");
            }
            free_from = end;
        }
        if self.ranges.iter().all(|range| range.address != self.hob_address) {
            return refused("no range of accepted memory holds the list of memory");
        }
        Ok(())
    }

    /// The bytes that the firmware measures in a VM with so much memory.
    pub fn hob_list(&self, memory: u64) -> Result<Vec<u8>, MeasureError> {
        let refused = |reason| Err(MeasureError::Memory { bytes: memory, reason });
        if !(MIN_MEMORY_BYTES..=MAX_MEMORY_BYTES).contains(&memory) {
            return refused("expected 16 MiB to 64 TiB");
        }
        self.check()?;
        let last_end = self.ranges.last().map_or(0, |range| range.address + range.length);
        if last_end >= memory {
            return refused("the firmware's sections lie outside of it");
        }
        let resources = self.resources(memory);
        let length =
            u64::from(HANDOFF_LENGTH) + u64::from(RESOURCE_LENGTH) * resources.len() as u64;
        let Some(end) = self.hob_address.checked_add(length + END_LENGTH) else {
            return refused("the list of memory ends above all addresses");
        };
        let mut list = Vec::new();
        header(&mut list, HANDOFF, HANDOFF_LENGTH);
        list.extend(9_u32.to_le_bytes());
        // Boot mode, then four addresses that QEMU leaves at zero.
        list.extend([0; 4 + 4 * 8]);
        list.extend(end.to_le_bytes());
        for (kind, start, length) in resources {
            header(&mut list, RESOURCE, RESOURCE_LENGTH);
            // The owner.
            list.extend([0; 16]);
            list.extend((kind as u32).to_le_bytes());
            list.extend(ATTRIBUTES.to_le_bytes());
            list.extend(start.to_le_bytes());
            list.extend(length.to_le_bytes());
        }
        Ok(list)
    }

    pub fn digest(&self, memory: u64) -> Result<Hex48, MeasureError> {
        Ok(sha384(&self.hob_list(memory)?))
    }

    fn resources(&self, memory: u64) -> Vec<(Resource, u64, u64)> {
        let mut resources = Vec::new();
        let mut at = 0;
        for range in &self.ranges {
            if range.address > at {
                resources.push((Resource::Unaccepted, at, range.address - at));
            }
            resources.push((Resource::Accepted, range.address, range.length));
            at = range.address + range.length;
        }
        if memory < SPLIT_FROM {
            resources.push((Resource::Unaccepted, at, memory - at));
            return resources;
        }
        if at < SPLIT_AT {
            resources.push((Resource::Unaccepted, at, SPLIT_AT - at));
        }
        resources.push((Resource::Unaccepted, FOUR_GIB, memory - SPLIT_AT));
        resources
    }
}

fn header(list: &mut Vec<u8>, kind: u16, length: u16) {
    list.extend(kind.to_le_bytes());
    list.extend(length.to_le_bytes());
    list.extend([0; 4]);
}
