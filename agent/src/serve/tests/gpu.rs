//! A VM with GPUs from its launch to its receipt: their evidence is in every bundle, and they take work after the start
//! evidence and not before.

use std::process::ExitCode;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_evidence::nvidia::codes::Code;
use sealtune_evidence::{
    Claims, EvidenceBundle, Expectation, FixedHex, Purpose, Verdict, evidence_digest,
};
use sealtune_job::Hex;
use sealtune_receipt::Envelope;
use sealtune_wire::v1::{
    AgentEvent, AgentFailure, AgentReply, AgentRequest, Evidence, OutsidePurpose, Transfer,
};

use super::double::{Bench, Peer, configuration, launch};
use super::gpu_double::{Fault, GpuBench, plug_in, with_gpus};
use super::jobs::{Host, Owner, is_done};

/// A container that looks whether the GPUs take work when it starts.
const LOOKS: &str = r#"#!/bin/sh
read -r request
folder=$(dirname "$0")
printf '%s' "$request" > "$folder/ran"
work=$(printf '%s' "$request" | sed 's/.*"work_dir":"\([^"]*\)".*/\1/')
echo '{"started":{"pid":2}}'
[ -e "$folder/is-ready" ] || { echo '{"exit":{"code":9}}'; exit 0; }
echo result > "$work/output_model/adapter.bin"
echo '{"exit":{"code":0}}'
"#;

async fn ask(peer: &mut Peer, purpose: OutsidePurpose) -> Result<Evidence, String> {
    match peer.request(AgentRequest::Evidence { purpose, nonce: Hex([3; 32]) }).await? {
        AgentReply::Evidence(evidence) => Ok(evidence),
        other => panic!("{other:?}"),
    }
}

fn expectation(purpose: Purpose, nonce: u8) -> Expectation {
    Expectation::new(purpose, Some(FixedHex([nonce; 32])))
}

fn has(verdict: &Verdict, code: &str) -> bool {
    verdict.codes().any(|found| found == code)
}

#[tokio::test]
async fn gpus_bus_and_launch_configuration_must_agree() {
    type Change = fn(&Bench);
    let cases: [(usize, Change, &str); 7] = [
        (1, |_| {}, "ST-AGPU-02"),
        (0, |bench| plug_in(bench, 1, "0x030200", Some(0)), "ST-AGPU-02"),
        (1, |bench| plug_in(bench, 1, "0x030200", None), "ST-AGPU-06"),
        (
            1,
            |bench| {
                plug_in(bench, 1, "0x030200", None);
                let text = "Character devices:\n195 nvidia\n";
                std::fs::write(bench.path("proc/devices"), text).unwrap();
            },
            "ST-AGPU-07",
        ),
        (0, |bench| plug_in(bench, 9, "0x068000", None), "ST-AGPU-33"),
        (
            1,
            |bench| {
                plug_in(bench, 1, "0x030200", Some(0));
                plug_in(bench, 9, "0x068000", None);
            },
            "ST-AGPU-05",
        ),
        (
            1,
            |bench| {
                plug_in(bench, 1, "0x030200", Some(0));
                plug_in(bench, 9, "0x068000", None);
                let text = "Character devices:\n195 nvidia\n";
                std::fs::write(bench.path("proc/devices"), text).unwrap();
                let libraries = bench.path("layer/usr/lib/x86_64-linux-gnu");
                std::fs::create_dir_all(&libraries).unwrap();
                std::fs::write(libraries.join("libnvidia-nscq.so.2"), "").unwrap();
            },
            "ST-AGPU-09",
        ),
    ];
    for (listed, change, code) in cases {
        let bench = Bench::new(None);
        change(&bench);
        let mut peer = bench.control(1, 0).await;
        peer.measured = with_gpus(listed);
        assert_eq!(peer.request(launch(&with_gpus(listed))).await, Err(code.into()));
        assert_eq!(peer.event().await, (1, AgentEvent::Fatal { code: code.into() }));
        drop(peer);
        assert_eq!(bench.hub.await.unwrap(), ExitCode::FAILURE);
    }
    let bench = Bench::new(None);
    plug_in(&bench, 1, "0x030200", Some(0));
    let mut without_layer = configuration();
    without_layer.gpus = vec!["gpu0".into()];
    let mut peer = bench.control(1, 0).await;
    peer.measured = without_layer.clone();
    assert_eq!(peer.request(launch(&without_layer)).await, Err("ST-AGPU-03".into()));
}

