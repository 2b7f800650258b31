//! TDX quotes, version 4 and 5: bounds, layout and the rules that need no signature.
//!
//! Source of the layout: Intel TDX DCAP quoting library API, appendix "quote format". All integers are little-endian.
//! The fields themselves are decoded by `dcap-qvl`, which also verifies signatures ([`crate::anchor`]).

use dcap_qvl::quote::{Quote, Report};

use crate::{bundle::MAX_QUOTE_BYTES, codes::Code, fixed_hex::Hex48};

const HEADER: usize = 48;
const V5_DESCRIPTOR: usize = 6;
const TEE_TDX: u32 = 0x81;

const DEBUG: u64 = 1;
const SEPT_VE_DISABLE: u64 = 1 << 28;
/// Besides SEPT_VE_DISABLE: instruction-count single-step defence, LASS, protection keys.
const HARMLESS_ATTRIBUTES: u64 = 1 << 16 | 1 << 27 | 1 << 30;
/// x87, SSE, AVX, AVX-512, PKRU, CET, UINTR, AMX, APX; not processor trace, branch records or PASID.
const ALLOWED_XFAM: u64 = 0x000e_5ae7;

/// The part of a quote that Sealtune judges itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxQuote {
    pub version: u16,
    pub attributes: u64,
    pub xfam: u64,
    pub mrseam: Hex48,
    pub mrtd: Hex48,
    pub rtmr: [Hex48; 4],
    pub mr_config_id: Hex48,
    pub mr_owner: Hex48,
    pub mr_owner_config: Hex48,
    pub report_data: [u8; 64],
    /// Zero, or which service TD is bound; only newer bodies have it.
    pub mr_service_td: Option<Hex48>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuoteError {
    #[error("read the quote: {0}")]
    Malformed(String),
    #[error("read the quote: {0} bytes follow it")]
    Trailing(usize),
    #[error(
        "read the quote: version {version}, TEE type {tee_type:#x}; expected version 4 or 5 of TDX"
    )]
    NotTdx { version: u16, tee_type: u32 },
    #[error("accept the VM: its debug attribute is set ({attributes:#018x})")]
    Debug { attributes: u64 },
    #[error("accept the VM: TD attributes {attributes:#018x}")]
    Attributes { attributes: u64 },
    #[error("accept the VM: XFAM {xfam:#018x}")]
    Xfam { xfam: u64 },
    #[error("accept the VM: {register} is {value}")]
    Owner { register: &'static str, value: Hex48 },
    #[error("accept the VM: {register} is all zero")]
    RegisterZero { register: &'static str },
    #[error("accept the VM: service TD {0}")]
    ServiceTd(Hex48),
}

impl QuoteError {
    pub fn entry(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::QuoteMalformed,
            Self::Trailing(_) => Code::QuoteTrailing,
            Self::NotTdx { .. } => Code::QuoteNotTdx,
            Self::Debug { .. } => Code::QuoteDebug,
            Self::Attributes { .. } => Code::QuoteAttributes,
            Self::Xfam { .. } => Code::QuoteXfam,
            Self::Owner { .. } => Code::QuoteOwner,
            Self::RegisterZero { .. } => Code::QuoteRegisterZero,
            Self::ServiceTd(_) => Code::ServiceTd,
        }
    }

    pub fn code(&self) -> &'static str {
        self.entry().as_str()
    }

    pub fn fix(&self) -> &'static str {
        self.entry().fix()
    }
}

impl TdxQuote {
    /// Reads a quote that ends where its bytes end.
    pub fn parse(bytes: &[u8]) -> Result<Self, QuoteError> {
        let end = quote_length(bytes)?;
        match bytes.len() - end {
            0 => {}
            trailing => return Err(QuoteError::Trailing(trailing)),
        }
        check_signature_data(bytes)?;
        let quote =
            Quote::parse(bytes).map_err(|error| QuoteError::Malformed(format!("{error:#}")))?;
        let Some(report) = quote.report.as_td10() else {
            return Err(QuoteError::NotTdx {
                version: quote.header.version,
                tee_type: quote.header.tee_type,
            });
        };
        let mr_service_td = match &quote.report {
            Report::TD15(report) => Some(report.mr_service_td),
            Report::TD15Ex(report) => Some(report.base.mr_service_td),
            _ => None,
        };
        Ok(Self {
            version: quote.header.version,
            attributes: u64::from_le_bytes(report.td_attributes),
            xfam: u64::from_le_bytes(report.xfam),
            mrseam: report.mr_seam.into(),
            mrtd: report.mr_td.into(),
            rtmr: [
                report.rt_mr0.into(),
                report.rt_mr1.into(),
                report.rt_mr2.into(),
                report.rt_mr3.into(),
            ],
            mr_config_id: report.mr_config_id.into(),
            mr_owner: report.mr_owner.into(),
            mr_owner_config: report.mr_owner_config.into(),
            report_data: report.report_data,
            mr_service_td: mr_service_td.map(Into::into),
        })
    }

    /// Debug mode and every attribute that weakens isolation.
    pub fn check_attributes(&self) -> Result<(), QuoteError> {
        let attributes = self.attributes;
        if attributes & DEBUG != 0 {
            return Err(QuoteError::Debug { attributes });
        }
        let unknown = attributes & !(SEPT_VE_DISABLE | HARMLESS_ATTRIBUTES);
        if unknown != 0 || attributes & SEPT_VE_DISABLE == 0 {
            return Err(QuoteError::Attributes { attributes });
        }
        if let Some(service) = self.mr_service_td.filter(|service| !service.is_zero()) {
            return Err(QuoteError::ServiceTd(service));
        }
        Ok(())
    }

