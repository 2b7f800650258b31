use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealtune_evidence::{
    BootFiles, FileDigests, FixedHex, ImageFacts, Profile, ReferenceValues, Shape, layout1,
    reference::HostCode,
    release::{
        KeyPurpose, Manifest, Reference, ReleaseImage, Revocation, RevokedDigest, TrustedKey,
        TrustedKeys, cosign, key_id, sign,
    },
    time::Timestamp,
    verdict::Findings,
};

use super::*;

const DAY: u64 = 86_400;
const REVOKED: Hex32 = FixedHex([0x44; 32]);

fn load(files: &TrustFiles) -> Result<Trust, CliError> {
    Trust::load(files)
}

#[test]
fn policies_have_names_and_a_file_of_such_a_name_is_a_path() {
    for name in ["strict", "0g", "dev"] {
        let files = TrustFiles { policy: Some(name.into()), ..TrustFiles::default() };
        assert_eq!(load(&files).expect(name).policy.identity().name, name);
    }
    // It lists nothing by itself: the customer must.
    let dstack = TrustFiles { policy: Some("dstack".into()), ..TrustFiles::default() };
    let error = load(&dstack).expect_err("lists nothing");
    assert_eq!(error.code, "ST-EVID-83");
    assert!(error.fix.contains("--compose-hash") && error.fix.contains("--os-image"));
    let listed = ListedImages { compose_hashes: vec![REVOKED], os_images: vec![FixedHex([1; 32])] };
    let filled = load(&TrustFiles { listed, ..dstack }).expect("lists both");
    assert_eq!(filled.policy.rules.compose_hashes, [REVOKED]);
    for (name, code) in [("./strict", "ST-VRFY-01"), ("lax", "ST-VRFY-12")] {
        let files = TrustFiles { policy: Some(name.into()), ..TrustFiles::default() };
        let error = load(&files).expect_err("no file");
        assert_eq!((error.code.as_str(), error.exit), (code, Exit::Usage));
        let lists = error.fix.contains("strict, dstack, 0g and dev");
        assert_eq!(lists, name == "lax", "{}", error.fix);
    }
}

#[test]
fn what_cannot_be_used_has_the_verifiers_codes() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("file.json");
    std::fs::write(&path, "{}").expect("writes");
    let own = TrustFiles { references: vec![path.clone()], ..TrustFiles::default() };
    assert_eq!(load(&own).expect_err("no reference values").exit, Exit::Usage);
    let gone = TrustFiles { references: vec!["/nowhere/at-all".into()], ..TrustFiles::default() };
    let error = load(&gone).expect_err("no file");
    assert_eq!((error.code.as_str(), error.exit), ("ST-VRFY-01", Exit::Usage));
    let root = TrustFiles { simulated_root: Some(path.clone()), ..TrustFiles::default() };
    assert_eq!(load(&root).expect_err("no certificate").code, "ST-VRFY-03");
    let manifest = TrustFiles {
        manifests: vec![path.clone()],
        release_keys: Some(path),
        ..TrustFiles::default()
    };
    assert!(load(&manifest).expect_err("no keys").code.starts_with("ST-REL-"));
}

fn values() -> ReferenceValues {
    let files = BootFiles {
        firmware: layout1::file_digest(b"firmware"),
        kernel: layout1::file_digest(b"kernel"),
        initramfs: layout1::file_digest(b"initramfs"),
        cmdline: "quiet".into(),
    };
    let image = ImageFacts {
        release: "0.1.0".into(),
        profile: Profile::Prod,
        cmdline: files.cmdline,
        kernel: FileDigests::of(b"kernel"),
        initramfs: FileDigests::of(b"initramfs"),
        layers: vec![],
    };
    let shape = Shape { vcpus: 2, memory_mib: 2048 };
    ReferenceValues::from_image(image, &[files.firmware], &[shape]).expect("reference values")
}

/// A release of today that takes back a training image.
fn manifest(now: u64) -> Manifest {
    let at = |seconds| Timestamp::new(seconds).expect("a time");
    let values = values();
    Manifest {
        version: 1,
        release: "0.1.0".into(),
        number: 3,
        edition: 1,
        min_release: 1,
        not_before: at(now - DAY),
        not_after: at(now + DAY),
        images: vec![ReleaseImage {
            name: "prod".into(),
            os_image: FixedHex([7; 32]),
            kernel: values.kernel,
            initramfs: values.initramfs,
            cmdline: values.cmdline.clone(),
            aml_sandbox: true,
            reference: Reference::Embedded(Box::new(values)),
        }],
        layers: vec![],
        revoked: vec![Revocation {
            digest: RevokedDigest::of(&REVOKED.0),
            reason: "it told its secrets".into(),
            since: at(now - DAY),
        }],
    }
}

