//! A simulated machine in protected PCIe mode: eight GPUs, four switches, and one thing changed at a time. Rows 58 and 68.

use super::{
    inquiry,
    scene::{Judged, NONCE, NOW, Scene},
};
use crate::{
    base64_bytes::Base64Bytes,
    nvidia::{
        DeviceEvidence, NvidiaEvidence, SwitchEvidence,
        codes::Code,
        evidence::{Architecture, CcEnvironment, CcFeature, MultiGpuMode},
        rules::ProtectedPcieRule,
        simulated::{
            Report, RimDraft, SWITCH_RIM, SimulatedMachine, SimulatedNvidia, SimulatedSwitch,
            certificate_digest,
        },
        transcript::Transcript,
        wanted,
    },
    verdict::Status,
};

const GPUS: usize = 8;

struct Board {
    scene: Scene,
    machine: SimulatedMachine,
    gpus: Vec<NvidiaEvidence>,
    switches: Vec<SwitchEvidence>,
}

impl Board {
    fn new() -> Self {
        let mut scene = Scene::new(0);
        let machine = scene.maker.machine(1).expect("a simulated machine");
        scene.collateral = scene.maker.machine_collateral(&machine).expect("collateral");
        scene.expected = GPUS;
        let (gpus, switches) = all_evidence(&machine, NONCE);
        Self { scene, machine, gpus, switches }
    }

    fn judge(&self) -> Judged {
        judge(&self.scene, &self.gpus, &self.switches)
    }

    /// Evidence of a switch over another report.
    fn exchange(&mut self, index: usize, switch: &SimulatedSwitch, report: &Report) {
        let name = self.switches[index].device.clone();
        self.switches[index] = switch.evidence(&name, report).expect("evidence");
    }

    fn switch_report(&self, index: usize) -> Report {
        self.machine.switch_report(&self.machine.switches[index], NONCE)
    }

    /// Exchanges what the first switch says.
    fn say(&mut self, report: &Report) {
        self.switches[0] = self.machine.switches[0].evidence("switch-0", report).expect("evidence");
    }
}

/// Adds what verifies another machine.
fn learn(scene: &mut Scene, machine: &SimulatedMachine) {
    let more = scene.maker.machine_collateral(machine).expect("collateral");
    scene.collateral.rims = more.rims;
    for answer in more.ocsp {
        if scene.collateral.response(&answer.certificate).is_none() {
            scene.collateral.ocsp.push(answer);
        }
    }
}

pub(super) fn all_evidence(
    machine: &SimulatedMachine,
    nonce: [u8; 32],
) -> (Vec<NvidiaEvidence>, Vec<SwitchEvidence>) {
    let report = machine.gpu_report(nonce);
    let gpu = |(at, gpu)| SimulatedMachine::gpu_evidence(gpu, &format!("gpu-{at}"), &report);
    let gpus = machine.gpus.iter().enumerate().map(gpu);
    let switch = |(at, switch): (usize, &SimulatedSwitch)| {
        switch.evidence(&format!("switch-{at}"), &machine.switch_report(switch, nonce))
    };
    let switches = machine.switches.iter().enumerate().map(switch);
    (
        gpus.collect::<Result<_, _>>().expect("evidence"),
        switches.collect::<Result<_, _>>().expect("evidence"),
    )
}

fn judge(scene: &Scene, gpus: &[NvidiaEvidence], switches: &[SwitchEvidence]) -> Judged {
    let gpus = gpus.iter().map(|one| (one.device.clone(), serde_json::to_vec(one).expect("JSON")));
    let switches =
        switches.iter().map(|one| (one.device.clone(), serde_json::to_vec(one).expect("JSON")));
    let sent: Vec<_> = gpus.chain(switches).collect();
    let devices: Vec<_> =
        sent.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    scene.judge_bytes(&devices)
}

/// Exactly these codes, beside the one that says that it is simulated.
fn refused(judged: &Judged, claim: &str, codes: &[Code]) {
    let verdict = &judged.verdict;
    let mut found: Vec<_> =
        verdict.codes().filter(|code| *code != Code::Simulated.as_str()).collect();
    found.sort_unstable();
    found.dedup();
    let mut expected: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    expected.sort_unstable();
    assert_eq!(found, expected, "{}", verdict.render());
    assert!(!verdict.is_accepted());
    let finding = verdict.finding(claim).expect("the claim");
    assert_ne!(finding.status, Status::Affirming, "{}", verdict.render());
}

