//! A library for switches that is simulated, for tests only: it says what it is told to say and proves nothing.

use crate::{
    library::{Filled, MAX_CHAIN_BYTES, MAX_REPORT_BYTES},
    simulated::{CHAIN, filled, transcript_of},
    switch_evidence::RawSwitch,
    switch_library::{LS10, SwitchCallError, SwitchCalled, SwitchLibrary, Uuid},
};

pub(crate) const BIOS: &[u8] = b"96.10.73.00.01";

/// An exchange whose opaque data have the switch's own number and this BIOS version.
pub(crate) fn report_with(challenge: &[u8; 32], bios: &[u8]) -> Vec<u8> {
    transcript_of(challenge, 31, &opaque(bios, 0))
}

fn opaque(bios: &[u8], more: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut field = |kind: u16, value: &[u8]| {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        bytes.extend(value);
    };
    field(22, &[5; 8]);
    field(6, bios);
    field(25, &[1, 0]);
    field(999, &vec![0xee; usize::from(more)]);
    bytes
}

/// What the library gives of a switch with nothing wrong.
pub(crate) fn raw(challenge: &[u8; 32]) -> RawSwitch {
    let library = Simulated::with(&[1]);
    RawSwitch {
        architecture: LS10,
        report: library.report(&[1; 16], challenge).unwrap(),
        certificates: library.certificates(&[1; 16]).unwrap(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Call(&'static str),
    NoArchitecture,
    TwoArchitectures,
    Architecture(i8),
    Mode(i8),
    StaleReport,
    ReportLength(u32),
    CertificateLength(u32),
    NoBios,
}

#[derive(Debug)]
pub(crate) struct Simulated {
    switches: Vec<Uuid>,
    fault: Option<Fault>,
    is_full: bool,
}

impl Simulated {
    pub(crate) fn with(numbers: &[u8]) -> Self {
        let switches = numbers.iter().map(|number| [*number; 16]).collect();
        Self { switches, fault: None, is_full: false }
    }

    pub(crate) fn failing(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    pub(crate) fn with_full_buffers(mut self) -> Self {
        self.is_full = true;
        self
    }

    fn called<T>(&self, call: &'static str, value: T) -> SwitchCalled<T> {
        if self.fault == Some(Fault::Call(call)) {
            return Err(SwitchCallError::Code { call, code: -7 });
        }
        Ok(value)
    }
}

impl SwitchLibrary for Simulated {
    fn uuids(&self) -> SwitchCalled<Vec<Uuid>> {
        self.called("uuids", self.switches.clone())
    }

    fn architectures(&self) -> SwitchCalled<Vec<(Uuid, i8)>> {
        let number = match self.fault {
            Some(Fault::Architecture(number)) => number,
            _ => LS10,
        };
        let times = match self.fault {
            Some(Fault::NoArchitecture) => 0,
            Some(Fault::TwoArchitectures) => 2,
            _ => 1,
        };
        let one = self.switches.iter().map(|switch| (*switch, number));
        let all = one.flat_map(|answer| vec![answer; times]).collect();
        self.called("architectures", all)
    }

    fn state(&self, _: &Uuid) -> SwitchCalled<i8> {
        let number = match self.fault {
            Some(Fault::Mode(number)) => number,
            _ => 3,
        };
        self.called("state", number)
    }

    fn certificates(&self, _: &Uuid) -> SwitchCalled<Filled> {
        let length = match self.fault {
            Some(Fault::CertificateLength(length)) => Some(length),
            _ => None,
        };
        let mut chain = CHAIN.to_owned();
        while self.is_full && chain.len() + CHAIN.len() <= MAX_CHAIN_BYTES {
            chain.push_str(CHAIN);
        }
        self.called("certificates", filled(chain.as_bytes(), MAX_CHAIN_BYTES, length))
    }

    fn report(&self, _: &Uuid, challenge: &[u8; 32]) -> SwitchCalled<Filled> {
        let stale = [0x55; 32];
        let nonce = if self.fault == Some(Fault::StaleReport) { &stale } else { challenge };
        let length = match self.fault {
            Some(Fault::ReportLength(length)) => Some(length),
            _ => None,
        };
        let bios: &[u8] = if self.fault == Some(Fault::NoBios) { b"" } else { BIOS };
        let opaque = opaque(bios, if self.is_full { 6250 } else { 0 });
        let report = filled(&transcript_of(nonce, 31, &opaque), MAX_REPORT_BYTES, length);
        self.called("report", report)
    }
}
