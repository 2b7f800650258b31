//! A dstack VM as the simulated TEE sees it: the log of its boot, of generation 0.5, and what was written behind that.

use serde_json::{Value, json};

use super::{QuoteRequest, SimulatedError, SimulatedPlatform};
use crate::{
    base64_bytes::Base64Bytes,
    bundle::{EvidenceBundle, ImageIdentity, Tee},
    claims::{Claims, report_data},
    event_log::EventLog,
    fixed_hex::{FixedHex, Hex48},
    launch::{LaunchConfiguration, Shape},
    layout1::BootRegisters,
    logs::{DigestVersion, DstackLog, RUNTIME_EVENT_TYPE, payload::sha384},
    reference::{FileDigests, ImageFacts, Profile, ReferenceError, ReferenceValues, RegisterRow},
};

const MRTD: Hex48 = FixedHex([0xd7; 48]);
const RELEASE: &str = "dstack-0.5.5";

/// What a test changes; the default of every part is a good VM's.
#[derive(Debug, Clone)]
pub struct SimulatedDstack {
    pub version: DigestVersion,
    pub compose: [u8; 32],
    pub os_image: Option<[u8; 32]>,
    pub mr_config_id: Hex48,
    /// Among the boot's events, where none belongs.
    pub early: Option<(&'static str, Vec<u8>)>,
    /// Behind the boot.
    pub events: Vec<(&'static str, Vec<u8>)>,
}

impl SimulatedDstack {
    pub const COMPOSE: [u8; 32] = [0xc0; 32];
    pub const OS_IMAGE: [u8; 32] = [0x05; 32];

    pub fn new(events: Vec<(&'static str, Vec<u8>)>) -> Self {
        Self {
            version: DigestVersion::V1,
            compose: Self::COMPOSE,
            os_image: Some(Self::OS_IMAGE),
            mr_config_id: Hex48::ZERO,
            early: None,
            events,
        }
    }

    /// As its guest agent answers it.
    pub fn log(&self) -> Vec<u8> {
        let firmware = |imr: u32, kind: u32, digest: String, payload: &str| json!({"imr": imr, "event_type": kind, "digest": digest, "event": "", "event_payload": payload});
        let separator = |imr| firmware(imr, 4, sha384(&[0; 4]).to_string(), "00000000");
        let kernel = firmware(2, 6, hex::encode([2; 48]), "");
        let (compose, os_image) = (self.compose.to_vec(), self.os_image.map(|it| it.to_vec()));
        let none = r#"{"name":"none","id":""}"#.as_bytes().to_vec();
        let app_id = self.compose.iter().take(20).copied().collect();
        let named = [("system-preparing", vec![]), ("app-id", app_id), ("compose-hash", compose)]
            .into_iter()
            .chain(self.early.clone())
            .chain([("instance-id", vec![]), ("boot-mr-done", vec![])])
            .chain(os_image.map(|digest| ("os-image-hash", digest)))
            .chain([("key-provider", none), ("system-ready", vec![])])
            .chain(self.events.iter().cloned());
        let mut log = vec![separator(0), separator(1), kernel];
        log.extend(named.map(|(name, payload)| self.event(name, &payload)));
        Value::from(log).to_string().into_bytes()
    }

    fn event(&self, name: &str, payload: &[u8]) -> Value {
        let preimage = self.version.preimage(name, payload).unwrap_or_default();
        let mut event = json!({
            "imr": 3, "event_type": RUNTIME_EVENT_TYPE, "event": name,
            "digest": sha384(&preimage).to_string(), "event_payload": hex::encode(payload),
        });
        if self.version == DigestVersion::V2
            && let Some(fields) = event.as_object_mut()
        {
            fields.insert("version".to_owned(), json!(2));
            fields.insert("preimage".to_owned(), json!(hex::encode(preimage)));
        }
        event
    }

    /// Where its log leads; nowhere, if it does not read.
    pub fn registers(&self) -> [Hex48; 4] {
        DstackLog::parse(&self.log()).map_or([Hex48::ZERO; 4], |log| log.replay())
    }

    /// What a verifier knows of its boot.
    pub fn references(&self, shape: Shape) -> Result<ReferenceValues, ReferenceError> {
        let [rtmr0, rtmr1, rtmr2, _] = self.registers();
        let registers = BootRegisters { mrtd: MRTD, rtmr0, rtmr1, rtmr2 };
        let row = RegisterRow::recorded(FixedHex([7; 48]), shape, &registers);
        let facts = ImageFacts {
            release: RELEASE.to_owned(),
            profile: Profile::Prod,
            cmdline: String::new(),
            kernel: FileDigests::of(b"kernel"),
            initramfs: FileDigests::of(b"initramfs"),
            layers: vec![],
        };
        ReferenceValues::from_rows(facts, vec![row], vec![])
    }

    /// A whole bundle over `claims`, with collateral of `now`.
    pub fn evidence(
        &self,
        platform: &SimulatedPlatform,
        launch: &LaunchConfiguration,
        claims: &Claims,
        now: u64,
    ) -> Result<EvidenceBundle, SimulatedError> {
        let claims = claims.canonical_bytes().map_err(SimulatedError::Claims)?;
        let request = QuoteRequest {
            mrtd: MRTD,
            rtmr: self.registers(),
            mr_config_id: self.mr_config_id,
            report_data: report_data(&claims),
        };
        Ok(EvidenceBundle {
            version: 1,
            tee: Tee::Dstack,
            quote: Base64Bytes(platform.quote(&request)?),
            event_log: EventLog::default(),
            dstack_log: Some(Base64Bytes(self.log())),
            launch: Base64Bytes(launch.canonical_bytes().map_err(SimulatedError::Launch)?),
            claims: Base64Bytes(claims),
            image: ImageIdentity { name: "dstack".to_owned(), version: "0.5.5".to_owned() },
            gpu: vec![],
            ccel: None,
            collateral: Some(platform.collateral(now)?),
            snp_collateral: None,
            gpu_collateral: None,
        })
    }
}
