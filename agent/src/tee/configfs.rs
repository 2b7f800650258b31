//! configfs-tsm, the kernel's interface to reports of every TEE (Documentation/ABI/testing/configfs-tsm-report).
//!
//! It hands the report data to the driver when the file is closed and drops the driver's error: only the generation counter,
//! one higher after our write and unchanged after the reading, shows that a report is ours.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::TeeError;

pub(super) const REPORTS: &str = "/sys/kernel/config/tsm/report";
const MAX_REPORT_BYTES: u64 = 128 * 1024;
const MAX_ATTRIBUTE_BYTES: u64 = 256;

/// Runs what may wait for the host beside the tasks.
pub(super) async fn blocking<T: Send + 'static>(
    failed: fn(String) -> TeeError,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, TeeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(failed),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// One folder of configfs-tsm, with a name that nobody can guess; removed when it goes.
#[derive(Debug)]
pub(super) struct ReportRequest {
    folder: PathBuf,
}

impl ReportRequest {
    pub(super) fn new(reports: &Path) -> Result<Self, String> {
        let mut name = [0; 16];
        getrandom::fill(&mut name).map_err(|error| error.to_string())?;
        let folder = reports.join(format!("sealtune-{}", hex::encode(name)));
        fs::create_dir(&folder).map_err(|error| error.to_string())?;
        Ok(Self { folder })
    }

    /// What this provider's driver makes of the report data.
    pub(super) fn report(&self, wanted: &str, report_data: &[u8; 64]) -> Result<Vec<u8>, String> {
        let provider = self.attribute("provider")?;
        if provider != wanted {
            return Err(format!("reports are made by {provider}"));
        }
        let before = self.generation()?;
        self.write(report_data)?;
        let written = self.generation()?;
        let report = self.read("outblob", MAX_REPORT_BYTES)?;
        let after = self.generation()?;
        check_generations(before, written, after)?;
        Ok(report)
    }

    fn write(&self, report_data: &[u8; 64]) -> Result<(), String> {
        File::options()
            .write(true)
            .open(self.folder.join("inblob"))
            .and_then(|mut file| file.write_all(report_data))
            .map_err(|error| format!("inblob: {error}"))
    }

    fn generation(&self) -> Result<u64, String> {
        self.attribute("generation")?.parse().map_err(|_| "generation is no number".to_owned())
    }

    fn attribute(&self, name: &str) -> Result<String, String> {
        let bytes = self.read(name, MAX_ATTRIBUTE_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{name} is no text"))?;
        Ok(text.trim().to_owned())
    }

    fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        File::open(self.folder.join(name))
            .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
            .map_err(|error| format!("{name}: {error}"))?;
        if bytes.len() as u64 > limit {
            return Err(format!("{name} is longer than {limit} bytes"));
        }
        Ok(bytes)
    }
}

impl Drop for ReportRequest {
    fn drop(&mut self) {
        // What is left when this fails is an empty request object, gone with the VM.
        let _ = fs::remove_dir(&self.folder);
    }
}

fn check_generations(before: u64, written: u64, after: u64) -> Result<(), String> {
    if before.checked_add(1) != Some(written) {
        return Err("the driver did not take the report data, or somebody else wrote too".into());
    }
    if written != after {
        return Err("somebody else wrote while the report was read".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_write_makes_a_quote_ours() {
        assert!(check_generations(4, 5, 5).is_ok());
        for (before, written, after) in [(4, 4, 4), (4, 6, 6), (4, 5, 6), (u64::MAX, 0, 0)] {
            assert!(check_generations(before, written, after).is_err());
        }
    }

    /// Plain files stand in for configfs, so the counter does not move: the quote is refused.
    #[test]
    fn a_driver_that_drops_the_report_data_is_noticed() {
        let reports = tempfile::tempdir().unwrap();
        let request = ReportRequest::new(reports.path()).unwrap();
        fs::write(request.folder.join("provider"), "tdx_guest\n").unwrap();
        fs::write(request.folder.join("generation"), "3\n").unwrap();
        fs::write(request.folder.join("inblob"), "").unwrap();
        fs::write(request.folder.join("outblob"), [4, 0]).unwrap();
        let error = request.report("tdx_guest", &[1; 64]).unwrap_err();
        assert!(error.contains("did not take"), "{error}");
        assert_eq!(fs::read(request.folder.join("inblob")).unwrap(), [1; 64]);
        fs::write(request.folder.join("provider"), "sev_guest\n").unwrap();
        assert!(request.report("tdx_guest", &[1; 64]).unwrap_err().contains("sev_guest"));
    }
}
