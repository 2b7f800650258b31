//! Certificate chains: a path of signatures from a leaf to one of the two compiled-in roots, and what a GPU's own chain
//! says about the GPU.
//!
//! A GPU's chain is: alias key of its firmware (signs transcripts) ← device identity, made in the GPU's boot ROM ←
//! provisioner ← identity authority ← root. The root may be left out.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest;

use super::{
    certificate::{Certificate, MAX_CERTIFICATE_BYTES, Point},
    codes::Code,
    der::DerError,
    dice::Dice,
    opaque::Pdi,
};
use crate::fixed_hex::{FixedHex, Hex32};

pub(crate) const MAX_PEM_BYTES: usize = 24 * 1024;
/// Also the limit for the chains in RIM files.
pub(crate) const MAX_CHAIN: usize = 5;
const LEAST_CHAIN: usize = 4;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("read the certificates: {0}")]
    Pem(&'static str),
    #[error("read certificate {index}: {source}")]
    Der { index: usize, source: DerError },
    #[error("accept the chain: {found} certificates")]
    Length { found: usize },
    #[error("accept certificate {index}: the next one did not sign it")]
    Link { index: usize },
    #[error("accept certificate {index} as an issuer: {reason}")]
    Authority { index: usize, reason: &'static str },
    #[error("accept the chain: its last certificate is not of the pinned root")]
    Root,
    #[error("accept certificate {index}: it is valid from {not_before} to {not_after}")]
    Time { index: usize, not_before: u64, not_after: u64 },
    #[error("accept the leaf: {0}")]
    Leaf(&'static str),
    #[error("accept the leaf: it names no firmware digest")]
    FwidMissing,
}

impl ChainError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Pem(_) | Self::Der { .. } => Code::ChainUnreadable,
            Self::Length { .. } => Code::ChainLength,
            Self::Link { .. } => Code::ChainLink,
            Self::Authority { .. } | Self::Leaf(_) => Code::ChainAuthority,
            Self::Root => Code::ChainRoot,
            Self::Time { .. } => Code::ChainTime,
            Self::FwidMissing => Code::FwidMissing,
        }
    }
}

/// When a path is judged: at a time, or without looking at dates because something else vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dates {
    At(u64),
    NotLookedAt,
}

/// A device's chain after every check; made by [`DeviceChain::verify`] only.
#[derive(Debug, Clone)]
pub(crate) struct DeviceChain<'a> {
    pub(crate) certificates: Vec<Certificate<'a>>,
    pub(crate) fwid: [u8; 48],
    /// First word of the device identity's name, such as `GH100`.
    pub(crate) chip: &'a str,
    /// SHA-256 of the device identity's serial number, which holds the device's own number (PDI).
    pub(crate) device: Hex32,
    /// That number itself, never shown; it follows a byte for the kind of device.
    pub(crate) pdi: Option<Pdi>,
}

impl<'a> DeviceChain<'a> {
    pub(crate) fn verify(ders: &'a [Vec<u8>], root: &Point, time: u64) -> Result<Self, ChainError> {
        if !(LEAST_CHAIN..=MAX_CHAIN).contains(&ders.len()) {
            return Err(ChainError::Length { found: ders.len() });
        }
        let certificates = parse_all(ders)?;
        verify_path(&certificates, root, Dates::At(time))?;
        let [leaf, identity, ..] = certificates.as_slice() else {
            return Err(ChainError::Length { found: ders.len() });
        };
        if leaf.usage.authority || leaf.usage.key_cert_sign || !leaf.usage.digital_signature {
            return Err(ChainError::Leaf("its key is not for signatures alone"));
        }
        let content = leaf.dice.ok_or(ChainError::FwidMissing)?;
        let dice = Dice::parse(content).map_err(|source| ChainError::Der { index: 0, source })?;
        if dice.device_spki.is_some_and(|spki| spki != identity.spki) {
            return Err(ChainError::Leaf("its DICE extension names another device identity"));
        }
        let chip = identity
            .common_name()
            .and_then(|name| name.split(' ').next())
            .filter(|chip| !chip.is_empty())
            .ok_or(ChainError::Leaf("the device identity has no name"))?;
        let mut device = [0; 32];
        device.copy_from_slice(digest::digest(&digest::SHA256, identity.serial).as_ref());
        let pdi = identity.serial.split_first().and_then(|(_, pdi)| pdi.try_into().ok());
        Ok(Self { fwid: dice.fwid, chip, device: FixedHex(device), pdi, certificates })
    }

    pub(crate) fn leaf_point(&self) -> Option<&Point> {
        self.certificates.first().map(|leaf| &leaf.point)
    }
}

pub(crate) fn parse_all(ders: &[Vec<u8>]) -> Result<Vec<Certificate<'_>>, ChainError> {
    let mut certificates = Vec::with_capacity(ders.len().min(MAX_CHAIN));
    for (index, der) in ders.iter().enumerate() {
        let certificate =
            Certificate::parse(der).map_err(|source| ChainError::Der { index, source })?;
        certificates.push(certificate);
    }
    Ok(certificates)
}