#[test]
fn a_whole_machine_holds() {
    let board = Board::new();
    let judged = board.judge();
    let verdict = &judged.verdict;
    assert!(verdict.is_accepted(), "{}", verdict.render());
    assert_eq!(judged.devices.len(), 12);
    for claim in ["chain", "signature", "nonce", "device", "fwid", "mode", "firmware", "revocation"]
    {
        for name in
            (0..8).map(|at| format!("gpu.{at}")).chain((8..12).map(|at| format!("switch.{at}")))
        {
            let finding = verdict.finding(&format!("{name}.{claim}")).expect(claim);
            assert_eq!(finding.status, Status::Affirming, "{name}.{claim}");
        }
    }
    for claim in ["gpu", "gpu.topology"] {
        assert_eq!(verdict.finding(claim).map(|it| it.status), Some(Status::Affirming), "{claim}");
    }
}

#[test]
fn a_part_of_a_machine_is_refused() {
    let mut board = Board::new();
    let gpu = board.gpus.pop().expect("a GPU");
    refused(
        &board.judge(),
        "gpu.topology",
        &[Code::CountOther, Code::PcieCount, Code::PcieTopology],
    );
    // The launch configuration may list seven: the machine has eight.
    board.scene.expected = 7;
    refused(&board.judge(), "gpu.topology", &[Code::PcieCount, Code::PcieTopology]);
    board.scene.expected = 8;
    board.gpus.push(gpu);
    let switch = board.switches.pop().expect("a switch");
    refused(&board.judge(), "gpu.topology", &[Code::PcieCount, Code::PcieTopology]);
    board.switches.clear();
    refused(&board.judge(), "gpu.topology", &[Code::PcieCount]);
    board.gpus.truncate(1);
    board.scene.expected = 1;
    refused(&board.judge(), "gpu.topology", &[Code::PcieCount]);
    board.gpus.clear();
    board.switches.push(switch);
    board.scene.expected = 0;
    refused(&board.judge(), "gpu.topology", &[Code::SwitchAlone]);
}

#[test]
fn parts_of_other_machines_are_refused() {
    let mut board = Board::new();
    let other = board.scene.maker.machine(2).expect("another machine");
    learn(&mut board.scene, &other);
    let whole = board.switches.clone();

    // A switch of another board, which says what its own machine is, and one that lies for this machine.
    let report = other.switch_report(&other.switches[0], NONCE);
    board.exchange(0, &other.switches[0], &report);
    refused(&board.judge(), "gpu.topology", &[Code::PcieTopology]);
    let report = board.machine.switch_report(&other.switches[0], NONCE);
    board.exchange(0, &other.switches[0], &report);
    refused(&board.judge(), "gpu.topology", &[Code::PcieTopology]);
    // One that reports the number of a switch of this machine, which its certificate does not.
    let report = board.switch_report(0);
    board.exchange(0, &other.switches[0], &report);
    refused(&board.judge(), "gpu.topology", &[Code::PcieTopology]);
    board.switches = whole;
    assert!(board.judge().verdict.is_accepted());

    // A GPU that lists other switches, fewer, or one more.
    let gpu = |report: &Report| {
        SimulatedMachine::gpu_evidence(&board.machine.gpus[3], "gpu-3", report).expect("evidence")
    };
    let mut own = board.machine.gpu_report(NONCE);
    let list = own.opaque.iter().find(|(kind, _)| *kind == 22).expect("a list").1.clone();
    let reports = [
        other.gpu_report(NONCE),
        own.clone().with(22, &list[8..32]),
        own.clone().with(22, &[list.as_slice(), &[7; 8]].concat()),
        own.clone().with(22, &list[..31]),
        own.clone().without(22),
        // In the switches' own order of bytes.
        own.clone().with(22, &list.iter().rev().copied().collect::<Vec<_>>()),
    ];
    for report in &reports {
        let mut gpus = board.gpus.clone();
        gpus[3] = gpu(report);
        let judged = judge(&board.scene, &gpus, &board.switches);
        refused(&judged, "gpu.topology", &[Code::PcieTopology]);
    }
    // Another machine's GPU that lists this machine's switches: no switch lists it.
    let mut gpus = board.gpus.clone();
    own.nonce = NONCE;
    gpus[3] = SimulatedMachine::gpu_evidence(&other.gpus[3], "gpu-3", &own).expect("evidence");
    refused(&judge(&board.scene, &gpus, &board.switches), "gpu.topology", &[Code::PcieTopology]);
}

