//! What to ask AMD's key service (KDS) for, and the table of certificates that a host may hand its VMs instead.
//!
//! Sources: AMD 57230, chapter 4 (KDS interface); AMD 56860 and the GHCB specification 56421 (extended guest request, certificate
//! table: entries of GUID, offset and length, ended by zeros). The service answers slowly and refuses those who ask often:
//! keep answers by product, chip and TCB.

use super::{
    codes::Code,
    ovmf::guid,
    product::Product,
    report::{Report, SigningKey},
    revocation::MAX_CRL_BYTES,
};
use crate::collateral::urls::AMD_KDS;

const MAX_TABLE_BYTES: usize = 64 * 1024;
const MAX_ENTRIES: usize = 32;

/// Where AMD has what verifies a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// ASK or ASVK and ARK, in PEM.
    pub chain: String,
    /// DER.
    pub crl: String,
    /// DER of the VCEK. VLEKs are given to cloud providers only.
    pub vcek: Option<String>,
}

/// Certificates that the host gave with the report. DER as a rule, but the host may write anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CertificateTable<'a> {
    pub ark: Option<&'a [u8]>,
    pub ask: Option<&'a [u8]>,
    pub vcek: Option<&'a [u8]>,
    pub vlek: Option<&'a [u8]>,
    pub crl: Option<&'a [u8]>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyServiceError {
    #[error("read the host's table of certificates: {0}")]
    Table(&'static str),
    #[error("ask for the chip's certificate: the report hides its chip")]
    Masked,
    #[error("ask for the chip's certificate: a TCB version has a reserved byte set")]
    Tcb,
}

impl KeyServiceError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Table(_) => Code::CertificateTable,
            Self::Masked => Code::ChipMasked,
            Self::Tcb => Code::TcbForm,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl Addresses {
    /// For a report of a processor of `product`; version 2 of the report does not say which.
    pub fn of(report: &Report, product: Product) -> Result<Self, KeyServiceError> {
        Self::at(AMD_KDS, report, product)
    }

    /// The same at another service that speaks like AMD's.
    pub fn at(service: &str, report: &Report, product: Product) -> Result<Self, KeyServiceError> {
        let kind = match report.signing_key {
            SigningKey::Vcek => "vcek",
            SigningKey::Vlek => "vlek",
        };
        let base = format!("{service}/{kind}/v1/{product}");
        let vcek = match report.signing_key {
            SigningKey::Vcek => Some(format!("{base}/{}", vcek_path(report, product)?)),
            SigningKey::Vlek => None,
        };
        Ok(Self { chain: format!("{base}/cert_chain"), crl: format!("{base}/crl"), vcek })
    }
}

fn vcek_path(report: &Report, product: Product) -> Result<String, KeyServiceError> {
    let chip = report.chip_id.get(..product.chip_id_bytes()).unwrap_or_default();
    if report.chip_key_masked || chip.iter().all(|byte| *byte == 0) {
        return Err(KeyServiceError::Masked);
    }
    let tcb = report.reported_tcb.of(product).map_err(|_| KeyServiceError::Tcb)?;
    let fmc = tcb.fmc.map(|fmc| format!("fmcSPL={fmc:02}&")).unwrap_or_default();
    Ok(format!(
        "{}?{fmc}blSPL={:02}&teeSPL={:02}&snpSPL={:02}&ucodeSPL={:02}",
        hex::encode(chip),
        tcb.boot_loader,
        tcb.tee,
        tcb.snp,
        tcb.microcode
    ))
}

impl<'a> CertificateTable<'a> {
    /// Reads the table as the guest's kernel hands it out. Entries of other kinds are passed over.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, KeyServiceError> {
        let refuse = |reason| Err(KeyServiceError::Table(reason));
        if bytes.len() > MAX_TABLE_BYTES {
            return refuse("longer than 64 KiB");
        }
        let mut table = Self::default();
        let mut rest = bytes;
        for _ in 0..MAX_ENTRIES {
            let Some((kind, after)) = rest.split_first_chunk::<16>() else {
                return refuse("it has no end");
            };
            if *kind == [0; 16] {
                return Ok(table);
            }
            let Some((place, after)) = after.split_first_chunk::<8>() else {
                return refuse("it has no end");
            };
            rest = after;
            let (offset, length) = numbers(*place).ok_or(KeyServiceError::Table("its numbers"))?;
            if length > MAX_CRL_BYTES {
                return refuse("an entry is longer than 32 KiB");
            }
            let found = offset
                .checked_add(length)
                .and_then(|end| bytes.get(offset..end))
                .ok_or(KeyServiceError::Table("an entry points outside of it"))?;
            let slot = match Kind::of(*kind) {
                Some(Kind::Ark) => &mut table.ark,
                Some(Kind::Ask) => &mut table.ask,
                Some(Kind::Vcek) => &mut table.vcek,
                Some(Kind::Vlek) => &mut table.vlek,
                Some(Kind::Crl) => &mut table.crl,
                None => continue,
            };
            if slot.replace(found).is_some() {
                return refuse("a kind of certificate twice");
            }
        }
        refuse("more than 32 entries")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ark,
    Ask,
    Vcek,
    Vlek,
    Crl,
}

