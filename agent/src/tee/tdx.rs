//! Intel TDX: quotes by configfs-tsm or, without it, by the host's quote generation service; the launch digest from a
//! TDREPORT; RTMR3 by the kernel's measurement files or, on kernels with patches that came before these, by an ioctl.
//!
//! Written from the kernel's documentation; it has not run on hardware yet.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use sealtune_evidence::{Event, FixedHex, Hex48};
use sealtune_wire::v1::Rtmr3;

use super::configfs::{REPORTS, ReportRequest, blocking};
use super::tdreport::{self, REPORT_BYTES};
use super::{TeeError, qgs};

const DEVICE: &str = "/dev/tdx_guest";
/// Since kernel 6.16.
const RTMR3: &str = "/sys/class/misc/tdx_guest/measurements/rtmr3:sha384";
const PROVIDER: &str = "tdx_guest";
/// `_IOWR('T', 1, struct tdx_report_req)`.
const GET_REPORT: u32 = 0xC440_5401;
/// `_IOR('T', 3, struct { u8 data[48]; u8 index; })`, never in a mainline kernel.
const EXTEND: u32 = 0x8031_5403;

#[derive(Debug, Clone)]
pub(crate) struct Tdx {
    reports: PathBuf,
    device: PathBuf,
    rtmr3: PathBuf,
}

impl Tdx {
    /// Whether the guest has the TDX device. That proves nothing to anybody else: the quote does.
    pub(crate) fn detect() -> Option<Self> {
        Path::new(DEVICE).exists().then(|| Self {
            reports: REPORTS.into(),
            device: DEVICE.into(),
            rtmr3: RTMR3.into(),
        })
    }

    pub(super) async fn mr_config_id(&self) -> Result<Hex48, TeeError> {
        let device = self.device.clone();
        blocking(TeeError::Report, move || {
            let mut report_data = [0; 64];
            getrandom::fill(&mut report_data).map_err(|error| error.to_string())?;
            let report = get_report(&device, &report_data)?;
            let found = tdreport::mr_config_id(&report, &report_data)?;
            Ok(FixedHex(found))
        })
        .await
    }

