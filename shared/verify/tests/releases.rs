//! Release manifests at the command line: who vouches, what is remembered, and what is refused.
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

#[expect(dead_code, reason = "another test uses the rest of the desk")]
mod desk;
#[path = "../../receipt/tests/scene/mod.rs"]
#[expect(dead_code, reason = "another test uses the rest of the scene")]
mod scene;

use std::{fs, os::unix::fs::PermissionsExt as _};

use sealtune_evidence::{
    BootRegisters, FixedHex, Profile, ReferenceValues, Shape, TdxQuote,
    dsse::payload_digest,
    quote::without_padding,
    reference::RegisterRow,
    release::{Manifest, Reference, ReleaseImage, Revocation, RevokedDigest, cosign, sign},
    time::{Timestamp, rfc3339},
};
use sealtune_verify::{Failure, Surroundings};
use serde_json::Value;

use desk::{Folder, key, keys, vectors};
use scene::{Boot, JOB, NOW, OFFER_NONCE, OWNER_NONCE, job};

const DAY: u64 = 24 * 3600;
/// When the collateral of the vectors was valid.
const THEN: u64 = 1_772_708_331;

/// Of the VM in the scene.
fn values() -> ReferenceValues {
    ReferenceValues { profile: Profile::Prod, ..scene::references() }
}

fn manifest(edition: u32) -> Manifest {
    let at = |seconds| Timestamp::new(seconds).expect("a time");
    Manifest {
        version: 1,
        release: "0.1.0".into(),
        number: 3,
        edition,
        min_release: 1,
        not_before: at(NOW - 10 * DAY),
        not_after: at(NOW + 90 * DAY),
        images: vec![ReleaseImage {
            name: "prod".into(),
            os_image: FixedHex([7; 32]),
            kernel: values().kernel,
            initramfs: values().initramfs,
            cmdline: values().cmdline,
            aml_sandbox: false,
            reference: Reference::Embedded(Box::new(values())),
        }],
        layers: vec![],
        revoked: vec![],
    }
}

fn signed(manifest: &Manifest, seeds: [u8; 2]) -> Vec<u8> {
    let [first, second] = seeds.map(key);
    let half = serde_json::to_vec(&sign(manifest, &first).expect("signs")).expect("JSON");
    serde_json::to_vec(&cosign(&half, &second).expect("signs").1).expect("JSON")
}

struct Files(Folder);

impl Files {
    fn new() -> Self {
        let files = Self(Folder::with(&Boot::new(1).offer()));
        files.write("receipt.json", &job().1.to_bytes().expect("writes"));
        files.write("keys.json", &serde_json::to_vec(&keys()).expect("JSON"));
        files.write("own.json", &values().to_bytes().expect("writes"));
        files.write("release.json", &signed(&manifest(1), [1, 2]));
        files
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        self.0.write(name, bytes);
    }

    fn memory(&self) -> std::path::PathBuf {
        self.0.path().join("state/release-memory.json")
    }

    fn run(&self, now: u64, line: &str) -> Result<Value, Failure> {
        let memory = self.0.path().join("state/collateral-memory.json");
        let surroundings = Surroundings { memory: Some(&memory), ..Surroundings::offline(now) };
        let report = self.0.run(&format!("--json {line}"), &surroundings)?;
        Ok(serde_json::from_str(&report.stdout).expect("JSON"))
    }

    fn offer_at(&self, now: u64, rest: &str) -> Result<Value, Failure> {
        let line = format!(
            "evidence @offer.json --purpose offer --nonce {OFFER_NONCE} --job {JOB} \
             --simulated-root @root.der {rest}"
        );
        self.run(now, &line)
    }

    fn offer(&self, rest: &str) -> Result<Value, Failure> {
        self.offer_at(NOW, rest)
    }

    /// Code and exit.
    fn refused(&self, rest: &str) -> (&'static str, u8) {
        let failure = self.offer(rest).expect_err(rest);
        assert!(!failure.fix().is_empty(), "{failure}");
        (failure.code(), failure.exit_code())
    }
}

const SIGNED: &str = "--manifest @release.json --release-keys @keys.json";

fn is_accepted(verdict: &Value) -> bool {
    verdict["outcome"] == "accepted"
}

/// Values of the claims of one name.
fn values_of(verdict: &Value, claim: &str) -> Vec<String> {
    let claims = verdict["claims"].as_array().expect("claims").iter();
    let of_name = claims.filter(|one| one["claim"] == claim);
    of_name.map(|one| one["value"].as_str().unwrap_or_default().to_owned()).collect()
}

const SAID: &str = "0.1.0 (number 3, edition 1), signed by ada, grace";