#[tokio::test]
async fn every_bundle_of_a_sealed_job_has_the_evidence_of_every_gpu() {
    let (bench, mut peer) = GpuBench::launched(2, Some(LOOKS)).await;
    for (purpose, outside) in
        [(Purpose::Identity, OutsidePurpose::Identity), (Purpose::Offer, OutsidePurpose::Offer)]
    {
        let evidence = ask(&mut peer, outside).await.unwrap();
        assert_eq!(evidence.gpu.len(), 2);
        let verdict = bench.verdict(&bench.bundle(&peer, &evidence), &expectation(purpose, 3));
        assert!(verdict.is_accepted(), "{}", verdict.render());
        assert!(verdict.simulated);
    }
    let owner = Owner::new();
    let (request, spec, receipt_key) = owner.release(&mut peer).await;
    assert_eq!(bench.devices.words(), ["report"; 3]);
    let mut host = Host::prompt(&bench.bench, &owner);
    peer.request(request).await.unwrap();
    host.serve(&mut peer, is_done).await;
    let ran = std::fs::read(bench.bench.path("ran")).unwrap();
    let request: serde_json::Value = serde_json::from_slice(&ran).unwrap();
    let nodes = ["nvidiactl", "nvidia0", "nvidia1"].map(|name| bench.bench.path("dev").join(name));
    assert_eq!(request["devices"], serde_json::json!(nodes));
    assert_eq!(bench.devices.words(), ["report", "report", "report", "report", "ready", "report"]);

    let started = host.events.iter().find_map(|event| match event {
        AgentEvent::Started { evidence, .. } => Some(evidence.clone()),
        _ => None,
    });
    let started = started.expect("start evidence");
    let start_claims = Claims::parse(started.claims.as_bytes()).unwrap();
    let mut expected = expectation(Purpose::Start, 8);
    expected.job = Some(FixedHex(*owner.job.as_bytes()));
    expected.spec = Some(FixedHex(spec));
    expected.previous = start_claims.previous;
    let verdict = bench.verdict(&bench.bundle(&peer, &started), &expected);
    assert!(verdict.is_accepted(), "{}", verdict.render());

    let receipt = host.events.iter().find_map(|event| match event {
        AgentEvent::Receipt { envelope, evidence, .. } => {
            Some((envelope.clone(), evidence.clone()))
        }
        _ => None,
    });
    let (envelope, Some(evidence)) = receipt.expect("a receipt") else { panic!("no evidence") };
    let signed: Envelope = serde_json::from_str(&envelope).unwrap();
    let statement = signed.verify(&receipt_key.into()).unwrap();
    let claims = Claims::parse(evidence.claims.as_bytes()).unwrap();
    assert_eq!(statement.predicate.gpu, claims.gpu);
    assert_eq!(claims.gpu.len(), 2);
    expected.purpose = Purpose::Receipt;
    expected.payload = Some(signed.payload_digest());
    expected.previous = Some(evidence_digest(&STANDARD.decode(&started.quote).unwrap()));
    let verdict = bench.verdict(&bench.bundle(&peer, &evidence), &expected);
    assert!(verdict.is_accepted(), "{}", verdict.render());

    // Nothing was made once and shown twice.
    let again = ask(&mut peer, OutsidePurpose::Identity).await.unwrap();
    let digests =
        [&start_claims.gpu, &claims.gpu, &Claims::parse(again.claims.as_bytes()).unwrap().gpu]
            .map(|gpu| gpu[0].digest);
    assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
    // A VM that ran a job is no offer any more; that its GPUs work is no other fault of it.
    let verdict = bench.verdict(&bench.bundle(&peer, &again), &expectation(Purpose::Identity, 3));
    assert!(has(&verdict, "ST-EVID-26") && !has(&verdict, "ST-GPU-40"), "{}", verdict.render());
}