/// Each certificate signed by the next, the last by the root (or it is the root), each issuer allowed to be one.
pub(crate) fn verify_path(
    path: &[Certificate<'_>],
    root: &Point,
    dates: Dates,
) -> Result<(), ChainError> {
    for (index, pair) in path.windows(2).enumerate() {
        let [subject, issuer] = pair else { return Err(ChainError::Link { index }) };
        if subject.issuer != issuer.subject || !subject.is_signed_by(&issuer.point) {
            return Err(ChainError::Link { index });
        }
    }
    let last = path.last().ok_or(ChainError::Length { found: 0 })?;
    let is_root = last.point == *root && last.issuer == last.subject;
    if !last.is_signed_by(root) || (last.point == *root && !is_root) {
        return Err(ChainError::Root);
    }
    for (index, certificate) in path.iter().enumerate() {
        if certificate.usage.unknown_critical {
            let reason = "it has a critical extension that is not known here";
            return Err(ChainError::Authority { index, reason });
        }
        // Issuers between the leaf and this one.
        let below = u8::try_from(index.saturating_sub(1)).unwrap_or(u8::MAX);
        if index > 0 {
            check_authority(certificate, below)
                .map_err(|reason| ChainError::Authority { index, reason })?;
        }
        if let Dates::At(time) = dates
            && !certificate.is_valid_at(time)
        {
            let (not_before, not_after) = (certificate.not_before, certificate.not_after);
            return Err(ChainError::Time { index, not_before, not_after });
        }
    }
    Ok(())
}

fn check_authority(certificate: &Certificate<'_>, below: u8) -> Result<(), &'static str> {
    if !certificate.usage.authority {
        return Err("it is no authority");
    }
    if !certificate.usage.key_cert_sign {
        return Err("its key is not for certificates");
    }
    if certificate.usage.path_length.is_some_and(|most| below > most) {
        return Err("the chain below it is too long");
    }
    Ok(())
}

/// Reads PEM certificates and nothing else: no text around them.
pub(crate) fn read_pem(text: &str) -> Result<Vec<Vec<u8>>, ChainError> {
    if text.len() > MAX_PEM_BYTES {
        return Err(ChainError::Pem("they are longer than 24 KiB"));
    }
    let mut ders = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines().map(str::trim_end) {
        match (line, &mut open) {
            ("", None) => {}
            (BEGIN, None) => open = Some(String::new()),
            (END, Some(body)) => {
                let der = STANDARD
                    .decode(body.as_bytes())
                    .map_err(|_| ChainError::Pem("one is not base64"))?;
                if der.is_empty() || der.len() > MAX_CERTIFICATE_BYTES {
                    return Err(ChainError::Pem("one is empty or longer than 4096 bytes"));
                }
                ders.push(der);
                open = None;
                if ders.len() > MAX_CHAIN {
                    return Err(ChainError::Length { found: ders.len() });
                }
            }
            (line, Some(body)) if !line.starts_with('-') => body.push_str(line),
            _ => return Err(ChainError::Pem("there is something else than PEM certificates")),
        }
    }
    if open.is_some() {
        return Err(ChainError::Pem("the last one is cut short"));
    }
    Ok(ders)
}

/// Fuzz entry, for PEM or one DER certificate: what is read is within its limits, and before any certificate was made
/// nothing leads to a root.
pub fn fuzz_nvidia_chain(data: &[u8]) {
    if let Ok(certificate) = Certificate::parse(data) {
        assert!(data.len() <= MAX_CERTIFICATE_BYTES && certificate.serial.len() <= 20);
        assert!(certificate.common_name().is_none_or(str::is_ascii));
        let _ = certificate.dice.map(Dice::parse);
    }
    if let Ok(text) = str::from_utf8(data)
        && let Ok(ders) = read_pem(text)
    {
        assert!(ders.len() <= MAX_CHAIN);
        let root = super::roots::NvidiaRoots::nvidia().device;
        assert!(DeviceChain::verify(&ders, &root, 0).is_err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_is_read_strictly() {
        let pem = |body: &str| format!("{BEGIN}\n{body}\n{END}\n");
        assert_eq!(read_pem(&pem("AAEC")), Ok(vec![vec![0, 1, 2]]));
        assert_eq!(read_pem(""), Ok(vec![]));
        for text in [
            format!("x\n{}", pem("AAEC")),
            pem(""),
            pem("AAE"),
            pem("-"),
            format!("{BEGIN}\n{}", pem("AAEC")),
            format!("{BEGIN}\nAAEC\n"),
            format!("{END}\n"),
            pem(&"A".repeat(8 * 1024)),
        ] {
            assert!(read_pem(&text).is_err(), "{text}");
        }
        let six = pem("AAEC").repeat(6);
        assert_eq!(read_pem(&six), Err(ChainError::Length { found: 6 }));
    }
}
