//! A library that is simulated, for tests only: it says what it is told to say and proves nothing.

use std::cell::Cell;

use crate::{
    evidence::Raw,
    library::{
        CallError, Called, Filled, Library, MAX_CHAIN_BYTES, MAX_REPORT_BYTES, NOT_SUPPORTED,
        Settings,
    },
};

pub(crate) const UUID: &str = "GPU-00000000-1111-2222-3333-444444444444";
/// PEM in form only.
pub(crate) const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n\
                                -----BEGIN CERTIFICATE-----\nQUI=\n-----END CERTIFICATE-----\n";

/// An exchange with so many measurements and bytes of opaque data, signed by nobody.
pub(crate) fn transcript(challenge: &[u8; 32], blocks: u8, opaque: u16) -> Vec<u8> {
    transcript_of(challenge, blocks, &vec![0xee; usize::from(opaque)])
}

pub(crate) fn transcript_of(challenge: &[u8; 32], blocks: u8, opaque: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x11, 0xe0, 0x01, 0xff];
    bytes.extend(challenge);
    bytes.push(0);
    bytes.extend([0x11, 0x60, 0, 0, blocks]);
    let record = u32::from(blocks) * 55;
    bytes.extend(&record.to_le_bytes()[..3]);
    for index in 1..=blocks {
        bytes.extend([index, 1, 51, 0, 1, 48, 0]);
        bytes.extend([index; 48]);
    }
    bytes.extend([9; 32]);
    bytes.extend(u16::try_from(opaque.len()).unwrap().to_le_bytes());
    bytes.extend(opaque);
    bytes.extend([0xdd; 96]);
    bytes
}

