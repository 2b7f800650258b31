//! The driver's own library, opened at run time. All foreign calls of this program are here: their structures are those of
//! NVIDIA's `nvml.h`, in the bindings of `nvml-wrapper-sys`. Not yet run on a GPU in confidential computing mode.

#![expect(unsafe_code, reason = "NVML is a C library")]

use std::ffi::c_char;

use nvml_wrapper_sys::bindings::{
    NvmlLib, nvmlConfComputeGpuAttestationReport_t, nvmlConfComputeGpuCertificate_t, nvmlDevice_t,
    nvmlPciInfo_t, nvmlReturn_t, nvmlSystemConfComputeSettings_t,
};

use crate::library::{
    CallError, Called, Filled, LIBRARY, Library, MAX_CHAIN_BYTES, MAX_REPORT_BYTES, Settings,
};

const SUCCESS: nvmlReturn_t = 0;
/// The structure's size, and 1 in the highest byte: how NVML marks its versions.
const SETTINGS_VERSION: u32 = size_of::<nvmlSystemConfComputeSettings_t>() as u32 | 1 << 24;
const TEXT_BYTES: usize = 96;

const _: () = assert!(SETTINGS_VERSION == 0x0100_0014);

/// The library after it was initialized; it is shut down when this is dropped.
pub(crate) struct Driver {
    library: NvmlLib,
}

/// Calls a function of the library by its name; what comes of it is an error unless it says success.
macro_rules! call {
    ($driver:expr, $name:ident($($argument:expr),*)) => {{
        let function =
            $driver.library.$name.as_ref().map_err(|_| CallError::Function(stringify!($name)))?;
        // SAFETY: the library is loaded for as long as `Driver` lives and is initialized. Every pointer in the arguments
        // is to a live local of the type that nvml.h gives for it, with the size beside it where one is asked for, and
        // the library keeps none of them.
        let status = unsafe { function($($argument),*) };
        said(stringify!($name), status)
    }};
}

impl Driver {
    pub(crate) fn load() -> Called<Self> {
        // SAFETY: the name is that of NVIDIA's library, whose constructors are safe to run; the process has one thread.
        let library = unsafe { NvmlLib::new(LIBRARY) }.map_err(CallError::load)?;
        let init = library.nvmlInit_v2.as_ref().map_err(|_| CallError::Function("nvmlInit_v2"))?;
        // SAFETY: it takes no arguments, and `library` stays loaded.
        said("nvmlInit_v2", unsafe { init() })?;
        Ok(Self { library })
    }

    fn handle(&self, gpu: u32) -> Called<nvmlDevice_t> {
        let mut handle: nvmlDevice_t = std::ptr::null_mut();
        call!(self, nvmlDeviceGetHandleByIndex_v2(gpu, &raw mut handle))?;
        Ok(handle)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Ok(shutdown) = &self.library.nvmlShutdown {
            // SAFETY: it takes no arguments and undoes the one initialization of `load`.
            unsafe { shutdown() };
        }
    }
}

fn said(call: &'static str, status: nvmlReturn_t) -> Called<()> {
    if status == SUCCESS { Ok(()) } else { Err(CallError::Status { call, status }) }
}

/// # Safety
///
/// A structure of integers and arrays of integers: zeros are a value of it.
unsafe trait Plain {}

// SAFETY: each is integers and arrays of integers in nvml.h and in the bindings.
unsafe impl Plain for nvmlSystemConfComputeSettings_t {}
// SAFETY: as above.
unsafe impl Plain for nvmlPciInfo_t {}
// SAFETY: as above.
unsafe impl Plain for nvmlConfComputeGpuAttestationReport_t {}
// SAFETY: as above.
unsafe impl Plain for nvmlConfComputeGpuCertificate_t {}

fn zeroed<T: Plain>() -> Box<T> {
    // SAFETY: zeros are a value of every `Plain` type.
    unsafe { Box::<T>::new_zeroed().assume_init() }
}

fn bytes(text: &[c_char]) -> Vec<u8> {
    text.iter().map(|character| character.cast_unsigned()).collect()
}

impl Library for Driver {
    fn driver_version(&self) -> Called<Vec<u8>> {
        let mut text = [0; TEXT_BYTES];
        call!(self, nvmlSystemGetDriverVersion(text.as_mut_ptr(), TEXT_BYTES as u32))?;
        Ok(bytes(&text))
    }

