//! The save area (VMSA) with which a processor of an SNP VM starts, as QEMU and KVM make it.
//!
//! Source: AMD APM volume 2, appendix B, table of the state save area for SEV-ES; initial values: QEMU's reset of x86
//! processors, plus EFER.SVME and CR4.MCE, which KVM sets.

use super::ovmf::PAGE;

/// Where the first processor starts.
const FIRST_PROCESSOR: u32 = 0xffff_fff0;

/// Pages of the first processor and of every further one.
pub(super) fn first_page(cpu: u32, guest_features: u64) -> [u8; PAGE] {
    page(FIRST_PROCESSOR, cpu, guest_features)
}

pub(super) fn page(start: u32, cpu: u32, guest_features: u64) -> [u8; PAGE] {
    let mut area = Area([0; PAGE]);
    let code_base = u64::from(start & 0xffff_0000);
    // Offset, selector, attributes, base; each limit is 64 KiB - 1.
    for (at, selector, attributes, base) in [
        (0x00, 0, 0x93, 0),              // ES
        (0x10, 0xf000, 0x9b, code_base), // CS
        (0x20, 0, 0x93, 0),              // SS
        (0x30, 0, 0x93, 0),              // DS
        (0x40, 0, 0x93, 0),              // FS
        (0x50, 0, 0x93, 0),              // GS
        (0x60, 0, 0x00, 0),              // GDTR
        (0x70, 0, 0x82, 0),              // LDTR
        (0x80, 0, 0x00, 0),              // IDTR
        (0x90, 0, 0x8b, 0),              // TR
    ] {
        area.segment(at, selector, attributes, base);
    }
    for (at, value) in [
        (0xd0, 0x1000),                     // EFER
        (0x148, 0x40),                      // CR4
        (0x158, 0x10),                      // CR0
        (0x160, 0x400),                     // DR7
        (0x168, 0xffff_0ff0),               // DR6
        (0x170, 0x2),                       // RFLAGS
        (0x178, u64::from(start & 0xffff)), // RIP
        (0x268, 0x0007_0406_0007_0406),     // PAT
        (0x310, u64::from(cpu)),            // RDX
        (0x3b0, guest_features),            // SEV_FEATURES
        (0x3e8, 0x1),                       // XCR0
    ] {
        area.put(at, &value.to_le_bytes());
    }
    area.put(0x408, &0x1f80_u32.to_le_bytes()); // MXCSR
    area.put(0x410, &0x037f_u16.to_le_bytes()); // x87 control word
    area.0
}

struct Area([u8; PAGE]);

impl Area {
    fn segment(&mut self, at: usize, selector: u16, attributes: u16, base: u64) {
        self.put(at, &selector.to_le_bytes());
        self.put(at + 2, &attributes.to_le_bytes());
        self.put(at + 4, &0xffff_u32.to_le_bytes());
        self.put(at + 8, &base.to_le_bytes());
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        for (to, from) in self.0.iter_mut().skip(at).zip(value) {
            *to = *from;
        }
    }
}
