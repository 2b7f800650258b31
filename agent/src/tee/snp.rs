//! AMD SEV-SNP: reports by configfs-tsm or, where the kernel has none, by the guest device (Documentation/virt/coco/sev-guest).
//!
//! Written from the kernel's documentation and AMD's firmware ABI; it has not run on hardware yet.
//!
//! An SNP guest has no run-time register: what starts later is not measured, and evidence says so.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use sealtune_evidence::{FixedHex, Hex32};

use super::TeeError;
use super::configfs::{REPORTS, ReportRequest, blocking};

const DEVICE: &str = "/dev/sev-guest";
const PROVIDER: &str = "sev_guest";

/// Where the fields of a report stand (SEV-SNP firmware ABI, ATTESTATION_REPORT).
pub(crate) const REPORT_BYTES: usize = 1184;
const REPORT_DATA: std::ops::Range<usize> = 0x50..0x90;
const HOST_DATA: std::ops::Range<usize> = 0xC0..0xE0;

/// `_IOWR('S', 0, struct snp_guest_request_ioctl)`.
const GET_REPORT: u32 = 0xC020_5300;
const MESSAGE_VERSION: u8 = 1;
/// Report data, VMPL and 28 reserved bytes.
const REQUEST_BYTES: usize = 96;
const RESPONSE_BYTES: usize = 4000;
/// Status, size and 24 reserved bytes before the report.
const RESPONSE_HEADER: usize = 32;

#[derive(Debug, Clone)]
pub(crate) struct Snp {
    reports: PathBuf,
    device: PathBuf,
}

impl Snp {
    /// Whether the guest has the device. That proves nothing to anybody else: the report does.
    pub(crate) fn detect() -> Option<Self> {
        Path::new(DEVICE).exists().then(|| Self { reports: REPORTS.into(), device: DEVICE.into() })
    }

    /// HOST_DATA, which holds the digest of the launch configuration.
    pub(super) async fn host_data(&self) -> Result<Hex32, TeeError> {
        let mut report_data = [0; 64];
        getrandom::fill(&mut report_data).map_err(|error| TeeError::Report(error.to_string()))?;
        let report = self.report(TeeError::Report, &report_data).await?;
        if reported_data(&report) != Some(&report_data) {
            return Err(TeeError::Report("it was made for other report data".into()));
        }
        field::<32>(&report, HOST_DATA)
            .map(|found| FixedHex(*found))
            .ok_or_else(|| TeeError::Report("it is too short".into()))
    }

    pub(super) async fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
        self.report(TeeError::Quote, report_data).await
    }

    async fn report(
        &self,
        failed: fn(String) -> TeeError,
        report_data: &[u8; 64],
    ) -> Result<Vec<u8>, TeeError> {
        let (reports, device, report_data) =
            (self.reports.clone(), self.device.clone(), *report_data);
        blocking(failed, move || {
            let report = if reports.is_dir() {
                ReportRequest::new(&reports)?.report(PROVIDER, &report_data)?
            } else {
                ask_device(&device, &report_data)?
            };
            match report.len() {
                REPORT_BYTES => Ok(report),
                other => Err(format!("a report of {other} bytes")),
            }
        })
        .await
    }
}

/// The report data in a report.
pub(crate) fn reported_data(report: &[u8]) -> Option<&[u8; 64]> {
    field(report, REPORT_DATA)
}

fn field<const N: usize>(report: &[u8], range: std::ops::Range<usize>) -> Option<&[u8; N]> {
    if report.len() != REPORT_BYTES {
        return None;
    }
    report.get(range)?.try_into().ok()
}

/// `struct snp_guest_request_ioctl`.
#[repr(C)]
struct GuestRequest {
    message_version: u8,
    request: u64,
    response: u64,
    firmware_error: u64,
}