#[test]
fn the_mode_is_that_of_all() {
    let board = Board::new();
    let judged = |gpu: NvidiaEvidence| {
        let mut gpus = board.gpus.clone();
        gpus[0] = gpu;
        judge(&board.scene, &gpus, &board.switches)
    };
    let make = |report: &Report| board.machine.gpus[0].evidence("gpu-0", report).expect("evidence");
    let own = board.machine.gpu_report(NONCE);

    // One GPU alone in single mode, by all that is said about it.
    let single = judged(make(&Report::new(NONCE)));
    refused(&single, "gpu.topology", &[Code::PcieMixed, Code::PcieCount, Code::PcieTopology]);
    // The driver says so and the GPU does not, or the other way round.
    refused(&judged(make(&own)), "gpu.0.mode", &[Code::PcieMixed]);
    for report in
        [own.clone().with(21, &[0x55]), own.clone().without(21), own.clone().with(36, &[0])]
    {
        let mut evidence = make(&report);
        evidence.cc.multi_gpu = MultiGpuMode::ProtectedPcie;
        refused(&judged(evidence), "gpu.0.mode", &[Code::PcieMixed]);
    }
    // Older firmware signs no feature flag.
    let mut evidence = make(&own.without(36));
    evidence.cc.multi_gpu = MultiGpuMode::ProtectedPcie;
    assert!(judged(evidence).verdict.is_accepted());

    // A switch beside GPUs in single mode.
    let mut scene = Scene::new(1);
    let machine = scene.maker.machine(1).expect("a simulated machine");
    learn(&mut scene, &machine);
    let (_, switches) = all_evidence(&machine, NONCE);
    let judged = judge(&scene, &[scene.evidence(0)], &switches[..1]);
    refused(&judged, "gpu.topology", &[Code::SwitchAlone]);
}

/// In this mode an honest driver does not call confidential computing on; anywhere else, off is off.
#[test]
fn off_is_on_only_where_driver_and_gpu_agree_on_the_mode() {
    let board = Board::new();
    assert!(board.gpus.iter().all(|gpu| gpu.cc.feature == CcFeature::Off));
    let judged = |gpu: NvidiaEvidence| {
        let mut gpus = board.gpus.clone();
        gpus[0] = gpu;
        judge(&board.scene, &gpus, &board.switches)
    };
    let own = board.machine.gpu_report(NONCE);
    let make = |report: &Report| {
        SimulatedMachine::gpu_evidence(&board.machine.gpus[0], "gpu-0", report).expect("evidence")
    };
    assert!(judged(make(&own)).verdict.is_accepted());
    assert!(judged(make(&own.clone().without(36))).verdict.is_accepted());
    // A driver that was told so by a setting says both.
    let mut evidence = make(&own);
    evidence.cc.feature = CcFeature::On;
    assert!(judged(evidence).verdict.is_accepted());

    // The GPU does not sign the mode, or signs another.
    for report in
        [own.clone().with(21, &[0x55]), own.clone().without(21), own.clone().with(36, &[0])]
    {
        refused(&judged(make(&report)), "gpu.0.mode", &[Code::CcOff, Code::PcieMixed]);
    }
    // The driver does not say the mode.
    for mode in [MultiGpuMode::None, MultiGpuMode::NvlinkEncryption] {
        let mut evidence = make(&own);
        evidence.cc.multi_gpu = mode;
        let more = if mode == MultiGpuMode::None { &[][..] } else { &[Code::MultiGpu] };
        let codes = [&[Code::CcOff, Code::PcieMixed], more].concat();
        refused(&judged(evidence), "gpu.0.mode", &codes);
    }
    // Nobody says it.
    let mut evidence = board.machine.gpus[0].evidence("gpu-0", &Report::new(NONCE)).expect("it");
    evidence.cc.feature = CcFeature::Off;
    let codes = [Code::CcOff, Code::PcieMixed, Code::PcieCount, Code::PcieTopology];
    refused(&judged(evidence), "gpu.0.mode", &codes);
    // What else the driver says counts as ever.
    let mut evidence = make(&own);
    evidence.cc.feature = CcFeature::Devtools;
    refused(&judged(evidence.clone()), "gpu.0.mode", &[Code::Devtools]);
    evidence.cc.environment = CcEnvironment::Sim;
    refused(&judged(evidence), "gpu.0.mode", &[Code::Devtools, Code::Environment]);
}