/// What the driver gives of a GPU with nothing wrong.
pub(crate) fn raw(challenge: &[u8; 32]) -> Raw {
    let library = Simulated::with(&["0000:01:00.0"]);
    Raw {
        architecture: library.architecture(0).unwrap(),
        uuid: library.uuid(0).ok(),
        report: library.report(0, challenge).unwrap(),
        certificates: library.certificates(0).unwrap(),
        driver_version: library.driver_version().unwrap(),
        vbios_version: library.vbios_version(0).unwrap(),
        mig: library.mig_mode(0).ok(),
        virtualization: library.virtualization(0).ok(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Call(&'static str),
    Missing(&'static str),
    Unsupported,
    Bus(&'static [u8]),
    CcOff,
    ReadyState(u32),
    ReadyMeanwhile,
    ReadyIsLost,
    Architecture(u32),
    StaleReport,
    ReportLength(u32),
    CertificateLength(u32),
}

#[derive(Debug)]
pub(crate) struct Simulated {
    buses: Vec<String>,
    fault: Option<Fault>,
    is_full: bool,
    ready: Cell<u32>,
    times_set: Cell<u32>,
}

impl Simulated {
    pub(crate) fn with(buses: &[&str]) -> Self {
        Self {
            buses: buses.iter().map(|bus| format!("0000{}\0", bus.to_uppercase())).collect(),
            fault: None,
            is_full: false,
            ready: Cell::new(0),
            times_set: Cell::new(0),
        }
    }

    pub(crate) fn failing(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    pub(crate) fn with_full_buffers(mut self) -> Self {
        self.is_full = true;
        self
    }

    pub(crate) fn times_set(&self) -> u32 {
        self.times_set.get()
    }

    fn called<T>(&self, call: &'static str, value: T) -> Called<T> {
        const OPTIONAL: [&str; 3] =
            ["nvmlDeviceGetUUID", "nvmlDeviceGetMigMode", "nvmlDeviceGetVirtualizationMode"];
        match self.fault {
            Some(Fault::Call(name)) if name == call => Err(CallError::Status { call, status: 999 }),
            Some(Fault::Missing(name)) if name == call => Err(CallError::Function(call)),
            Some(Fault::Unsupported) if OPTIONAL.contains(&call) => {
                Err(CallError::Status { call, status: NOT_SUPPORTED })
            }
            _ => Ok(value),
        }
    }
}

pub(crate) fn filled(bytes: &[u8], size: usize, length: Option<u32>) -> Filled {
    let mut buffer = bytes.to_vec();
    buffer.resize(size, 0);
    Filled { length: length.unwrap_or(u32::try_from(bytes.len()).unwrap()), buffer }
}

impl Library for Simulated {
    fn driver_version(&self) -> Called<Vec<u8>> {
        self.called("nvmlSystemGetDriverVersion", b"550.163.01\0\0\0".to_vec())
    }

    fn settings(&self) -> Called<Settings> {
        let feature = u32::from(self.fault != Some(Fault::CcOff));
        let settings = Settings { environment: 2, feature, devtools: 0, multi_gpu: 0 };
        self.called("nvmlSystemGetConfComputeSettings", settings)
    }

    fn gpus_ready(&self) -> Called<u32> {
        let state = match self.fault {
            Some(Fault::ReadyState(state)) => state,
            _ => self.ready.get(),
        };
        self.called("nvmlSystemGetConfComputeGpusReadyState", state)
    }

    fn set_gpus_ready(&self, state: u32) -> Called<()> {
        self.called("nvmlSystemSetConfComputeGpusReadyState", ())?;
        self.times_set.set(self.times_set.get() + 1);
        if self.fault != Some(Fault::ReadyIsLost) {
            self.ready.set(state);
        }
        Ok(())
    }

    fn count(&self) -> Called<u32> {
        self.called("nvmlDeviceGetCount_v2", u32::try_from(self.buses.len()).unwrap())
    }

    fn bus(&self, gpu: u32) -> Called<Vec<u8>> {
        let bus = match self.fault {
            Some(Fault::Bus(bytes)) => bytes.to_vec(),
            _ => self.buses[gpu as usize].clone().into_bytes(),
        };
        self.called("nvmlDeviceGetPciInfo_v3", bus)
    }

    fn uuid(&self, _: u32) -> Called<Vec<u8>> {
        self.called("nvmlDeviceGetUUID", format!("{UUID}\0").into_bytes())
    }

    fn architecture(&self, _: u32) -> Called<u32> {
        let number = match self.fault {
            Some(Fault::Architecture(number)) => number,
            _ => 9,
        };
        self.called("nvmlDeviceGetArchitecture", number)
    }

    fn vbios_version(&self, _: u32) -> Called<Vec<u8>> {
        self.called("nvmlDeviceGetVbiosVersion", b"96.00.9F.00.01\0".to_vec())
    }

    fn mig_mode(&self, _: u32) -> Called<u32> {
        self.called("nvmlDeviceGetMigMode", 0)
    }

    fn virtualization(&self, _: u32) -> Called<u32> {
        self.called("nvmlDeviceGetVirtualizationMode", 1)
    }

    fn report(&self, _: u32, challenge: &[u8; 32]) -> Called<Filled> {
        let stale = [0x55; 32];
        let nonce = if self.fault == Some(Fault::StaleReport) { &stale } else { challenge };
        let opaque = if self.is_full { 7845 } else { 40 };
        let length = match self.fault {
            Some(Fault::ReportLength(length)) => Some(length),
            _ => None,
        };
        if self.fault == Some(Fault::ReadyMeanwhile) {
            self.ready.set(1);
        }
        let report = filled(&transcript(nonce, 3, opaque), MAX_REPORT_BYTES, length);
        self.called("nvmlDeviceGetConfComputeGpuAttestationReport", report)
    }

    fn certificates(&self, _: u32) -> Called<Filled> {
        let length = match self.fault {
            Some(Fault::CertificateLength(length)) => Some(length),
            _ => None,
        };
        let mut chain = CHAIN.to_owned();
        while self.is_full && chain.len() + CHAIN.len() <= MAX_CHAIN_BYTES {
            chain.push_str(CHAIN);
        }
        let filled = filled(chain.as_bytes(), MAX_CHAIN_BYTES, length);
        self.called("nvmlDeviceGetConfComputeGpuCertificate", filled)
    }
}