#[test]
fn a_verdict_says_which_manifest_vouched() {
    let files = Files::new();
    let verdict = files.offer(SIGNED).expect("judges");
    assert!(is_accepted(&verdict), "{verdict}");
    assert_eq!(values_of(&verdict, "release-manifest"), [SAID]);
    assert!(values_of(&verdict, "references").is_empty());

    let own = files.offer("--reference @own.json --no-memory").expect("judges");
    assert!(is_accepted(&own));
    assert_eq!(values_of(&own, "references"), ["0.1.0"]);
    assert!(values_of(&own, "release-manifest").is_empty());

    let line =
        format!("receipt @receipt.json --nonce {OWNER_NONCE} --simulated-root @root.der {SIGNED}");
    let receipt = files.run(NOW, &line).expect("judges");
    assert!(is_accepted(&receipt), "{receipt}");
    assert_eq!(values_of(&receipt, "release-manifest"), [SAID], "once for all parts");

    // A manifest of another release vouches for nothing here.
    let mut other = manifest(1);
    other.release = "0.2.0".into();
    other.number = 4;
    if let Reference::Embedded(values) = &mut other.images[0].reference {
        values.release = "0.2.0".into();
    }
    files.write("other.json", &signed(&other, [1, 2]));
    let both = format!("{SIGNED} --manifest @other.json");
    assert_eq!(values_of(&files.offer(&both).expect("judges"), "release-manifest"), [SAID]);
    let alone = files.offer("--manifest @other.json --release-keys @keys.json").expect("judges");
    assert!(!is_accepted(&alone) && values_of(&alone, "release-manifest").is_empty());
}

#[test]
fn who_signed_and_when_decides() {
    let files = Files::new();
    files.write(
        "one.json",
        &serde_json::to_vec(&sign(&manifest(1), &key(1)).expect("signs")).expect("JSON"),
    );
    files.write("strangers.json", &signed(&manifest(1), [8, 9]));
    files.write("empty", b"");
    let keys = "--release-keys @keys.json";
    for (line, code) in [
        (format!("--manifest @one.json {keys}"), "ST-REL-06"),
        (format!("--manifest @strangers.json {keys}"), "ST-REL-06"),
        (format!("--manifest @empty {keys}"), "ST-REL-02"),
        ("--manifest @release.json --release-keys @empty".to_owned(), "ST-REL-12"),
    ] {
        assert_eq!(files.refused(&line), (code, 2), "{line}");
    }
    let missing = files.refused(&format!("--manifest @nowhere {keys}"));
    assert_eq!(missing, ("ST-VRFY-01", 3));
    let text = fs::read_to_string(files.0.path().join("release.json")).expect("reads");
    let at = text.find("\"sig\":\"").expect("a signature") + 9;
    let letter = if &text[at..=at] == "A" { "B" } else { "A" };
    files.write("edited.json", format!("{}{letter}{}", &text[..at], &text[at + 1..]).as_bytes());
    assert_eq!(files.refused(&format!("--manifest @edited.json {keys}")), ("ST-REL-05", 2));
    for (now, code) in [(NOW - 11 * DAY, "ST-REL-10"), (NOW + 90 * DAY, "ST-REL-11")] {
        assert_eq!(files.offer_at(now, SIGNED).expect_err(code).code(), code);
    }
    assert!(!files.memory().exists(), "nothing was learned from any of them");
}

#[test]
fn reference_values_beside_their_manifest() {
    let files = Files::new();
    let bytes = values().to_bytes().expect("writes");
    let mut beside = manifest(1);
    beside.images[0].reference = Reference::Sha256(payload_digest(&bytes));
    files.write("release.json", &signed(&beside, [1, 2]));
    assert_eq!(files.refused(SIGNED), ("ST-VRFY-11", 2));
    let verdict = files.offer(&format!("{SIGNED} --reference @own.json")).expect("judges");
    assert!(is_accepted(&verdict));
    assert_eq!(values_of(&verdict, "release-manifest"), [SAID]);
    assert!(values_of(&verdict, "references").is_empty(), "the manifest vouches");

    // Another file of the same release is nobody's word beside the manifest's.
    let mut other = values();
    other.registers[0].mrtd = FixedHex([9; 48]);
    other.registers[0].layout = sealtune_evidence::reference::Layout::Recorded;
    files.write("other.json", &other.to_bytes().expect("writes"));
    let line = format!("{SIGNED} --reference @own.json --reference @other.json");
    assert_eq!(files.refused(&line), ("ST-REL-14", 2));
    // Of another release it is the user's own.
    other.release = "mine".into();
    files.write("other.json", &other.to_bytes().expect("writes"));
    let verdict = files.offer(&line).expect("judges");
    assert!(is_accepted(&verdict) && values_of(&verdict, "references").is_empty());
}