const KINDS: [(u128, Kind); 5] = [
    (0xc0b406a4_a803_4952_9743_3fb6014cd0ae, Kind::Ark),
    (0x4ab7b379_bbac_4fe4_a02f_05aef327c782, Kind::Ask),
    (0x63da758d_e664_4564_adc5_f4b93be8accd, Kind::Vcek),
    (0xa8074bc2_a25a_483e_aae6_39c045a0b8a1, Kind::Vlek),
    (0x92f81bc3_5811_4d3d_97ff_d19f88dc67ea, Kind::Crl),
];

impl Kind {
    /// Hosts write GUIDs in reading order or, like firmware, with three little-endian fields; no two kinds meet.
    fn of(written: [u8; 16]) -> Option<Self> {
        let is = |digits: u128| digits.to_be_bytes() == written || guid(digits) == written;
        KINDS.iter().find(|(digits, _)| is(*digits)).map(|(_, kind)| *kind)
    }
}

/// Offset and length of an entry.
fn numbers(bytes: [u8; 8]) -> Option<(usize, usize)> {
    let [a, b, c, d, e, f, g, h] = bytes;
    let number = |bytes| usize::try_from(u32::from_le_bytes(bytes)).ok();
    Some((number([a, b, c, d])?, number([e, f, g, h])?))
}

/// Fuzz entry: what is found lies within the table.
pub fn fuzz_snp_certificate_table(data: &[u8]) {
    if let Ok(table) = CertificateTable::parse(data) {
        let CertificateTable { ark, ask, vcek, vlek, crl } = table;
        for found in [ark, ask, vcek, vlek, crl].into_iter().flatten() {
            assert!(found.len() <= MAX_CRL_BYTES);
            assert!(data.as_ptr_range().contains(&found.as_ptr()) || found.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VCEK: [u8; 16] = KINDS[2].0.to_be_bytes();
    const ASK: [u8; 16] = KINDS[1].0.to_be_bytes();
    const CRL: [u8; 16] = guid(KINDS[4].0);

    fn entry(kind: [u8; 16], offset: u32, length: u32) -> Vec<u8> {
        [&kind[..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
    }

    fn table() -> Vec<u8> {
        let mut bytes = [
            entry(VCEK, 120, 4),
            entry([9; 16], 0, 1),
            entry(ASK, 124, 2),
            entry(CRL, 126, 2),
            entry([0; 16], 0, 0),
        ]
        .concat();
        bytes.extend(b"vcekskcr");
        bytes
    }

    #[test]
    fn reads_a_hosts_table() {
        let bytes = table();
        let found = CertificateTable::parse(&bytes).expect("a table");
        assert_eq!(
            (found.vcek, found.ask, found.crl),
            (Some(&b"vcek"[..]), Some(&b"sk"[..]), Some(&b"cr"[..]))
        );
        assert_eq!((found.ark, found.vlek), (None, None));
        assert_eq!(VCEK[..4], [0x63, 0xda, 0x75, 0x8d], "in reading order");
        assert_eq!(CRL[..4], [0xc3, 0x1b, 0xf8, 0x92], "with little-endian fields");
    }

    #[test]
    fn refuses_tables_without_end_with_repeats_or_that_point_outside() {
        let end = entry([0; 16], 0, 0);
        for bad in [
            vec![],
            table()[..96].to_vec(),
            [entry(VCEK, 48, 1), end.clone()].concat(),
            [entry(VCEK, u32::MAX, u32::MAX), end.clone()].concat(),
            [entry(VCEK, 0, 1), entry(VCEK, 0, 1), end].concat(),
            entry([7; 16], 0, 0).repeat(33),
            vec![0; MAX_TABLE_BYTES + 1],
        ] {
            let error = CertificateTable::parse(&bad).expect_err("refused");
            assert_eq!(error.entry(), Code::CertificateTable);
        }
        for end in 0..table().len() {
            fuzz_snp_certificate_table(&table()[..end]);
        }
    }
}
