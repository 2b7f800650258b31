//! Processor products and their TCB versions, whose eight bytes mean other things on Turin than before it.

use serde::{Deserialize, Serialize};

use super::codes::Code;

/// A line of processors with one AMD root key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Product {
    Milan,
    /// With Bergamo and Siena.
    Genoa,
    Turin,
}

/// Family, model and stepping, which reports have from version 3 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuId {
    pub family: u8,
    pub model: u8,
    pub stepping: u8,
}

/// Eight bytes as they stand in a report. Their layout depends on the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcbVersion(pub [u8; 8]);

/// Security version numbers of a platform's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tcb {
    /// On Turin only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fmc: Option<u8>,
    pub boot_loader: u8,
    pub tee: u8,
    pub snp: u8,
    pub microcode: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("read the TCB version {version:02x?} of {product}: a reserved byte is set")]
pub struct TcbError {
    pub product: Product,
    pub version: [u8; 8],
}

impl TcbError {
    pub fn entry(&self) -> Code {
        Code::TcbForm
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl Product {
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// As AMD's certificates and its key service spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    pub fn of_cpu(cpu: CpuId) -> Option<Self> {
        match (cpu.family, cpu.model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }

    /// How many bytes of a chip id a product uses; the rest is zero.
    pub fn chip_id_bytes(self) -> usize {
        match self {
            Self::Milan | Self::Genoa => 64,
            Self::Turin => 8,
        }
    }
}

impl std::fmt::Display for Product {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TcbVersion {
    pub fn of(self, product: Product) -> Result<Tcb, TcbError> {
        let refused = Err(TcbError { product, version: self.0 });
        match (product, self.0) {
            (Product::Milan | Product::Genoa, [boot_loader, tee, 0, 0, 0, 0, snp, microcode]) => {
                Ok(Tcb { fmc: None, boot_loader, tee, snp, microcode })
            }
            (Product::Turin, [fmc, boot_loader, tee, snp, 0, 0, 0, microcode]) => {
                Ok(Tcb { fmc: Some(fmc), boot_loader, tee, snp, microcode })
            }
            _ => refused,
        }
    }
}

impl Tcb {
    /// Each part at least the minimum's; a part that the minimum has and this one lacks is too low.
    pub fn is_at_least(&self, minimum: &Self) -> bool {
        self.fmc.unwrap_or(0) >= minimum.fmc.unwrap_or(0)
            && self.boot_loader >= minimum.boot_loader
            && self.tee >= minimum.tee
            && self.snp >= minimum.snp
            && self.microcode >= minimum.microcode
    }
}

impl std::fmt::Display for Tcb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "FMC {fmc}, ")?;
        }
        let Self { boot_loader, tee, snp, microcode, .. } = self;
        write!(f, "boot loader {boot_loader}, TEE {tee}, SNP {snp}, microcode {microcode}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_and_their_products() {
        for (family, model, product) in [
            (0x19, 0x01, Some(Product::Milan)),
            (0x19, 0x0f, Some(Product::Milan)),
            (0x19, 0x11, Some(Product::Genoa)),
            (0x19, 0x20, None),
            (0x19, 0x9f, None),
            (0x19, 0xa0, Some(Product::Genoa)),
            (0x19, 0xb0, None),
            (0x1a, 0x02, Some(Product::Turin)),
            (0x1a, 0x11, Some(Product::Turin)),
            (0x1a, 0x12, None),
            (0x1a, 0x50, None),
            (0x17, 0x31, None),
            (0, 0, None),
        ] {
            let found = Product::of_cpu(CpuId { family, model, stepping: 1 });
            assert_eq!(found, product, "{family:#x} {model:#x}");
        }
    }

    #[test]
    fn the_same_bytes_mean_other_parts_on_turin() {
        let version = TcbVersion([1, 2, 0, 0, 0, 0, 0, 9]);
        let milan = version.of(Product::Milan).expect("Milan's layout");
        assert_eq!(milan, Tcb { fmc: None, boot_loader: 1, tee: 2, snp: 0, microcode: 9 });
        let turin = version.of(Product::Turin).expect("Turin's layout");
        assert_eq!(turin, Tcb { fmc: Some(1), boot_loader: 2, tee: 0, snp: 0, microcode: 9 });
        for (product, reserved) in
            [(Product::Milan, 2..6), (Product::Genoa, 2..6), (Product::Turin, 4..7)]
        {
            for at in 0..8 {
                let mut version = TcbVersion::default();
                version.0[at] = 1;
                assert_eq!(version.of(product).is_err(), reserved.contains(&at), "{product} {at}");
            }
        }
    }

    #[test]
    fn every_part_counts() {
        let minimum = Tcb { fmc: Some(2), boot_loader: 2, tee: 2, snp: 2, microcode: 2 };
        assert!(minimum.is_at_least(&minimum));
        for low in [
            Tcb { fmc: Some(1), ..minimum },
            Tcb { fmc: None, ..minimum },
            Tcb { boot_loader: 1, ..minimum },
            Tcb { tee: 1, ..minimum },
            Tcb { snp: 1, ..minimum },
            Tcb { microcode: 1, ..minimum },
        ] {
            assert!(!low.is_at_least(&minimum), "{low}");
        }
    }
}
