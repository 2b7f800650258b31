//! A VM as the simulated TEE sees it: what it was started from, and register 3 as its agent extends it.
//!
//! ```text
//! Measured -- extend --> Measured -- quote --> (unchanged)
//! ```

use super::{QuoteRequest, SimulatedError, SimulatedPlatform};
use crate::{
    base64_bytes::Base64Bytes,
    bundle::{EvidenceBundle, ImageIdentity, Tee},
    claims::{Claims, report_data},
    event_log::{Event, EventLog, MAX_EVENTS, RUNTIME_REGISTER},
    fixed_hex::Hex48,
    launch::{LaunchConfiguration, LaunchDigest},
    layout1::{self, BootFiles, BootRegisters},
};

/// Registers and log of one boot of one VM.
#[derive(Debug, Clone)]
pub struct SimulatedVm {
    boot: BootRegisters,
    log: EventLog,
    launch_bytes: Vec<u8>,
    mr_config_id: Hex48,
}

impl SimulatedVm {
    /// Measures a VM that is about to be started.
    pub fn start(files: &BootFiles, launch: &LaunchConfiguration) -> Result<Self, SimulatedError> {
        let launch_bytes = launch.canonical_bytes().map_err(SimulatedError::Launch)?;
        let measurement =
            layout1::measure(files, launch.shape).map_err(SimulatedError::Canonical)?;
        let mr_config_id = LaunchDigest::of(&launch_bytes).mr_config_id();
        Ok(Self { boot: measurement.registers, log: measurement.log, launch_bytes, mr_config_id })
    }

    /// What the guest's own report shows, for its launch check.
    pub fn mr_config_id(&self) -> Hex48 {
        self.mr_config_id
    }

    pub fn launch_bytes(&self) -> &[u8] {
        &self.launch_bytes
    }

    pub fn event_log(&self) -> &EventLog {
        &self.log
    }

    /// Extends register 3, the only one that is open to the guest.
    pub fn extend(&mut self, name: &str, payload: Vec<u8>) -> Result<(), SimulatedError> {
        if self.log.events.len() >= MAX_EVENTS {
            return Err(SimulatedError::LogFull);
        }
        let mut log = self.log.clone();
        log.push(Event::new(3, name, payload));
        log.check_events().map_err(SimulatedError::Event)?;
        self.log = log;
        Ok(())
    }

    pub fn registers(&self) -> [Hex48; 4] {
        self.log.replay()
    }

    pub fn quote(
        &self,
        platform: &SimulatedPlatform,
        report_data: [u8; 64],
    ) -> Result<Vec<u8>, SimulatedError> {
        platform.quote(&self.request(report_data))
    }

    /// The measurements to put into a quote.
    pub fn request(&self, report_data: [u8; 64]) -> QuoteRequest {
        let mut rtmr = [self.boot.rtmr0, self.boot.rtmr1, self.boot.rtmr2, Hex48::ZERO];
        rtmr[RUNTIME_REGISTER] = self.registers()[RUNTIME_REGISTER];
        QuoteRequest { mrtd: self.boot.mrtd, rtmr, mr_config_id: self.mr_config_id, report_data }
    }

    /// A whole bundle over `claims`, with collateral of `now`.
    pub fn evidence(
        &self,
        platform: &SimulatedPlatform,
        claims: &Claims,
        image: ImageIdentity,
        now: u64,
    ) -> Result<EvidenceBundle, SimulatedError> {
        let claims_bytes = claims.canonical_bytes().map_err(SimulatedError::Claims)?;
        let quote = self.quote(platform, report_data(&claims_bytes))?;
        Ok(EvidenceBundle {
            version: 1,
            tee: Tee::Tdx,
            quote: Base64Bytes(quote),
            event_log: self.log.clone(),
            dstack_log: None,
            launch: Base64Bytes(self.launch_bytes.clone()),
            claims: Base64Bytes(claims_bytes),
            image,
            gpu: vec![],
            ccel: None,
            collateral: Some(platform.collateral(now)?),
            snp_collateral: None,
            gpu_collateral: None,
        })
    }
}