/// Eight GPUs whose drivers do not call confidential computing on, and four switches, from the launch to the receipt.
#[tokio::test]
async fn a_machine_in_protected_pcie_mode_gives_evidence_of_its_switches_and_works() {
    let (bench, mut peer) = GpuBench::launched_board(Some(LOOKS)).await;
    let offer = ask(&mut peer, OutsidePurpose::Offer).await.unwrap();
    let devices: Vec<&str> = offer.gpu.iter().map(|part| part.device.as_str()).collect();
    let expected: Vec<String> = (0..8)
        .map(|number| format!("gpu{number}"))
        .chain((0..4).map(|number| format!("nvswitch{number}")))
        .collect();
    assert_eq!(devices, expected);
    let verdict = bench.verdict(&bench.bundle(&peer, &offer), &expectation(Purpose::Offer, 3));
    assert!(verdict.is_accepted(), "{}", verdict.render());
    let topology = verdict.finding("gpu.topology").expect("the claim");
    assert_eq!(topology.status, sealtune_evidence::verdict::Status::Affirming);
    assert_eq!(bench.devices.words(), ["report", "switches"]);

    let owner = Owner::new();
    let (request, ..) = owner.release(&mut peer).await;
    let mut host = Host::prompt(&bench.bench, &owner);
    peer.request(request).await.unwrap();
    host.serve(&mut peer, is_done).await;
    let ran = std::fs::read(bench.bench.path("ran")).unwrap();
    let request: serde_json::Value = serde_json::from_slice(&ran).unwrap();
    let names = (0..8).map(|number| format!("nvidia{number}"));
    let nodes: Vec<_> = std::iter::once("nvidiactl".to_owned())
        .chain(names)
        .map(|name| bench.bench.path("dev").join(name))
        .collect();
    assert_eq!(request["devices"], serde_json::json!(nodes), "no node of a switch");
    let both = ["report", "switches"];
    let words = [&both[..], &both, &both, &["ready"], &both].concat();
    assert_eq!(bench.devices.words(), words, "switches first, then work");
    let receipt = host.events.iter().find_map(|event| match event {
        AgentEvent::Receipt { evidence, .. } => evidence.clone(),
        _ => None,
    });
    assert_eq!(receipt.expect("a receipt").gpu.len(), 12);
}

#[tokio::test]
async fn without_evidence_of_every_switch_there_is_none() {
    let (bench, mut peer) = GpuBench::launched_board(None).await;
    for (fault, code) in [
        (Fault::SwitchOmitted, "ST-AGPU-29"),
        (Fault::SwitchTwice, "ST-AGPU-30"),
        (Fault::SwitchOtherNonce, "ST-AGPU-26"),
        (Fault::Omits, "ST-AGPU-20"),
        (Fault::Garbage, "ST-AGPU-15"),
        (Fault::Dies, "ST-AGPU-17"),
    ] {
        bench.devices.fail(fault);
        assert_eq!(ask(&mut peer, OutsidePurpose::Offer).await, Err(code.into()), "{fault:?}");
    }
    bench.devices.fail(Fault::None);
    let offer = ask(&mut peer, OutsidePurpose::Offer).await.unwrap();
    let good = bench.bundle(&peer, &offer);
    let expected = expectation(Purpose::Offer, 3);
    assert!(bench.verdict(&good, &expected).is_accepted());
    // A supervisor that sends the GPUs alone, or the switches in another order.
    let mut bundle = good.clone();
    bundle.gpu.truncate(8);
    assert!(has(&bench.verdict(&bundle, &expected), "ST-EVID-85"));
    let mut bundle = good;
    bundle.gpu.swap(8, 9);
    assert!(has(&bench.verdict(&bundle, &expected), "ST-EVID-86"));
}

/// What the devices say of themselves is passed on, and a verifier refuses it; an owner who does not look gets no job.
#[tokio::test]
async fn gpus_get_no_work_before_their_switches_are_locked() {
    for (fault, judged, refused) in [
        (Fault::SwitchUnlocked, Code::SwitchUnlocked, "ST-AGPU-31"),
        (Fault::SingleMode, Code::PcieMixed, "ST-AGPU-32"),
    ] {
        let (bench, mut peer) = GpuBench::launched_board(Some(LOOKS)).await;
        bench.devices.fail(fault);
        let offer = ask(&mut peer, OutsidePurpose::Offer).await.unwrap();
        let verdict = bench.verdict(&bench.bundle(&peer, &offer), &expectation(Purpose::Offer, 3));
        assert!(!verdict.is_accepted() && has(&verdict, judged.as_str()), "{}", verdict.render());
        let owner = Owner::new();
        let (request, ..) = owner.release(&mut peer).await;
        let mut host = Host::prompt(&bench.bench, &owner);
        peer.request(request).await.unwrap();
        host.serve(&mut peer, is_done).await;
        let failure = AgentFailure::Guest { code: refused.into() };
        let failed = AgentEvent::Failed { job: owner.job, failure };
        assert!(host.events.contains(&failed), "{fault:?}: {:?}", host.events);
        assert!(!bench.bench.path("ran").exists());
        assert!(!bench.devices.words().contains(&"ready".to_owned()));
    }
}