    fn settings(&self) -> Called<Settings> {
        let mut settings = zeroed::<nvmlSystemConfComputeSettings_t>();
        settings.version = SETTINGS_VERSION;
        call!(self, nvmlSystemGetConfComputeSettings(&raw mut *settings))?;
        Ok(Settings {
            environment: settings.environment,
            feature: settings.ccFeature,
            devtools: settings.devToolsMode,
            multi_gpu: settings.multiGpuMode,
        })
    }

    fn gpus_ready(&self) -> Called<u32> {
        let mut state = 0;
        call!(self, nvmlSystemGetConfComputeGpusReadyState(&raw mut state))?;
        Ok(state)
    }

    fn set_gpus_ready(&self, state: u32) -> Called<()> {
        call!(self, nvmlSystemSetConfComputeGpusReadyState(state))
    }

    fn count(&self) -> Called<u32> {
        let mut count = 0;
        call!(self, nvmlDeviceGetCount_v2(&raw mut count))?;
        Ok(count)
    }

    fn bus(&self, gpu: u32) -> Called<Vec<u8>> {
        let mut info = zeroed::<nvmlPciInfo_t>();
        call!(self, nvmlDeviceGetPciInfo_v3(self.handle(gpu)?, &raw mut *info))?;
        Ok(bytes(&info.busId))
    }

    fn uuid(&self, gpu: u32) -> Called<Vec<u8>> {
        let mut text = [0; TEXT_BYTES];
        let handle = self.handle(gpu)?;
        call!(self, nvmlDeviceGetUUID(handle, text.as_mut_ptr(), TEXT_BYTES as u32))?;
        Ok(bytes(&text))
    }

    fn architecture(&self, gpu: u32) -> Called<u32> {
        let mut architecture = 0;
        call!(self, nvmlDeviceGetArchitecture(self.handle(gpu)?, &raw mut architecture))?;
        Ok(architecture)
    }

    fn vbios_version(&self, gpu: u32) -> Called<Vec<u8>> {
        let mut text = [0; TEXT_BYTES];
        let handle = self.handle(gpu)?;
        call!(self, nvmlDeviceGetVbiosVersion(handle, text.as_mut_ptr(), TEXT_BYTES as u32))?;
        Ok(bytes(&text))
    }

    fn mig_mode(&self, gpu: u32) -> Called<u32> {
        let (mut current, mut pending) = (0, 0);
        let handle = self.handle(gpu)?;
        call!(self, nvmlDeviceGetMigMode(handle, &raw mut current, &raw mut pending))?;
        Ok(current)
    }

    fn virtualization(&self, gpu: u32) -> Called<u32> {
        let mut mode = 0;
        call!(self, nvmlDeviceGetVirtualizationMode(self.handle(gpu)?, &raw mut mode))?;
        Ok(mode)
    }

    fn report(&self, gpu: u32, challenge: &[u8; 32]) -> Called<Filled> {
        let mut report = zeroed::<nvmlConfComputeGpuAttestationReport_t>();
        report.nonce = *challenge;
        let handle = self.handle(gpu)?;
        call!(self, nvmlDeviceGetConfComputeGpuAttestationReport(handle, &raw mut *report))?;
        let buffer: [u8; MAX_REPORT_BYTES] = report.attestationReport;
        Ok(Filled { length: report.attestationReportSize, buffer: buffer.to_vec() })
    }

    fn certificates(&self, gpu: u32) -> Called<Filled> {
        let mut chains = zeroed::<nvmlConfComputeGpuCertificate_t>();
        let handle = self.handle(gpu)?;
        call!(self, nvmlDeviceGetConfComputeGpuCertificate(handle, &raw mut *chains))?;
        // The other chain in there does not lead to the key that signs reports.
        let buffer: [u8; MAX_CHAIN_BYTES] = chains.attestationCertChain;
        Ok(Filled { length: chains.attestationCertChainSize, buffer: buffer.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes as a C compiler gives them for nvml.h.
    #[test]
    fn structures_have_their_sizes() {
        assert_eq!(size_of::<nvmlSystemConfComputeSettings_t>(), 20);
        assert_eq!(size_of::<nvmlConfComputeGpuCertificate_t>(), 8 + 4096 + 5120);
        assert_eq!(size_of::<nvmlConfComputeGpuAttestationReport_t>(), 12 + 32 + 8192 + 4096);
        assert_eq!(size_of::<nvmlPciInfo_t>(), 68);
    }

    #[test]
    fn a_machine_without_the_driver_says_so() {
        match Driver::load() {
            Err(error @ CallError::Load(_)) => {
                assert!(error.to_string().contains(LIBRARY), "{error}");
            }
            _ => eprintln!("skipped: this machine has the driver's library"),
        }
    }
}
