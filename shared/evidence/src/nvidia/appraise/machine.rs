//! Whether GPUs in protected PCIe mode and the switches beside them are one whole machine.
//!
//! In this mode what one GPU sends another crosses switches, so a switch that nobody judged could read it. Each GPU signs
//! which switches it is linked to, each switch which GPUs; their own numbers are in the certificates of their boot ROMs.
//! Only what a verified signature covers is looked at.

use std::collections::BTreeSet;

use super::{GpuQuestion, mode::GpuMode};
use crate::{
    nvidia::{
        chain::DeviceChain,
        codes::Code,
        opaque::{Opaque, OpaqueError, Pdi},
    },
    verdict::Findings,
};

/// Of every machine that has this mode (HGX H100 and its like).
const GPUS: usize = 8;
const SWITCHES: usize = 4;
const CLAIM: &str = "gpu.topology";

/// A device's own number, and the numbers that it lists.
#[derive(Debug)]
struct Part {
    own: Option<Pdi>,
    listed: Option<BTreeSet<Pdi>>,
}

impl Part {
    fn new(own: Option<Pdi>, listed: Result<BTreeSet<Pdi>, OpaqueError>) -> Self {
        Self { own, listed: listed.ok() }
    }
}

#[derive(Debug, Default)]
pub(super) struct Machine {
    gpus: Vec<Part>,
    switches: Vec<Part>,
    single: usize,
}

impl Machine {
    pub(super) fn add_gpu(&mut self, mode: GpuMode, opaque: &Opaque, chain: &DeviceChain<'_>) {
        match mode {
            GpuMode::Single => self.single += 1,
            GpuMode::ProtectedPcie => self.gpus.push(Part::new(chain.pdi, opaque.switches())),
        }
    }

    pub(super) fn add_switch(&mut self, opaque: &Opaque, chain: &DeviceChain<'_>) {
        let reported = opaque.own_pdi().ok();
        let own = chain.pdi.filter(|pdi| reported == Some(*pdi));
        self.switches.push(Part::new(own, opaque.gpus()));
    }

    /// Says nothing about GPUs that are each alone.
    pub(super) fn judge(&self, question: &GpuQuestion<'_>, findings: &mut Findings) {
        if self.gpus.is_empty() && self.switches.is_empty() {
            return;
        }
        let (gpus, switches) = (self.gpus.len(), self.switches.len());
        let value = format!("{gpus} GPUs, {switches} switches");
        let mut faults = Vec::new();
        if gpus == 0 {
            faults.push(Code::SwitchAlone);
        } else if self.single > 0 {
            faults.push(Code::PcieMixed);
        }
        if gpus > 0 && (gpus, switches) != (GPUS, SWITCHES) {
            faults.push(Code::PcieCount);
        }
        if gpus > 0 && switches > 0 && !self.is_linked() {
            faults.push(Code::PcieTopology);
        }
        if faults.is_empty() {
            let text = "every GPU lists every switch and no other, every switch every GPU";
            findings.affirm(CLAIM, value.as_str(), question.roots.anchor(), text);
        }
        for code in faults {
            findings.refuse(CLAIM, value.as_str(), code, "");
        }
    }

    /// Each side lists exactly what is on the other, and nothing is there twice.
    fn is_linked(&self) -> bool {
        let (Some(gpus), Some(switches)) = (numbers(&self.gpus), numbers(&self.switches)) else {
            return false;
        };
        self.gpus.iter().all(|gpu| gpu.listed.as_ref() == Some(&switches))
            && self.switches.iter().all(|switch| switch.listed.as_ref() == Some(&gpus))
            && gpus.is_disjoint(&switches)
    }
}

/// Of parts that all have one, all different.
fn numbers(parts: &[Part]) -> Option<BTreeSet<Pdi>> {
    let own: BTreeSet<Pdi> = parts.iter().filter_map(|part| part.own).collect();
    (own.len() == parts.len()).then_some(own)
}