#[test]
fn the_memory_does_not_go_back() {
    let files = Files::new();
    files.write("second.json", &signed(&manifest(2), [1, 2]));
    let second = "--manifest @second.json --release-keys @keys.json";
    assert!(is_accepted(&files.offer(SIGNED).expect("judges")));
    assert!(is_accepted(&files.offer(second).expect("judges")));
    assert_eq!(files.refused(SIGNED), ("ST-REL-15", 2));
    let mode = fs::metadata(files.memory()).expect("kept").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let kept = fs::read(files.memory()).expect("reads");
    assert!(files.offer(&format!("{SIGNED} --no-memory")).is_ok());
    let elsewhere = files.offer(&format!("{SIGNED} --memory @elsewhere/memory.json"));
    assert!(elsewhere.is_ok());
    assert!(files.0.path().join("elsewhere/release-memory.json").exists());
    assert_eq!(fs::read(files.memory()).expect("reads"), kept);

    let mut twin = manifest(2);
    twin.not_after = Timestamp::new(NOW + 80 * DAY).expect("a time");
    files.write("twin.json", &signed(&twin, [1, 2]));
    let twins = "--manifest @second.json --manifest @twin.json --release-keys @keys.json";
    assert_eq!(files.refused(&format!("{twins} --no-memory")), ("ST-REL-17", 2));

    fs::write(files.memory(), "{}").expect("writes");
    for rest in [SIGNED, "--reference @own.json"] {
        assert_eq!(files.refused(rest), ("ST-REL-19", 2), "{rest}");
    }
    assert_eq!(fs::read(files.memory()).expect("reads"), b"{}", "nothing was forgotten");
}

fn revoking(digest: &[u8]) -> Manifest {
    let mut next = manifest(1);
    next.release = "0.2.0".into();
    next.number = 4;
    let mut image = values();
    image.release = "0.2.0".into();
    image.cmdline.push_str(" x=1");
    image.kernel = sealtune_evidence::FileDigests::of(b"newer");
    image.registers[0].layout = sealtune_evidence::reference::Layout::Recorded;
    image.registers[0].rtmr1 = FixedHex([4; 48]);
    image.registers[0].rtmr2 = FixedHex([5; 48]);
    next.images[0].kernel = image.kernel;
    next.images[0].cmdline = image.cmdline.clone();
    next.images[0].reference = Reference::Embedded(Box::new(image));
    next.revoked = vec![Revocation {
        digest: RevokedDigest::of(digest),
        reason: "a hole in its network stack".into(),
        since: Timestamp::new(NOW - DAY).expect("a time"),
    }];
    next
}

#[test]
fn what_was_revoked_stays_revoked() {
    let files = Files::new();
    files.write("next.json", &signed(&revoking(&values().registers[0].rtmr1.0), [1, 2]));
    let next = "--manifest @next.json --release-keys @keys.json";
    assert_eq!(files.refused(&format!("{SIGNED} --manifest @next.json")), ("ST-REL-18", 2));
    assert!(!files.memory().exists(), "a refused set of manifests teaches nothing");
    assert!(!is_accepted(&files.offer(next).expect("judges")), "the VM is of the older release");
    for rest in [SIGNED, "--reference @own.json"] {
        assert_eq!(files.refused(rest), ("ST-REL-18", 2), "{rest}");
    }
    assert!(files.offer("--reference @own.json --no-memory").is_ok());
    // It was good before: the verdict at the clock says what has become of it.
    let then = rfc3339(NOW).expect("a time");
    let both = files.offer(&format!("{SIGNED} --at {then}")).expect("judges");
    assert_eq!(values_of(&both["at"], "release-manifest"), [SAID]);
    let now = both["now"]["claims"].as_array().expect("claims");
    assert!(!is_accepted(&both["now"]));
    assert!(now.iter().any(|one| one["claim"] == "release-manifest" && one["code"] == "ST-REL-18"));
}

#[test]
fn what_you_pin_yourself_may_be_revoked_too() {
    let files = Files::new();
    let root = [0xab; 32];
    files.write("next.json", &signed(&revoking(&root), [1, 2]));
    let line = format!("{SIGNED} --manifest @next.json --layer {}", "ab".repeat(32));
    assert_eq!(files.refused(&line), ("ST-REL-18", 2));
    assert!(files.offer(&line.replace("abab", "acab")).is_ok());
    for option in ["--policy dstack --compose-hash", "--policy dstack --os-image"] {
        assert_eq!(files.refused(&line.replace("--layer", option)).0, "ST-EVID-83", "{option}");
        let both = format!("--os-image {0} --compose-hash {0}", "ac".repeat(32));
        let listed = line.replace("--layer", &format!("--policy dstack {both} {}", &option[16..]));
        assert_eq!(files.refused(&listed), ("ST-REL-18", 2), "{option}");
    }
    // The same where a policy file lists it.
    for (compose, os) in [("ab", "ac"), ("ac", "ab")] {
        let [compose, os] = [compose, os].map(|byte| byte.repeat(32));
        let policy = format!(
            "version = 1\nname = \"mine\"\nimages = \"dstack\"\nlaunch = \"software\"\ncompose_hashes = [\"{compose}\"]\nos_images = [\"{os}\"]\n"
        );
        files.write("mine.toml", policy.as_bytes());
        let line = format!("{SIGNED} --manifest @next.json --policy @mine.toml");
        assert_eq!(files.refused(&line), ("ST-REL-18", 2), "{compose}");
    }
}