#[tokio::test]
async fn a_plain_job_sets_its_gpus_ready_after_their_evidence_too() {
    let (bench, mut peer) = GpuBench::launched(1, Some(LOOKS)).await;
    let owner = Owner::new();
    let mut terms = owner.terms();
    terms.dataset.sealed = None;
    let mut host = Host::prompt(&bench.bench, &owner);
    peer.request(AgentRequest::Start { terms: Box::new(terms) }).await.unwrap();
    host.serve(&mut peer, is_done).await;
    assert!(bench.bench.path("ran").exists());
    assert_eq!(bench.devices.words(), ["report", "report", "ready"]);
}

#[tokio::test]
async fn what_is_wrong_with_the_helper_fails_the_evidence_with_its_code() {
    let (bench, mut peer) = GpuBench::launched(2, None).await;
    for (fault, code) in [
        (Fault::Omits, "ST-AGPU-20"),
        (Fault::Duplicates, "ST-AGPU-22"),
        (Fault::OtherNonce, "ST-AGPU-26"),
        (Fault::Garbage, "ST-AGPU-15"),
        (Fault::Dies, "ST-AGPU-17"),
    ] {
        bench.devices.fail(fault);
        for purpose in [OutsidePurpose::Identity, OutsidePurpose::Offer] {
            assert_eq!(ask(&mut peer, purpose).await, Err(code.into()), "{fault:?}");
        }
    }
    bench.devices.fail(Fault::None);
    assert!(ask(&mut peer, OutsidePurpose::Identity).await.is_ok());
}

/// Its deadline is a minute; the clock stands still here and jumps whenever everybody waits.
#[tokio::test(start_paused = true)]
async fn a_helper_that_hangs_is_ended_at_its_deadline() {
    let (bench, mut peer) = GpuBench::launched(2, None).await;
    bench.devices.fail(Fault::Hangs);
    let began = tokio::time::Instant::now();
    assert_eq!(ask(&mut peer, OutsidePurpose::Identity).await, Err("ST-AGPU-13".into()));
    assert!(began.elapsed().as_secs() >= 60);
}

/// What the GPUs say of themselves is passed on, and a verifier refuses it.
#[tokio::test]
async fn gpus_in_a_wrong_state_are_refused_by_the_verifier_and_get_no_job() {
    for (fault, judged, refused) in [
        (Fault::Devtools, Code::Devtools, "ST-AGPU-27"),
        (Fault::ReadyEarly, Code::ReadyEarly, "ST-AGPU-28"),
        (Fault::ReadyRefused, Code::CcOff, "ST-AGPU-18"),
    ] {
        let (bench, mut peer) = GpuBench::launched(1, Some(LOOKS)).await;
        bench.devices.fail(fault);
        let offer = ask(&mut peer, OutsidePurpose::Offer).await.unwrap();
        let verdict = bench.verdict(&bench.bundle(&peer, &offer), &expectation(Purpose::Offer, 3));
        assert_eq!(verdict.is_accepted(), fault == Fault::ReadyRefused, "{}", verdict.render());
        assert_eq!(has(&verdict, judged.as_str()), fault != Fault::ReadyRefused);
        // An owner who accepts all the same.
        let owner = Owner::new();
        let (request, ..) = owner.release(&mut peer).await;
        let mut host = Host::prompt(&bench.bench, &owner);
        peer.request(request).await.unwrap();
        host.serve(&mut peer, is_done).await;
        let failure = AgentFailure::Guest { code: refused.into() };
        let failed = AgentEvent::Failed { job: owner.job, failure };
        assert!(host.events.contains(&failed), "{fault:?}: {:?}", host.events);
        assert!(!bench.bench.path("ran").exists());
        let is_asked = bench.devices.words().contains(&"ready".to_owned());
        assert_eq!(is_asked, fault == Fault::ReadyRefused);
        let has_started =
            host.events.iter().any(|event| matches!(event, AgentEvent::Started { .. }));
        assert_eq!(has_started, fault == Fault::ReadyRefused, "no evidence without a state");
    }
}