#[test]
fn a_manifest_vouches_and_what_it_revoked_stays_revoked() {
    let folder = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: Vec<u8>| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("writes");
        path
    };
    let key = |seed| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed");
    let holder = |(seed, name): (u8, &str)| {
        let public = key(seed).public_key().as_ref().try_into().expect("32 bytes");
        let public_key: Hex32 = FixedHex(public);
        TrustedKey {
            key_id: key_id(&public_key),
            public_key,
            holder: name.to_owned(),
            purpose: KeyPurpose::Release,
            not_after: None,
        }
    };
    let holders = [(1, "ada"), (2, "grace")].map(holder).to_vec();
    let keys = TrustedKeys { version: 1, threshold: 2, keys: holders };
    let half = sign(&manifest(clock::now()), &key(1)).expect("signs");
    let half = serde_json::to_vec(&half).expect("JSON");
    let (_, envelope) = cosign(&half, &key(2)).expect("signs");
    let files = TrustFiles {
        manifests: vec![write("release.json", serde_json::to_vec(&envelope).expect("JSON"))],
        release_keys: Some(write("keys.json", serde_json::to_vec(&keys).expect("JSON"))),
        collateral_memory: Some(folder.path().join("state/collateral-memory.json")),
        ..TrustFiles::default()
    };
    let trust = load(&files).expect("a manifest");
    let stated = ReferenceValues { host_code: HostCode::Confined, ..values() };
    assert_eq!(trust.vouched.references, [stated]);
    let verdict = |trust: &Trust, image| {
        let policy = Policy::strict().identity();
        let mut verdict = Findings::default().into_verdict("test", false, policy, 0);
        trust.vouch(&[], &[image], &mut verdict);
        verdict.codes().map(str::to_owned).collect::<Vec<_>>()
    };
    let revoked = release::Code::Revoked.as_str();
    assert_eq!(verdict(&trust, REVOKED), [revoked]);
    assert!(verdict(&trust, FixedHex([0x45; 32])).is_empty());
    // Also for who brings his own values the next time.
    let own = TrustFiles {
        manifests: vec![],
        release_keys: None,
        references: vec![write("own.json", values().to_bytes().expect("JSON"))],
        ..files
    };
    assert_eq!(verdict(&load(&own).expect("his own"), REVOKED), [revoked]);
}

/// What `attest` judges of a dstack VM, with the lists of the command line and without.
#[cfg(feature = "simulated-tee")]
#[test]
fn a_dstack_vm_is_accepted_under_its_policy_with_its_lists() {
    use sealtune_evidence::{
        ClaimsBuilder, HexBytes, HpkeClaim, HpkeSuite, LaunchConfiguration, Role, VmMode,
        event_log::LAUNCH_EVENT,
        simulated::{SimulatedDstack, SimulatedPlatform},
    };

    let now = clock::now();
    let platform = SimulatedPlatform::create(&sealtune_seal::Secret::new([1; 32]), now);
    let platform = SimulatedPlatform::load(&platform.expect("creates")).expect("loads");
    let launch = LaunchConfiguration {
        version: 1,
        release: "0.1.0".into(),
        role: Role::Worker,
        vm_mode: VmMode::PerJob,
        shape: Shape { vcpus: 2, memory_mib: 2048 },
        gpus: vec![],
        layers: vec![],
        devices: vec![],
        settlement: None,
        token_hash: [7; 32].into(),
    };
    let digest = launch.digest().expect("valid");
    let hpke = HpkeClaim { suite: HpkeSuite::X25519, key: HexBytes(vec![8; 32]) };
    let (instance, key) = (FixedHex([3; 32]), FixedHex([4; 32]));
    let builder = ClaimsBuilder::new(instance, launch.role, launch.vm_mode, key, hpke, digest);
    let nonce = Hex([5; 32]);
    let claims = builder.identity(nonce.0.into()).expect("claims");
    let guest = SimulatedDstack::new(vec![(LAUNCH_EVENT, digest.0.0.to_vec())]);
    let bundle = guest.evidence(&platform, &launch, &claims, now).expect("evidence");

    let folder = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("writes");
        path
    };
    let references = guest.references(launch.shape).expect("values").to_bytes().expect("JSON");
    let strict = TrustFiles {
        references: vec![write("reference.json", &references)],
        simulated_root: Some(write("root.der", &platform.root_der())),
        ..TrustFiles::default()
    };
    let question = Challenged { purpose: Purpose::Identity, nonce, asked_at: now };
    let judged = |files: &TrustFiles| {
        let trust = load(files).expect("loads");
        judge_answer(&trust, &bundle, &Fresh::default(), &question, &[], now)
    };
    let listed = |compose: [u8; 32]| TrustFiles {
        policy: Some("dstack".into()),
        listed: ListedImages {
            compose_hashes: vec![FixedHex(compose)],
            os_images: vec![FixedHex(SimulatedDstack::OS_IMAGE)],
        },
        ..strict.clone()
    };
    let good = judged(&listed(SimulatedDstack::COMPOSE));
    assert!(good.is_accepted(), "{}", good.appraisal.verdict.render());
    assert!(judged(&listed([1; 32])).codes().contains("ST-EVID-18"), "another compose file");
    assert!(judged(&strict).codes().contains("ST-EVID-37"), "strict admits no such image");
}
