//! A double of the agent in its VM: makes offers, opens releases, "trains", signs receipts. One a boot.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealtune_content::{ContentId, Scheme, identify};
use sealtune_evidence::{
    BootFiles, ClaimsBuilder, EvidenceBundle, FileDigests, Hex32, Hex48, HexBytes, HpkeClaim,
    HpkeSuite, ImageFacts, ImageIdentity, JobBinding, LaunchConfiguration, LaunchDigest, Layer,
    Profile, ReferenceValues, Role, Shape, VmMode,
    launch::HashAlgorithm,
    layout1,
    simulated::{SimulatedPlatform, SimulatedVm},
};
use sealtune_job::{Hex, JobSpecification, TrainingExit};
use sealtune_receipt::{
    AgentIdentity, Durations, Envelope, PackageEvidence, Predicate, ReceiptOutcome, ReceiptPackage,
    Statement, StreamEnd, Streams,
};
use sealtune_seal::{
    RecipientKey, RecipientKeyPair, Secret, SigningPublicKey, Suite,
    commitment::commit,
    envelope::wrap_object_key,
    frames::{FrameKind, FrameSealer},
    release::{open_release, specification_digest, verify_specification},
    result_object::ResultSealer,
    stream::{ObjectKind, Opener},
};

use crate::{api::types::FrameView, client::now};

pub(crate) const IMAGE: [u8; 32] = [0x44; 32];
const SHAPE: Shape = Shape { vcpus: 2, memory_mib: 1024 };

/// What one attempt left with its host.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) envelope: String,
    pub(crate) log: Vec<FrameView>,
    pub(crate) metrics: Vec<FrameView>,
    pub(crate) result: Vec<u8>,
    pub(crate) ids: [ContentId; 2],
    pub(crate) receipt: Vec<u8>,
}

pub(crate) struct Agent {
    platform: SimulatedPlatform,
    vm: SimulatedVm,
    claims: ClaimsBuilder,
    hpke: RecipientKeyPair,
    receipt_key: Ed25519KeyPair,
    launch: LaunchDigest,
    offer: Option<EvidenceBundle>,
}

fn boot_files() -> BootFiles {
    BootFiles {
        firmware: layout1::file_digest(b"firmware"),
        kernel: layout1::file_digest(b"kernel"),
        initramfs: layout1::file_digest(b"initramfs"),
        cmdline: "sealtune.profile=dev".into(),
    }
}

/// What the customer trusts.
pub(crate) fn reference_values() -> ReferenceValues {
    let files = boot_files();
    let facts = ImageFacts {
        release: "0.1.0".into(),
        profile: Profile::Dev,
        cmdline: files.cmdline,
        kernel: FileDigests::of(b"kernel"),
        initramfs: FileDigests::of(b"initramfs"),
        layers: vec![],
    };
    let firmware: Hex48 = files.firmware;
    ReferenceValues::from_image(facts, &[firmware], &[SHAPE]).expect("reference values")
}

fn image_identity() -> ImageIdentity {
    ImageIdentity { name: "sealtune-dev".into(), version: "0.1.0".into() }
}

impl Agent {
    pub(crate) fn boot(platform: SimulatedPlatform) -> Self {
        let layer = Layer {
            name: "training".into(),
            root: IMAGE.into(),
            data_blocks: 8,
            hash_offset: 8 * 4096,
            data_block_size: 4096,
            hash_block_size: 4096,
            hash_algorithm: HashAlgorithm::Sha256,
            salt: HexBytes(vec![1; 32]),
        };
        let configuration = LaunchConfiguration {
            version: 1,
            release: "0.1.0".into(),
            role: Role::Worker,
            vm_mode: VmMode::PerJob,
            shape: SHAPE,
            gpus: vec![],
            layers: vec![layer],
            devices: vec![],
            settlement: None,
            token_hash: [7; 32].into(),
        };
        let mut vm = SimulatedVm::start(&boot_files(), &configuration).expect("vm");
        let launch = configuration.digest().expect("digest");
        vm.extend("sealtune-launch", launch.0.0.to_vec()).expect("launch event");
        let hpke = RecipientKeyPair::generate(Suite::XWing).expect("hpke key");
        let receipt_key =
            Ed25519KeyPair::from_seed_unchecked(Secret::random().expect("seed").expose())
                .expect("receipt key");
        let mut public = [0; 32];
        public.copy_from_slice(receipt_key.public_key().as_ref());
        let instance: Hex32 = (*Secret::random().expect("instance").expose()).into();
        let claim =
            HpkeClaim { suite: HpkeSuite::XWing, key: HexBytes(hpke.public().as_bytes().to_vec()) };
        let claims = ClaimsBuilder::new(
            instance,
            Role::Worker,
            VmMode::PerJob,
            public.into(),
            claim,
            launch,
        );
        Self { platform, vm, claims, hpke, receipt_key, launch, offer: None }
    }

    pub(crate) fn offer(&mut self, nonce: Hex<32>) -> Vec<u8> {
        let claims = self.claims.offer(nonce.0.into(), None).expect("claims");
        let bundle =
            self.vm.evidence(&self.platform, &claims, image_identity(), now()).expect("offer");
        let bytes = bundle.to_bytes().expect("bytes");
        self.offer = Some(bundle);
        bytes
    }