#[expect(unsafe_code, reason = "the driver's only other interface is an ioctl")]
fn ask_device(device: &Path, report_data: &[u8; 64]) -> Result<Vec<u8>, String> {
    let file =
        File::options().read(true).write(true).open(device).map_err(|error| error.to_string())?;
    let mut request = [0u8; REQUEST_BYTES];
    let (data, _) = request.split_at_mut(64);
    data.copy_from_slice(report_data);
    let mut response = vec![0u8; RESPONSE_BYTES];
    let mut ask = GuestRequest {
        message_version: MESSAGE_VERSION,
        request: request.as_ptr() as u64,
        response: response.as_mut_ptr() as u64,
        firmware_error: 0,
    };
    // SAFETY: the driver reads 96 bytes of the request and writes at most 4000 of the response; both buffers have these
    // lengths and, like the structure that points to them, live until the call returns. The descriptor is open.
    let result = unsafe {
        libc::ioctl(file.as_raw_fd(), GET_REPORT as libc::Ioctl, std::ptr::from_mut(&mut ask))
    };
    Errno::result(result)
        .map_err(|errno| format!("{errno}, firmware says {:#x}", ask.firmware_error))?;
    report_of(&response)
}

/// The report in a response of the firmware.
fn report_of(response: &[u8]) -> Result<Vec<u8>, String> {
    let word = |at: usize| {
        let bytes: [u8; 4] = response.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    match (word(0), word(4).map(|size| size as usize)) {
        (Some(0), Some(REPORT_BYTES)) => response
            .get(RESPONSE_HEADER..RESPONSE_HEADER + REPORT_BYTES)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| "the response is cut".to_owned()),
        (Some(0), Some(size)) => Err(format!("a report of {size} bytes")),
        (Some(status), _) => Err(format!("the firmware answers {status:#x}")),
        (None, _) => Err("the response is cut".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_good_response_holds_a_report() {
        let mut response = vec![0; RESPONSE_BYTES];
        response[4..8].copy_from_slice(&1184u32.to_le_bytes());
        response[RESPONSE_HEADER] = 5;
        let report = report_of(&response).unwrap();
        assert_eq!((report.len(), report[0]), (REPORT_BYTES, 5));
        response[0] = 0x16;
        assert!(report_of(&response).unwrap_err().contains("0x16"));
        response[0] = 0;
        response[4] = 1;
        assert!(report_of(&response).is_err());
        for length in [0, 3, 7, RESPONSE_HEADER + REPORT_BYTES - 1] {
            let mut cut = vec![0; length];
            if let Some(size) = cut.get_mut(4..8) {
                size.copy_from_slice(&1184u32.to_le_bytes());
            }
            assert!(report_of(&cut).is_err(), "{length}");
        }
    }

    #[test]
    fn the_ioctls_number_and_structure_are_the_kernels() {
        let size = u32::try_from(size_of::<GuestRequest>()).unwrap();
        assert_eq!(GET_REPORT, (3 << 30) | (size << 16) | (u32::from(b'S') << 8));
    }

    #[test]
    fn fields_of_a_real_report() {
        let folder = std::env::var("SEALTUNE_VECTORS").unwrap_or_else(|_| {
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors").to_owned()
        });
        let Ok(report) = std::fs::read(format!("{folder}/snp/test-report.bin")) else {
            println!("skipped: no test vectors in {folder}");
            return;
        };
        assert!(reported_data(&report).is_some());
        assert!(field::<32>(&report, HOST_DATA).is_some());
        assert_eq!(reported_data(&report[1..]), None, "another length is another structure");
    }

    #[tokio::test]
    async fn a_machine_without_the_device_has_no_report() {
        let snp = Snp { reports: "/nowhere/reports".into(), device: "/nowhere/device".into() };
        let error = snp.quote(&[1; 64]).await.unwrap_err();
        assert_eq!(error.code(), "ST-AGENT-67");
        assert_eq!(snp.host_data().await.unwrap_err().code(), "ST-AGENT-66");
    }
}
