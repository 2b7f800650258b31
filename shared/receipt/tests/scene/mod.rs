//! A simulated VM that takes one job from offer to receipt.
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

use std::collections::BTreeMap;

use ring::{
    digest,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use sealtune_content::ContentId;
use sealtune_evidence::{
    BootFiles, Claims, ClaimsBuilder, EvidenceBundle, FileDigests, FixedHex, Hex16, Hex32,
    HexBytes, HpkeClaim, HpkeSuite, ImageFacts, ImageIdentity, JobBinding, LaunchConfiguration,
    Profile, ReferenceValues, Role, Shape, VmMode, layout1,
    simulated::{SimulatedPlatform, SimulatedVm},
};
use sealtune_job::{FailReason, TrainingExit};
use sealtune_receipt::{
    AgentIdentity, Durations, Envelope, PackageEvidence, Predicate, ReceiptOutcome, ReceiptPackage,
    Statement, StreamEnd, Streams, payload_digest, statement,
};
use sealtune_seal::{Secret, commitment::commit};

pub(crate) const NOW: u64 = 1_795_333_794;
pub(crate) const JOB: Hex16 = FixedHex([0x33; 16]);
pub(crate) const OWNER_NONCE: Hex32 = FixedHex([0x11; 32]);
pub(crate) const OFFER_NONCE: Hex32 = FixedHex([0x12; 32]);
pub(crate) const SPEC: Hex32 = FixedHex([0x22; 32]);
pub(crate) const RESULT: &[u8] = b"the ciphertext of a result";
pub(crate) const DATASET: &[u8] = b"sha256:00:1";

/// One boot of one VM.
pub(crate) struct Boot {
    pub(crate) platform: SimulatedPlatform,
    pub(crate) vm: SimulatedVm,
    pub(crate) builder: ClaimsBuilder,
    pub(crate) key: Ed25519KeyPair,
    pub(crate) launch: LaunchConfiguration,
}

pub(crate) fn commitment_key() -> Secret<[u8; 32]> {
    Secret::new([0x77; 32])
}

fn files() -> BootFiles {
    BootFiles {
        firmware: layout1::file_digest(b"firmware"),
        kernel: layout1::file_digest(b"kernel"),
        initramfs: layout1::file_digest(b"initramfs"),
        cmdline: "sealtune.profile=dev".into(),
    }
}

const SHAPE: Shape = Shape { vcpus: 2, memory_mib: 2048 };

pub(crate) fn references() -> ReferenceValues {
    let image = ImageFacts {
        release: "0.1.0".into(),
        profile: Profile::Dev,
        cmdline: files().cmdline,
        kernel: FileDigests::of(b"kernel"),
        initramfs: FileDigests::of(b"initramfs"),
        layers: vec![],
    };
    ReferenceValues::from_image(image, &[files().firmware], &[SHAPE]).expect("reference values")
}

impl Boot {
    /// `instance` stands for everything that is random in a boot.
    pub(crate) fn new(instance: u8) -> Self {
        Self::with_gpus(instance, &[])
    }

    pub(crate) fn with_gpus(instance: u8, gpus: &[&str]) -> Self {
        let launch = LaunchConfiguration {
            version: 1,
            release: "0.1.0".into(),
            role: Role::Worker,
            vm_mode: VmMode::PerJob,
            shape: SHAPE,
            gpus: gpus.iter().map(|gpu| (*gpu).to_owned()).collect(),
            layers: vec![],
            devices: vec![],
            settlement: None,
            token_hash: FixedHex([9; 32]),
        };
        let kept = SimulatedPlatform::create(&Secret::new([1; 32]), NOW).expect("platform");
        let mut vm = SimulatedVm::start(&files(), &launch).expect("starts");
        let digest = launch.digest().expect("valid");
        vm.extend("sealtune-launch", digest.0.0.to_vec()).expect("extends");
        let key = Ed25519KeyPair::from_seed_unchecked(&[instance; 32]).expect("a key");
        let public: [u8; 32] = key.public_key().as_ref().try_into().expect("32 bytes");
        let builder = ClaimsBuilder::new(
            FixedHex([instance; 32]),
            Role::Worker,
            VmMode::PerJob,
            FixedHex(public),
            HpkeClaim { suite: HpkeSuite::X25519, key: HexBytes(vec![instance; 32]) },
            digest,
        );
        let platform = SimulatedPlatform::load(&kept).expect("loads");
        Self { platform, vm, builder, key, launch }
    }

    pub(crate) fn evidence(&self, claims: &Claims) -> EvidenceBundle {
        let image = ImageIdentity { name: "sealtune".into(), version: "0.1.0".into() };
        self.vm.evidence(&self.platform, claims, image, NOW).expect("evidence")
    }

    pub(crate) fn binding() -> JobBinding {
        JobBinding { job: JOB, attempt: 1, spec: SPEC }
    }

    pub(crate) fn offer(&self) -> EvidenceBundle {
        self.evidence(&self.builder.offer(OFFER_NONCE, Some((JOB, 1))).expect("claims"))
    }

    pub(crate) fn start(&mut self, offer: &EvidenceBundle) -> EvidenceBundle {
        self.vm.extend("job-start", SPEC.0.to_vec()).expect("extends");
        let claims = self.builder.start(OWNER_NONCE, Self::binding(), offer.digest());
        self.evidence(&claims.expect("claims"))
    }

    pub(crate) fn receipt(&self, start: &EvidenceBundle, payload: &[u8]) -> EvidenceBundle {
        let claims = self.builder.receipt(
            OWNER_NONCE,
            Self::binding(),
            start.digest(),
            payload_digest(payload),
        );
        self.evidence(&claims.expect("claims"))
    }

    pub(crate) fn predicate(&self, start: &EvidenceBundle) -> Predicate {
        let commitments = BTreeMap::from([(
            "dataset".to_owned(),
            FixedHex(commit(&commitment_key(), "dataset", DATASET)),
        )]);
        Predicate {
            version: 1,
            job: JOB,
            attempt: 1,
            spec: SPEC,
            outcome: ReceiptOutcome::Completed { result: result_id() },
            exit: Some(TrainingExit::Code(0)),
            image: statement::ImageIdentity::Verity(FixedHex([5; 32])),
            agent: AgentIdentity { version: "0.1.0".into(), release: "0.1.0".into() },
            launch: self.launch.digest().expect("valid").0,
            durations_ms: Durations { fetch: 1, prepare: 2, start: 3, train: 4, seal: 5 },
            streams: Streams {
                log: StreamEnd { count: 2, last: FixedHex([6; 32]) },
                metric: StreamEnd::default(),
            },
            commitments,
            previous: start.digest(),
            gpu: vec![],
        }
    }

    /// Signs whatever statement is given, as this boot's agent would.
    pub(crate) fn package(
        &self,
        offer: Option<EvidenceBundle>,
        start: EvidenceBundle,
        statement: &Statement,
    ) -> ReceiptPackage {
        let payload = statement.to_payload().expect("writes");
        let receipt = self.receipt(&start, &payload);
        let envelope = Envelope::sign(payload, &self.key);
        ReceiptPackage::new(envelope, PackageEvidence { offer, start, receipt })
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Hex32 {
    let digest = digest::digest(&digest::SHA256, bytes);
    FixedHex(digest.as_ref().try_into().expect("32 bytes"))
}

pub(crate) fn result_id() -> ContentId {
    format!("sha256:{}:{}", sha256(RESULT), RESULT.len()).parse().expect("a content id")
}

pub(crate) fn completed(boot: &Boot, start: &EvidenceBundle) -> Statement {
    Statement::completed(sha256(RESULT), None, boot.predicate(start)).expect("a statement")
}

/// A whole job in one VM.
pub(crate) fn job() -> (Boot, ReceiptPackage) {
    let mut boot = Boot::new(1);
    let offer = boot.offer();
    let start = boot.start(&offer);
    let statement = completed(&boot, &start);
    let package = boot.package(Some(offer), start, &statement);
    (boot, package)
}

pub(crate) fn failed_job() -> ReceiptPackage {
    let mut boot = Boot::new(1);
    let offer = boot.offer();
    let start = boot.start(&offer);
    let mut predicate = boot.predicate(&start);
    predicate.exit = Some(TrainingExit::Code(1));
    predicate.outcome =
        ReceiptOutcome::Failed { reason: FailReason::Guest { code: "ST-AGNT-01".into() } };
    let statement = Statement::failed(predicate).expect("a statement");
    boot.package(Some(offer), start, &statement)
}