/// A real VM's registers, in a manifest.
#[test]
fn a_manifest_vouches_for_registers_of_a_dstack_vm() {
    let root = vectors();
    let Ok(report) = fs::read(root.join("tdx/gpu-vm-local-sgx.quote-report.json")) else {
        println!("skipped: no vectors in {}", root.display());
        return;
    };
    let value: Value = serde_json::from_slice(&report).expect("JSON");
    let quote = hex::decode(value["quote"].as_str().expect("hex")).expect("hex");
    let quote = TdxQuote::parse(without_padding(&quote).expect("a quote")).expect("a quote");
    let [rtmr0, rtmr1, rtmr2, _] = quote.rtmr;
    let registers = BootRegisters { mrtd: quote.mrtd, rtmr0, rtmr1, rtmr2 };
    let shape = Shape { vcpus: 1, memory_mib: 1024 };
    let row = RegisterRow::recorded(FixedHex([7; 48]), shape, &registers);
    let recorded = ReferenceValues { registers: vec![row], ..values() };
    let mut manifest = manifest(1);
    manifest.images[0].reference = Reference::Embedded(Box::new(recorded.clone()));
    let files = Files::new();
    files.write("report.json", &report);
    files.write("release.json", &signed(&manifest, [1, 2]));
    files.write("own.json", &recorded.to_bytes().expect("writes"));
    let line = format!("dstack @report.json --report-data {}", hex::encode(quote.report_data));
    let verdict = files.run(NOW, &format!("{line} {SIGNED} --no-memory")).expect("judges");
    // Its collateral has expired at this time, so nothing at all rests on it.
    assert!(!is_accepted(&verdict) && values_of(&verdict, "release-manifest").is_empty());
    manifest.not_before = Timestamp::new(THEN).expect("a time");
    files.write("release.json", &signed(&manifest, [1, 2]));
    let collateral = root.join("tdx/gpu-vm-local-sgx.collateral.json");
    let line = format!("{line} --collateral {} --no-memory", collateral.display());
    let both = files.run(NOW, &format!("{line} {SIGNED} --at {THEN}")).expect("judges");
    assert_eq!(values_of(&both["at"], "release-manifest"), [SAID], "{both}");
    assert!(values_of(&both["now"], "release-manifest").is_empty());
    let own = files.run(NOW, &format!("{line} --reference @own.json --at {THEN}")).expect("judges");
    assert_eq!(values_of(&own["at"], "references"), ["0.1.0"]);
}

#[test]
fn collateral_of_other_platforms() {
    let files = Files::new();
    files.write("empty", b"");
    files.write("wrong.json", b"{\"version\":2,\"rims\":[],\"ocsp\":[]}");
    files.write("gpu.json", b"{\"version\":1,\"rims\":[],\"ocsp\":[]}");
    let snp = sealtune_evidence::snp::collateral::SnpCollateral {
        version: 1,
        ark: vec![].into(),
        ask: vec![].into(),
        vek: vec![].into(),
        crl: None,
    };
    files.write("snp.json", &snp.to_bytes().expect("writes"));
    let code = |rest: &str| files.refused(&format!("--reference @own.json {rest}"));
    let gpu_code = sealtune_evidence::nvidia::codes::Code::CollateralUnreadable.as_str();
    let snp_code = sealtune_evidence::snp::codes::Code::CollateralUnreadable.as_str();
    for file in ["@empty", "@wrong.json", "@root.der"] {
        assert_eq!(code(&format!("--gpu-collateral {file}")), (gpu_code, 2), "{file}");
        assert_eq!(code(&format!("--snp-collateral {file}")), (snp_code, 2), "{file}");
    }
    assert_eq!(code("--gpu-collateral @nowhere"), ("ST-VRFY-01", 3));
    let good = "--reference @own.json --gpu-collateral @gpu.json --snp-collateral @snp.json";
    assert!(is_accepted(&files.offer(good).expect("judges")), "not used for such a VM");
}