    pub(super) async fn extend(&self, event: &Event) -> Result<Rtmr3, TeeError> {
        let (path, device) = (self.rtmr3.clone(), self.device.clone());
        let digest = event.digest;
        blocking(TeeError::Extend, move || {
            let mut file = match File::options().write(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return extend_by_ioctl(&device, &digest);
                }
                Err(error) => return Err(error.to_string()),
            };
            // One write of all 48 bytes is one extend; anything else the kernel refuses.
            match file.write(digest.as_bytes()) {
                Ok(48) => Ok(Rtmr3::Available),
                Ok(count) => Err(format!("the kernel took {count} bytes")),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    pub(super) async fn quote(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, TeeError> {
        let (reports, device, report_data) =
            (self.reports.clone(), self.device.clone(), *report_data);
        if reports.is_dir() {
            return blocking(TeeError::Quote, move || {
                ReportRequest::new(&reports)?.report(PROVIDER, &report_data).map(trimmed)
            })
            .await;
        }
        let report = blocking(TeeError::Quote, move || get_report(&device, &report_data)).await?;
        let failed = |error: String| {
            let folder = self.reports.display();
            TeeError::Quote(format!("there is no {folder}, and the host's service: {error}"))
        };
        qgs::quote(&report).await.map(trimmed).map_err(failed)
    }

    /// The ioctl shows itself only when it is tried.
    pub(super) fn can_extend(&self) -> Option<Rtmr3> {
        self.rtmr3.exists().then_some(Rtmr3::Available)
    }
}

/// A quote says its own length; the service may send more, and evidence is named without it.
fn trimmed(mut quote: Vec<u8>) -> Vec<u8> {
    const BODY_END_4: usize = 48 + 584;
    let is_version_4 = quote.first_chunk::<2>() == Some(&[4, 0]);
    if is_version_4
        && let Some(length) = quote.get(BODY_END_4..BODY_END_4 + 4)
        && let Ok(length) = <[u8; 4]>::try_from(length)
    {
        quote.truncate(BODY_END_4 + 4 + u32::from_le_bytes(length) as usize);
    }
    quote
}

/// `struct tdx_extend_rtmr_req` of the patches.
#[repr(C)]
struct ExtendRequest {
    data: [u8; 48],
    index: u8,
}

/// A kernel without these patches knows no such command.
#[expect(unsafe_code, reason = "the driver's only other interface is an ioctl")]
fn extend_by_ioctl(device: &Path, digest: &Hex48) -> Result<Rtmr3, String> {
    let file = match File::open(device) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Rtmr3::Unavailable);
        }
        Err(error) => return Err(error.to_string()),
    };
    let request = ExtendRequest { data: digest.0, index: 3 };
    // SAFETY: the command reads the 49 bytes of the structure, which lives until the call returns; the descriptor is open.
    let result = unsafe {
        libc::ioctl(file.as_raw_fd(), EXTEND as libc::Ioctl, std::ptr::from_ref(&request))
    };
    match Errno::result(result) {
        Ok(_) => Ok(Rtmr3::Available),
        Err(Errno::ENOTTY) => Ok(Rtmr3::Unavailable),
        Err(errno) => Err(errno.to_string()),
    }
}

#[expect(unsafe_code, reason = "the driver's only interface is an ioctl")]
fn get_report(device: &Path, report_data: &[u8; 64]) -> Result<[u8; REPORT_BYTES], String> {
    let file = File::open(device).map_err(|error| error.to_string())?;
    let mut request = [0u8; 64 + REPORT_BYTES];
    let (input, _) = request.split_at_mut(64);
    input.copy_from_slice(report_data);
    // SAFETY: the command reads 64 and writes 1024 bytes of the buffer, whose 1088 bytes live until the call returns;
    // the descriptor is open.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), GET_REPORT as libc::Ioctl, request.as_mut_ptr()) };
    Errno::result(result).map_err(|errno| errno.to_string())?;
    let (_, report) = request.split_at(64);
    report.try_into().map_err(|_| "the report is cut".to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_quote_is_cut_to_the_length_it_says() {
        let mut quote = vec![0; 48 + 584 + 4 + 10 + 7];
        quote[0] = 4;
        quote[632] = 10;
        assert_eq!(trimmed(quote.clone()).len(), 48 + 584 + 4 + 10);
        quote[632] = 200;
        assert_eq!(trimmed(quote.clone()).len(), quote.len());
        assert_eq!(trimmed(vec![4, 0]).len(), 2);
    }

    #[test]
    fn the_ioctls_number_and_structure_are_those_of_the_patches() {
        let size = u32::try_from(size_of::<ExtendRequest>()).unwrap();
        assert_eq!(EXTEND, (2 << 30) | (size << 16) | (u32::from(b'T') << 8) | 3);
    }

    /// A plain file takes no command, like the device of a mainline kernel.
    #[tokio::test]
    async fn without_either_interface_the_register_is_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("tdx_guest");
        fs::write(&device, "").unwrap();
        let tdx = Tdx { reports: "/x".into(), device, rtmr3: "/x".into() };
        let event = Event::new(3, "job-start", vec![1]);
        assert_eq!(tdx.extend(&event).await.unwrap(), Rtmr3::Unavailable);
        assert_eq!(tdx.can_extend(), None);
        let error = tdx.quote(&[1; 64]).await.unwrap_err();
        assert_eq!(error.code(), "ST-AGENT-67", "no report, so the service is not asked");
    }

    #[tokio::test]
    async fn a_kernel_without_the_register_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let rtmr3 = folder.path().join("rtmr3:sha384");
        let tdx = Tdx { reports: "/x".into(), device: "/x".into(), rtmr3: rtmr3.clone() };
        let event = Event::new(3, "job-start", vec![1]);
        assert_eq!(tdx.extend(&event).await.unwrap(), Rtmr3::Unavailable);
        fs::write(&rtmr3, "").unwrap();
        assert_eq!(tdx.extend(&event).await.unwrap(), Rtmr3::Available);
        assert_eq!(fs::read(&rtmr3).unwrap(), event.digest.0);
    }
}