#[test]
fn a_switch_must_sign_that_it_is_locked() {
    let mut board = Board::new();
    let own = board.switch_report(0);
    for (report, code) in [
        (own.clone().with(25, &[0, 0]), Code::SwitchUnlocked),
        (own.clone().with(25, &[2, 0]), Code::SwitchUnlocked),
        (own.clone().without(25), Code::SwitchUnlocked),
        (own.clone().with(21, &[0x55]), Code::FeatureFlag),
        (own.clone().with(36, &[0]), Code::FeatureFlag),
    ] {
        board.say(&report);
        refused(&board.judge(), "switch.8.mode", &[code]);
    }
    board.say(&own.with(21, &[0xaa]).with(36, &[2, 0]));
    assert!(board.judge().verdict.is_accepted());
}

#[test]
fn rules_may_refuse_the_mode() {
    let mut board = Board::new();
    board.scene.rules.protected_pcie = ProtectedPcieRule::Refused;
    let judged = board.judge();
    refused(&judged, "gpu.0.mode", &[Code::ProtectedPcie]);
    let finding = judged.verdict.finding("switch.8.mode").expect("judged");
    assert_eq!(finding.code, Some(Code::ProtectedPcie.as_str()));
}

#[test]
fn a_switch_without_its_proofs_is_refused() {
    let mut board = Board::new();
    let whole = board.switches[0].clone();
    let not_there = [Code::NotChecked, Code::PcieCount, Code::PcieTopology];

    // Its signature, another's signature, its chain.
    let end = whole.transcript.0.len() - 1;
    board.switches[0].transcript.0[end] ^= 1;
    refused(&board.judge(), "switch.8.signature", &[&not_there[..], &[Code::Signature]].concat());
    board.switches[0].transcript = whole.transcript.clone();
    board.switches[0].certificates = board.switches[1].certificates.clone();
    let codes = [&not_there[..], &[Code::Signature, Code::DeviceTwice]].concat();
    refused(&board.judge(), "switch.8.signature", &codes);
    let stranger = SimulatedNvidia::create(NOW).expect("another maker").machine(1).expect("its");
    let report = board.switch_report(0);
    board.exchange(0, &stranger.switches[0], &report);
    refused(&board.judge(), "switch.8.chain", &[&not_there[..], &[Code::ChainRoot]].concat());

    // Another nonce.
    let mut report = board.switch_report(0);
    report.nonce = [9; 32];
    board.say(&report);
    refused(&board.judge(), "switch.8.nonce", &[Code::NonceOther, Code::NoncesDiffer]);

    // A firmware digest, should one be reported, that is not the certified one.
    let report = board.switch_report(0).with(20, &[1; 48]);
    board.say(&report);
    refused(&board.judge(), "switch.8.fwid", &[Code::FwidOther]);

    // One switch under two names, signed twice.
    board.switches[0] = whole;
    let report = board.switch_report(0);
    let again = board.machine.switches[0].evidence("switch-3", &report).expect("evidence");
    board.switches[3] = again;
    refused(&board.judge(), "gpu", &[Code::DeviceTwice, Code::PcieTopology]);
}

