//! One simulated platform, one VM, and evidence of each purpose.

use sealtune_seal::Secret;

use crate::{
    Anchors, Appraisal, Claims, ClaimsBuilder, Context, EvidenceBundle, Expectation, FixedHex,
    Hex32, HexBytes, HpkeClaim, HpkeSuite, ImageIdentity, JobBinding, JudgeTime,
    LaunchConfiguration, Policy, Profile, Purpose, ReferenceValues, appraise,
    base64_bytes::Base64Bytes,
    claims::report_data,
    event_log::Event,
    launch, layout1, reference,
    simulated::{Oddities, SimulatedPlatform, SimulatedVm},
};

pub(crate) const NOW: u64 = 1_795_333_794;
pub(crate) const NONCE: Hex32 = FixedHex([0x11; 32]);
pub(crate) const SPEC: Hex32 = FixedHex([0x22; 32]);
pub(crate) const JOB: crate::Hex16 = FixedHex([0x33; 16]);
pub(crate) const OFFER: Hex32 = FixedHex([0x44; 32]);
pub(crate) const PAYLOAD: Hex32 = FixedHex([0x55; 32]);

pub(crate) struct Scene {
    pub(crate) platform: SimulatedPlatform,
    pub(crate) launch: LaunchConfiguration,
    pub(crate) vm: SimulatedVm,
    pub(crate) instance: Hex32,
    pub(crate) references: Vec<ReferenceValues>,
    pub(crate) policy: Policy,
    pub(crate) anchors: Anchors,
    pub(crate) time: JudgeTime,
}

pub(crate) fn platform(seed: u8) -> SimulatedPlatform {
    let files = SimulatedPlatform::create(&Secret::new([seed; 32]), NOW).expect("creates");
    SimulatedPlatform::load(&files).expect("loads")
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut LaunchConfiguration)) -> Self {
        let mut launch = launch::tests::example();
        launch.layers.clear();
        launch.shape = layout1::tests::SHAPE;
        change(&mut launch);
        let platform = platform(1);
        let mut vm = SimulatedVm::start(&layout1::tests::files(), &launch).expect("starts");
        let event = Event::launch(&launch.digest().expect("valid"));
        vm.extend(&event.name, event.payload.0).expect("extends");
        Self {
            anchors: Anchors { simulated_root: Some(platform.root_der()), ..Anchors::default() },
            platform,
            launch,
            vm,
            instance: FixedHex([0x66; 32]),
            references: vec![reference::tests::values(Profile::Prod)],
            policy: Policy::strict(),
            time: JudgeTime::Now(NOW),
        }
    }

    pub(crate) fn start_job(&mut self) {
        let event = Event::job_start(&SPEC);
        self.vm.extend(&event.name, event.payload.0).expect("extends");
    }

    pub(crate) fn claims(&self, purpose: Purpose) -> Claims {
        let builder = ClaimsBuilder::new(
            self.instance,
            self.launch.role,
            self.launch.vm_mode,
            FixedHex([0x77; 32]),
            HpkeClaim { suite: HpkeSuite::X25519, key: HexBytes(vec![8; 32]) },
            self.launch.digest().expect("valid"),
        );
        let binding = JobBinding { job: JOB, attempt: 1, spec: SPEC };
        match purpose {
            Purpose::Identity => builder.identity(NONCE),
            Purpose::Offer => builder.offer(NONCE, Some((JOB, 1))),
            Purpose::Start => builder.start(NONCE, binding, OFFER),
            Purpose::Receipt => builder.receipt(NONCE, binding, OFFER, PAYLOAD),
        }
        .expect("claims")
    }

    /// Evidence for `purpose`, in a VM that is in the right state for it.
    pub(crate) fn evidence(&mut self, purpose: Purpose) -> EvidenceBundle {
        if purpose.follows_job_start() && self.vm.event_log().events.len() == 5 {
            self.start_job();
        }
        let image = ImageIdentity { name: "sealtune".into(), version: "0.1.0".into() };
        self.vm.evidence(&self.platform, &self.claims(purpose), image, NOW).expect("evidence")
    }

    /// Evidence whose quote is made anew over changed claims, as an agent that says so would make it.
    pub(crate) fn requote(&self, bundle: &mut EvidenceBundle, claims: &[u8], oddities: &Oddities) {
        let request = self.vm.request(report_data(claims));
        bundle.claims = Base64Bytes(claims.to_vec());
        bundle.quote = Base64Bytes(self.platform.odd_quote(&request, oddities).expect("a quote"));
    }

    pub(crate) fn expectation(&self, purpose: Purpose) -> Expectation {
        let mut expectation = Expectation::new(purpose, Some(NONCE));
        if purpose != Purpose::Identity {
            expectation.job = Some(JOB);
        }
        if purpose == Purpose::Receipt {
            expectation.payload = Some(PAYLOAD);
        }
        if purpose.follows_job_start() {
            expectation.spec = Some(SPEC);
            expectation.previous = Some(OFFER);
        }
        expectation
    }

    pub(crate) fn appraise(&self, bundle: &EvidenceBundle, purpose: Purpose) -> Appraisal {
        self.appraise_for(bundle, &self.expectation(purpose))
    }

    pub(crate) fn appraise_for(
        &self,
        bundle: &EvidenceBundle,
        expectation: &Expectation,
    ) -> Appraisal {
        let context = Context {
            policy: &self.policy,
            references: &self.references,
            anchors: &self.anchors,
            collateral: None,
            snp_collateral: None,
            gpu_collateral: None,
            time: self.time,
        };
        appraise(bundle, expectation, &context)
    }
}
