use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealtune_evidence::{
    BootFiles, FileDigests, FixedHex, ImageFacts, Profile, ReferenceValues, Shape, layout1,
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
    // It lists nothing by itself: a file must.
    let dstack = TrustFiles { policy: Some("dstack".into()), ..TrustFiles::default() };
    assert_eq!(load(&dstack).expect_err("lists nothing").code, "ST-EVID-83");
    let other = TrustFiles { policy: Some("./strict".into()), ..TrustFiles::default() };
    assert_eq!(load(&other).expect_err("no file").code, "ST-CLI-10");
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
            aml_sandbox: false,
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
    assert_eq!(trust.vouched.references, [values()]);
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