    pub fn check_xfam(&self) -> Result<(), QuoteError> {
        let always = 0b11;
        if self.xfam & !ALLOWED_XFAM != 0 || self.xfam & always != always {
            return Err(QuoteError::Xfam { xfam: self.xfam });
        }
        Ok(())
    }

    /// MROWNER and MROWNERCONFIG mean nothing here, so they may say nothing.
    pub fn check_owner(&self) -> Result<(), QuoteError> {
        for (register, value) in
            [("MROWNER", self.mr_owner), ("MROWNERCONFIG", self.mr_owner_config)]
        {
            if !value.is_zero() {
                return Err(QuoteError::Owner { register, value });
            }
        }
        Ok(())
    }

    pub fn check_measured(&self) -> Result<(), QuoteError> {
        let registers = [
            ("MRTD", self.mrtd),
            ("RTMR0", self.rtmr[0]),
            ("RTMR1", self.rtmr[1]),
            ("RTMR2", self.rtmr[2]),
        ];
        match registers.iter().find(|(_, value)| value.is_zero()) {
            Some((register, _)) => Err(QuoteError::RegisterZero { register }),
            None => Ok(()),
        }
    }
}

/// Cuts the zero padding that quoting services append; anything else after the quote is refused.
pub fn without_padding(bytes: &[u8]) -> Result<&[u8], QuoteError> {
    let (quote, rest) = bytes.split_at(quote_length(bytes)?);
    if rest.iter().all(|byte| *byte == 0) {
        Ok(quote)
    } else {
        Err(QuoteError::Trailing(rest.len()))
    }
}

/// Where the quote in `bytes` ends.
fn quote_length(bytes: &[u8]) -> Result<usize, QuoteError> {
    if bytes.len() > MAX_QUOTE_BYTES {
        return Err(QuoteError::Malformed("longer than 16 KiB".to_owned()));
    }
    let short = || QuoteError::Malformed("shorter than its header says".to_owned());
    let body_end = body_end(bytes)?;
    let signature = read_u32(bytes, body_end).ok_or_else(short)?;
    let end = usize::try_from(signature)
        .ok()
        .and_then(|length| length.checked_add(body_end + 4))
        .ok_or_else(short)?;
    if end > bytes.len() { Err(short()) } else { Ok(end) }
}

/// Where what its own signature covers ends.
fn body_end(bytes: &[u8]) -> Result<usize, QuoteError> {
    let malformed = |reason: &str| QuoteError::Malformed(reason.to_owned());
    let short = || malformed("shorter than its header says");
    let (Some(version), Some(tee_type)) = (read_u16(bytes, 0), read_u32(bytes, 4)) else {
        return Err(short());
    };
    if tee_type != TEE_TDX || !matches!(version, 4 | 5) {
        return Err(QuoteError::NotTdx { version, tee_type });
    }
    let body_end = if version == 4 {
        HEADER + 584
    } else {
        let size = match read_u16(bytes, HEADER).ok_or_else(short)? {
            2 => 584,
            3 => 648,
            4 => 885,
            _ => return Err(malformed("unknown kind of body")),
        };
        if read_u32(bytes, HEADER + 2) != Some(size) {
            return Err(malformed("the body has another size than its kind"));
        }
        HEADER + V5_DESCRIPTOR + size as usize
    };
    Ok(body_end)
}

/// What signatures do not cover, and a decoder may pass over: that each part behind the body is of the one kind that is in
/// use, and fills the part around it.
fn check_signature_data(bytes: &[u8]) -> Result<(), QuoteError> {
    /// Signature, attestation key.
    const CERTIFICATION: usize = 64 + 64;
    /// Kind and length, the quoting enclave's report, its signature.
    const AUTH_DATA: usize = CERTIFICATION + 6 + 384 + 64;
    const ENCLAVE_REPORT: u16 = 6;
    const PEM_CHAIN: u16 = 5;
    let malformed = || QuoteError::Malformed("its signature data is of another form".to_owned());
    let data = bytes.get(body_end(bytes)? + 4..).ok_or_else(malformed)?;
    let inner = read_u16(data, AUTH_DATA).map(|length| AUTH_DATA + 2 + usize::from(length));
    let inner = inner.ok_or_else(malformed)?;
    let fills = |kind: u16, at: usize| {
        let rest = data.len().checked_sub(at + 6).and_then(|rest| u32::try_from(rest).ok());
        read_u16(data, at) == Some(kind) && rest.is_some() && read_u32(data, at + 2) == rest
    };
    if fills(ENCLAVE_REPORT, CERTIFICATION) && fills(PEM_CHAIN, inner) {
        Ok(())
    } else {
        Err(malformed())
    }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

/// Fuzz entry: a quote that parses has no padding left to cut.
pub fn fuzz_quote(data: &[u8]) {
    if let Ok(quote) = TdxQuote::parse(data) {
        assert_eq!(without_padding(data), Ok(data));
        assert!(crate::pck_chain::check(data, &crate::fixed_hex::Hex32::ZERO).is_err());
        let _ = (quote.check_attributes(), quote.check_xfam(), quote.check_owner());
    }
    if let Ok(cut) = without_padding(data) {
        assert!(data.len() >= cut.len() && data.starts_with(cut));
    }
}