#[test]
fn a_switch_is_held_against_its_one_rim() {
    let mut board = Board::new();
    board.switches[0].bios_version = "96.10.73.00.02".into();
    refused(&board.judge(), "switch.8.firmware", &[Code::VersionOther]);
    board.switches[0].bios_version = "96.10.73.00.01".into();

    let mut report = board.switch_report(0);
    report.measurements.insert(31, [1; 48]);
    board.say(&report);
    refused(&board.judge(), "switch.8.firmware", &[Code::MeasurementOther]);
    report.measurements.remove(&31);
    board.say(&report);
    refused(&board.judge(), "switch.8.firmware", &[Code::MeasurementMissing]);
    let own = board.switch_report(0);
    board.say(&own);

    let sign = |draft: &RimDraft| board.scene.maker.sign_rim(&draft.to_xml()).expect("signed");
    let files = [
        (RimDraft { product: "GH100".into(), ..RimDraft::switch() }, Code::RimProduct),
        (RimDraft { version: "96.10.73.00.02".into(), ..RimDraft::switch() }, Code::RimVersion),
    ]
    .map(|(draft, code)| (sign(&draft), code));
    for (file, code) in files {
        let rim = board.scene.collateral.rims.iter_mut().find(|rim| rim.id == SWITCH_RIM);
        rim.expect("a RIM").file = Base64Bytes(file);
        refused(&board.judge(), "switch.8.firmware", &[code]);
    }
    board.scene.collateral.rims.retain(|rim| rim.id != SWITCH_RIM);
    refused(&board.judge(), "switch.8.firmware", &[Code::FirmwareUnknown]);
}

#[test]
fn a_switch_whose_certificates_nobody_vouches_for_is_refused() {
    let mut board = Board::new();
    for der in [&board.scene.maker.switch_provisioner.der, &board.machine.switches[0].identity.der]
    {
        let about = certificate_digest(der);
        let whole = board.scene.collateral.ocsp.clone();
        board.scene.collateral.ocsp.retain(|answer| answer.certificate != about);
        refused(&board.judge(), "switch.8.revocation", &[Code::OcspMissing]);
        board.scene.collateral.ocsp = whole;
    }
}

#[test]
fn a_switch_is_no_gpu_and_a_gpu_no_switch() {
    let mut board = Board::new();
    // A switch's transcript and chain in a GPU's document.
    let mut posing = board.gpus[0].clone();
    posing.transcript = board.switches[0].transcript.clone();
    posing.certificates = board.switches[0].certificates.clone();
    posing.architecture = Architecture::Hopper;
    let mut gpus = board.gpus.clone();
    gpus[0] = posing;
    let judged = judge(&board.scene, &gpus, &board.switches[1..]);
    let finding = judged.verdict.finding("gpu.0.mode").expect("judged");
    assert!(judged.verdict.has(Code::ArchitectureOther), "{}", judged.verdict.render());
    assert!(finding.status == Status::Contraindicated && !judged.verdict.is_accepted());

    // A GPU's in a switch's.
    board.switches[0].transcript = board.gpus[0].transcript.clone();
    board.switches[0].certificates = board.gpus[0].certificates.clone();
    let judged = judge(&board.scene, &board.gpus[1..], &board.switches);
    assert!(judged.verdict.has(Code::ArchitectureOther), "{}", judged.verdict.render());
    assert!(judged.verdict.has(Code::PcieTopology) && !judged.verdict.is_accepted());
}

#[test]
fn no_flip_in_a_switch_transcript_is_accepted() {
    let board = Board::new();
    let leaf = board.machine.switches[0].leaf.point();
    let bytes = &board.switches[0].transcript.0;
    let accepted =
        |bytes: &[u8]| Transcript::parse(bytes).is_ok_and(|read| read.is_signed_by(&leaf));
    assert!(accepted(bytes));
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(!accepted(&flipped), "byte {at}");
        assert!(!accepted(&bytes[..at]), "{at} bytes");
    }
}

#[test]
fn what_a_switch_needs_is_asked_for() {
    let mut board = Board::new();
    let bytes = serde_json::to_vec(&board.switches[0]).expect("JSON");
    assert!(DeviceEvidence::is_switch(&bytes));
    let empty = crate::nvidia::NvidiaCollateral::default();
    let first = wanted(&bytes, &empty, &board.scene.roots, None);
    assert_eq!(first.rims, [SWITCH_RIM]);
    // Its own certificate, the provisioner's, the identity authority's.
    assert_eq!(first.ocsp.len(), 3);

    let gpus = board.gpus.iter().map(|one| serde_json::to_vec(one).expect("JSON"));
    let sent: Vec<Vec<u8>> = gpus
        .chain(board.switches.iter().map(|one| serde_json::to_vec(one).expect("JSON")))
        .collect();
    board.scene.collateral = inquiry::fetch(&board.scene, &sent);
    assert!(board.judge().verdict.is_accepted(), "{}", board.judge().verdict.render());
}