#[tokio::test]
async fn a_job_that_fails_before_its_start_leaves_the_gpus_not_ready() {
    let (bench, mut peer) = GpuBench::launched(1, Some(LOOKS)).await;
    let mut owner = Owner::new();
    let (request, ..) = owner.release(&mut peer).await;
    let byte = owner.sealed_dataset.len() - 1;
    owner.sealed_dataset[byte] ^= 1;
    let mut host = Host::prompt(&bench.bench, &owner);
    peer.request(request).await.unwrap();
    let is_wanted = |event: &AgentEvent| {
        matches!(event, AgentEvent::StreamWanted { what: Transfer::SealedDataset { .. }, .. })
    };
    host.serve(&mut peer, is_wanted).await;
    host.serve(&mut peer, is_done).await;
    assert_eq!(bench.devices.words(), ["report"]);
}

/// The likeliest end of a GPU: in the middle of a job. The record of it is signed all the same.
#[tokio::test]
async fn a_gpu_that_is_gone_does_not_take_the_failure_record_along() {
    let (bench, mut peer) = GpuBench::launched(1, Some(LOOKS)).await;
    let owner = Owner::new();
    let (request, ..) = owner.release(&mut peer).await;
    let mut host = Host::prompt(&bench.bench, &owner);
    peer.request(request).await.unwrap();
    host.serve(&mut peer, |event| matches!(event, AgentEvent::Started { .. })).await;
    bench.devices.fail(Fault::Dies);
    host.serve(&mut peer, is_done).await;
    let records: Vec<_> = host
        .events
        .iter()
        .filter_map(|event| match event {
            AgentEvent::Receipt { evidence, .. } => Some(evidence.is_some()),
            _ => None,
        })
        .collect();
    assert_eq!(records, [false], "{:?}", host.events);
    assert!(host.events.iter().any(|event| matches!(event, AgentEvent::Failed { .. })));
}

/// The parts of a bundle are exactly those that the quote covers, in their order.
#[tokio::test]
async fn a_supervisor_cannot_drop_reorder_exchange_or_repeat_a_part() {
    type Change = fn(&mut EvidenceBundle, &EvidenceBundle);
    let (bench, mut peer) = GpuBench::launched(2, None).await;
    let made = ask(&mut peer, OutsidePurpose::Identity).await.unwrap();
    let other = ask(&mut peer, OutsidePurpose::Identity).await.unwrap();
    let (good, other) = (bench.bundle(&peer, &made), bench.bundle(&peer, &other));
    let expected = expectation(Purpose::Identity, 3);
    assert!(bench.verdict(&good, &expected).is_accepted());
    let cases: [(&str, Change, &str); 7] = [
        ("all dropped", |bundle, _| bundle.gpu.clear(), "ST-EVID-85"),
        ("one dropped", |bundle, _| drop(bundle.gpu.pop()), "ST-EVID-85"),
        ("one added", |bundle, _| bundle.gpu.push(bundle.gpu[0].clone()), "ST-EVID-85"),
        ("one twice", |bundle, _| bundle.gpu[1] = bundle.gpu[0].clone(), "ST-EVID-86"),
        ("reordered", |bundle, _| bundle.gpu.reverse(), "ST-EVID-86"),
        ("names exchanged", |bundle, _| bundle.gpu[1].device = "gpu0".into(), "ST-EVID-86"),
        ("of another quote", |bundle, other| bundle.gpu[0] = other.gpu[0].clone(), "ST-EVID-86"),
    ];
    for (name, change, code) in cases {
        let mut bundle = good.clone();
        change(&mut bundle, &other);
        let verdict = bench.verdict(&bundle, &expected);
        assert!(!verdict.is_accepted() && has(&verdict, code), "{name}: {}", verdict.render());
    }
}