    /// Opens a release that answers the last offer, as the real one does.
    pub(crate) fn open(
        &self,
        sealed: &sealtune_wire::v1::SealedRelease,
    ) -> (JobSpecification, [u8; 32]) {
        let value = serde_json::to_value(sealed).expect("json");
        let sealed = serde_json::from_value(value).expect("sealed release");
        let offer = self.offer.as_ref().expect("an offer").digest().0;
        let opened = open_release(&sealed, &offer, &self.hpke).expect("opens");
        let bytes = opened.spec_bytes.expose();
        let specification = JobSpecification::parse(bytes).expect("specification");
        let owner = SigningPublicKey::new(specification.terms.owner.0).expect("owner");
        verify_specification(&owner, bytes, &opened.signature).expect("signature");
        assert_eq!(specification.terms.offer, Some(Hex(offer)));
        assert_eq!(specification.terms.image.verity_root, Hex(IMAGE));
        (specification, specification_digest(bytes))
    }

    /// Runs the job in no time: the dataset must open and be what it should be.
    pub(crate) fn run(
        &mut self,
        specification: &JobSpecification,
        digest: [u8; 32],
        dataset: &[u8],
    ) -> Delivered {
        let terms = &specification.terms;
        let mut opener =
            Opener::new(&specification.data_key, ObjectKind::Dataset, terms.job.as_bytes());
        let mut plain = Vec::new();
        opener.push(dataset, &mut plain).and_then(|()| opener.finish(&mut plain)).expect("dataset");
        assert_eq!(identify(plain.as_slice(), Scheme::Sha256).expect("id"), terms.dataset.id);

        let object_key = Secret::random().expect("object key");
        let suite: Suite = terms.recipient.suite.parse().expect("suite");
        let recipient = RecipientKey::from_hex(suite, &terms.recipient.key).expect("recipient");
        let envelope = wrap_object_key(&recipient, &digest, &object_key).expect("envelope");
        let frames = |kind, lines: &[&str]| {
            let mut sealer = FrameSealer::new(&object_key, kind, &digest).expect("sealer");
            let sealed: Vec<FrameView> = (0..)
                .zip(lines)
                .map(|(number, line)| {
                    let frame = STANDARD.encode(sealer.seal(line.as_bytes()).expect("frame"));
                    FrameView { number, frame }
                })
                .collect();
            let chain = sealer.chain();
            (sealed, StreamEnd { count: chain.count, last: chain.digest.into() })
        };
        let (log, log_end) = frames(FrameKind::Log, &["epoch 1\n", "", "epoch 2\n"]);
        let (metrics, metric_end) = frames(FrameKind::Metric, &["{\"loss\":1.5}\n", ""]);

        let zip = crate::client::fetch::tests::zip_of_output();
        let (mut sealer, mut result) =
            ResultSealer::new(&envelope, &object_key, &digest).expect("sealer");
        sealer.push(&zip, &mut result).expect("seal");
        sealer.finish(&mut result).expect("finish");
        let sha256 = identify(result.as_slice(), Scheme::Sha256).expect("id");
        let root = identify(result.as_slice(), Scheme::Zg).expect("root");

        let binding = JobBinding {
            job: (*terms.job.as_bytes()).into(),
            attempt: terms.attempt,
            spec: digest.into(),
        };
        let offer = self.offer.clone().expect("offer");
        self.vm.extend("job-start", digest.to_vec()).expect("job-start");
        let nonce: Hex32 = terms.nonce.0.into();
        let start = self.claims.start(nonce, binding, offer.digest()).expect("claims");
        let start = self.evidence(&start);
        let commitments = BTreeMap::from([
            self.commitment(specification, "dataset", terms.dataset.id.to_string().as_bytes()),
            self.commitment(specification, "parameters", terms.parameters.as_bytes()),
            self.commitment(specification, "metrics", b"{}"),
        ]);
        let predicate = Predicate {
            version: 1,
            job: binding.job,
            attempt: terms.attempt,
            spec: binding.spec,
            outcome: ReceiptOutcome::Completed { result: root },
            exit: Some(TrainingExit::Code(0)),
            image: sealtune_receipt::ImageIdentity::Verity(IMAGE.into()),
            agent: AgentIdentity { version: "0.1.0".into(), release: "0.1.0".into() },
            launch: self.launch.0,
            durations_ms: Durations::default(),
            streams: Streams { log: log_end, metric: metric_end },
            commitments,
            previous: start.digest(),
            gpu: vec![],
        };
        let zg_root = Some((*root.hash()).into());
        let statement = Statement::completed((*sha256.hash()).into(), zg_root, predicate);
        let payload = statement.expect("statement").to_payload().expect("payload");
        let signed = Envelope::sign(payload, &self.receipt_key);
        let end = self
            .claims
            .receipt(nonce, binding, start.digest(), signed.payload_digest())
            .expect("claims");
        let receipt = self.evidence(&end);
        let evidence = PackageEvidence { offer: Some(offer), start, receipt };
        let package = ReceiptPackage::new(signed, evidence).to_bytes().expect("package");
        Delivered {
            envelope: STANDARD.encode(envelope.to_bytes()),
            log,
            metrics,
            result,
            ids: [sha256, root],
            receipt: package,
        }
    }

    fn commitment(&self, job: &JobSpecification, name: &str, value: &[u8]) -> (String, Hex32) {
        (name.to_owned(), commit(&job.commitment_key, name, value).into())
    }

    fn evidence(&self, claims: &sealtune_evidence::Claims) -> EvidenceBundle {
        self.vm.evidence(&self.platform, claims, image_identity(), now()).expect("evidence")
    }
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").finish_non_exhaustive()
    }
}
