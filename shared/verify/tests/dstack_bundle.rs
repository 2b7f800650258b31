//! `evidence` on a bundle that Sealtune's agent made in a dstack guest.
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

#[path = "../../receipt/tests/scene/mod.rs"]
#[expect(dead_code, reason = "another test uses the rest of the scene")]
mod scene;

use std::{fs, path::Path};

use clap::Parser as _;
use sealtune_evidence::{
    BootRegisters, EventLog, EvidenceBundle, FileDigests, FixedHex, Hex48, ImageFacts, Profile,
    ReferenceValues, Tee,
    logs::{DigestVersion, DstackLog},
    reference::RegisterRow,
    report_data,
    simulated::QuoteRequest,
};
use sealtune_verify::{Arguments, Report, Surroundings, run};
use serde_json::{Value, json};

use scene::{Boot, JOB, NOW, OFFER_NONCE};

const MRTD: Hex48 = FixedHex([0xd7; 48]);
const COMPOSE: [u8; 32] = [0xc0; 32];
const OS_IMAGE: [u8; 32] = [0x05; 32];

/// The log of a boot of dstack 0.5 and of the launch check after it.
fn log(boot: &Boot) -> Vec<u8> {
    let firmware = |imr: u32, kind: u32, digest: String| json!({"imr": imr, "event_type": kind, "digest": digest, "event": "", "event_payload": ""});
    let separator = "394341b7182cd227c5c6b07ef8000cdfd86136c4292b8e576573ad7ed9ae41019f5818b4b971c9effc60e1ad9f1289f0";
    let mut events: Vec<Value> = vec![
        firmware(0, 4, separator.to_owned()),
        firmware(1, 4, separator.to_owned()),
        firmware(2, 6, hex::encode([2; 48])),
    ];
    let launch = boot.launch.digest().expect("valid").0;
    for (name, payload) in [
        ("system-preparing", &[][..]),
        ("app-id", &COMPOSE[..20]),
        ("compose-hash", &COMPOSE),
        ("instance-id", &[]),
        ("boot-mr-done", &[]),
        ("os-image-hash", &OS_IMAGE),
        ("key-provider", br#"{"name":"none","id":""}"#),
        ("system-ready", &[]),
        ("sealtune-launch", launch.as_bytes()),
    ] {
        let digest = DigestVersion::V1.digest(name, payload).expect("a digest").to_string();
        events.push(json!({"imr": 3, "event_type": 0x0800_0001, "digest": digest, "event": name,
            "event_payload": hex::encode(payload)}));
    }
    serde_json::to_vec(&events).expect("JSON")
}

fn files() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: &[u8]| {
        fs::write(directory.path().join(name), bytes).expect("writes");
    };
    let boot = Boot::new(1);
    let log = log(&boot);
    let rtmr = DstackLog::parse(&log).expect("a log").replay();
    let own = boot.offer();
    let request = QuoteRequest {
        mrtd: MRTD,
        rtmr,
        mr_config_id: Hex48::ZERO,
        report_data: report_data(&own.claims.0),
    };
    let bundle = EvidenceBundle {
        tee: Tee::Dstack,
        quote: boot.platform.quote(&request).expect("a quote").into(),
        event_log: EventLog::default(),
        dstack_log: Some(log.into()),
        ..own
    };
    let registers = BootRegisters { mrtd: MRTD, rtmr0: rtmr[0], rtmr1: rtmr[1], rtmr2: rtmr[2] };
    let row = RegisterRow::recorded(FixedHex([7; 48]), boot.launch.shape, &registers);
    let facts = ImageFacts {
        release: "dstack-0.5.5".into(),
        profile: Profile::Prod,
        cmdline: String::new(),
        kernel: FileDigests::of(b"kernel"),
        initramfs: FileDigests::of(b"initramfs"),
        layers: vec![],
    };
    let references = ReferenceValues::from_rows(facts, vec![row], vec![]).expect("values");
    write("offer.json", &bundle.to_bytes().expect("writes"));
    write("reference.json", &references.to_bytes().expect("writes"));
    write("root.der", &boot.platform.root_der());
    directory
}

fn verify(directory: &Path, rest: &str) -> Report {
    let line = format!(
        "sealtune-verify evidence @offer.json --purpose offer --nonce {OFFER_NONCE} --job {JOB} \
         --reference @reference.json --simulated-root @root.der {rest}"
    );
    let words = line.split_whitespace().map(|word| match word.strip_prefix('@') {
        Some(name) => directory.join(name).display().to_string(),
        None => word.to_owned(),
    });
    let arguments = Arguments::try_parse_from(words).expect("a command line");
    run(&arguments, &Surroundings::offline(NOW)).expect("judges")
}

#[test]
fn it_is_accepted_under_the_policy_dstack_with_its_lists_only() {
    let files = files();
    let listed = |compose: [u8; 32]| {
        let (compose, os_image) = (hex::encode(compose), hex::encode(OS_IMAGE));
        format!("--policy dstack --compose-hash {compose} --os-image {os_image}")
    };
    let good = verify(files.path(), &listed(COMPOSE));
    assert!(good.accepted, "{}", good.stdout);
    // The launch configuration is never affirmed, and the verdict says what is tolerated.
    assert!(good.stdout.contains("warn launch") && good.stdout.contains("ST-DSTA-20"));
    assert!(good.stdout.contains("policy tolerates: launch configurations that software"));
    assert!(good.stdout.contains("dstack-0.5.5"));

    let other = verify(files.path(), &listed([1; 32]));
    assert!(!other.accepted && other.stdout.contains("ST-EVID-18"), "{}", other.stdout);
    for name in ["strict", "0g", "dev"] {
        let refused = verify(files.path(), &format!("--policy {name}"));
        assert!(!refused.accepted && refused.stdout.contains("ST-DSTA-20"), "{name}");
        assert!(refused.stdout.contains("ST-EVID-37"), "{name}");
    }
}
