use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::*;
use crate::{
    dsse::Envelope,
    fixed_hex::{FixedHex, Hex32},
    reference::{HostCode, Profile, ReferenceValues, tests::values},
    time::Timestamp,
};

const NOW: u64 = 1_795_333_794;
const DAY: u64 = 24 * 3600;

fn at(seconds: u64) -> Timestamp {
    Timestamp::new(seconds).expect("a time")
}

fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed")
}

fn public(key: &Ed25519KeyPair) -> Hex32 {
    FixedHex(key.public_key().as_ref().try_into().expect("32 bytes"))
}

fn trusted(seed: u8, holder: &str) -> TrustedKey {
    let public_key = public(&key(seed));
    TrustedKey {
        key_id: key_id(&public_key),
        public_key,
        holder: holder.into(),
        purpose: KeyPurpose::Release,
        not_after: None,
    }
}

/// Three holders, one of them with two keys.
fn keys() -> TrustedKeys {
    let keys =
        vec![trusted(1, "ada"), trusted(2, "grace"), trusted(3, "barbara"), trusted(4, "ada")];
    TrustedKeys { version: 1, threshold: 2, keys }
}

fn manifest(number: u32, edition: u32) -> Manifest {
    let mut reference = values(Profile::Prod);
    reference.release = format!("0.{number}.0");
    Manifest {
        version: 1,
        release: reference.release.clone(),
        number,
        edition,
        min_release: 1,
        not_before: at(NOW - DAY),
        not_after: at(NOW + 90 * DAY),
        images: vec![ReleaseImage {
            name: "prod".into(),
            os_image: FixedHex([7; 32]),
            kernel: reference.kernel,
            initramfs: reference.initramfs,
            cmdline: reference.cmdline.clone(),
            aml_sandbox: false,
            reference: Reference::Embedded(Box::new(reference)),
        }],
        layers: vec![],
        revoked: vec![],
    }
}

fn revoke(digest: &[u8]) -> Revocation {
    let digest = RevokedDigest::of(digest);
    Revocation { digest, reason: "a hole in its network stack".into(), since: at(NOW - DAY) }
}

fn bytes(envelope: &Envelope) -> Vec<u8> {
    serde_json::to_vec(envelope).expect("writes")
}

fn signed(manifest: &Manifest, seeds: &[u8]) -> Vec<u8> {
    let (first, rest) = seeds.split_first().expect("a signer");
    let start = bytes(&sign(manifest, &key(*first)).expect("signs"));
    rest.iter().fold(start, |half, seed| bytes(&cosign(&half, &key(*seed)).expect("signs").1))
}

fn verified(manifest: &Manifest) -> VerifiedManifest {
    Manifest::verify(&signed(manifest, &[1, 2]), &keys(), NOW).expect("verifies")
}

fn refused(manifest: &Manifest, seeds: &[u8], now: u64) -> Code {
    Manifest::verify(&signed(manifest, seeds), &keys(), now).expect_err("refused").entry()
}

#[test]
fn two_holders_on_two_machines_release() {
    let manifest = manifest(2, 1);
    let (ada, grace) = (signed(&manifest, &[1]), signed(&manifest, &[2]));
    let whole = bytes(&merge(&ada, &grace).expect("merges"));
    assert_eq!(whole, bytes(&merge(&grace, &ada).expect("merges")), "in any order");
    let verified = Manifest::verify(&whole, &keys(), NOW).expect("verifies");
    assert_eq!(verified.signers(), ["ada", "grace"]);
    assert_eq!(verified.manifest(), &manifest);
    let reference = verified.reference_values().next().expect("embedded");
    assert_eq!(reference.release, "0.2.0");
    assert_eq!(verified.image_of(reference).map(|image| image.aml_sandbox), Some(false));
}

#[test]
fn people_count_and_not_keys() {
    let manifest = manifest(1, 1);
    for (seeds, code) in [
        (&[1][..], Code::Threshold),
        (&[1, 4], Code::Threshold),
        // Strangers are passed over.
        (&[1, 9], Code::Threshold),
        (&[8, 9], Code::Threshold),
    ] {
        assert_eq!(refused(&manifest, seeds, NOW), code, "{seeds:?}");
    }
    for seeds in [&[1, 2][..], &[4, 3], &[1, 4, 9, 2]] {
        assert!(Manifest::verify(&signed(&manifest, seeds), &keys(), NOW).is_ok(), "{seeds:?}");
    }
    let mut ended = keys();
    ended.keys[1].not_after = Some(at(NOW));
    let bytes = signed(&manifest, &[1, 2]);
    let error = Manifest::verify(&bytes, &ended, NOW).expect_err("grace's key has ended");
    assert_eq!(error.entry(), Code::Threshold);
    assert!(Manifest::verify(&bytes, &ended, NOW - 1).is_ok());
}

#[test]
fn a_manifest_has_its_time() {
    let manifest = manifest(1, 1);
    let (from, to) = (manifest.not_before.seconds(), manifest.not_after.seconds());
    assert_eq!(refused(&manifest, &[1, 2], from - 1), Code::NotYetValid);
    assert_eq!(refused(&manifest, &[1, 2], to), Code::Expired);
    for now in [from, to - 1] {
        assert!(Manifest::verify(&signed(&manifest, &[1, 2]), &keys(), now).is_ok());
    }
}

#[test]
fn each_part_of_the_envelope_counts() {
    let whole: Envelope = serde_json::from_slice(&signed(&manifest(1, 1), &[1, 2])).expect("reads");
    type Change = fn(&mut Envelope);
    let cases: [(Code, Change); 9] = [
        (Code::PayloadType, |e| e.payload_type.push('x')),
        (Code::Signatures, |e| e.signatures.clear()),
        (Code::Signatures, |e| e.signatures.push(e.signatures[0].clone())),
        (Code::Signatures, |e| {
            for number in 0..15 {
                let mut more = e.signatures[0].clone();
                more.keyid = number.to_string();
                e.signatures.push(more);
            }
        }),
        (Code::SignatureInvalid, |e| e.payload.0.push(b' ')),
        (Code::SignatureInvalid, |e| e.signatures[1].sig.0[0] ^= 1),
        (Code::SignatureInvalid, |e| e.signatures[0].sig.0.clear()),
        (Code::Threshold, |e| e.signatures[0].keyid.clear()),
        (Code::SignatureInvalid, |e| {
            let first = e.signatures[0].sig.clone();
            e.signatures[0].sig = std::mem::replace(&mut e.signatures[1].sig, first);
        }),
    ];
    for (code, change) in cases {
        let mut envelope = whole.clone();
        change(&mut envelope);
        let error = Manifest::verify(&bytes(&envelope), &keys(), NOW).expect_err("refused");
        assert_eq!(error.entry(), code, "{error}");
    }
    let long = vec![b' '; MAX_MANIFEST_BYTES + 1];
    assert_eq!(Manifest::verify(&long, &keys(), NOW).expect_err("too long").entry(), Code::TooLong);
    for text in ["", "{}", r#"{"payloadType":"a","payload":"","signatures":[],"more":1}"#] {
        let error = Manifest::verify(text.as_bytes(), &keys(), NOW).expect_err(text);
        assert_eq!(error.entry(), Code::Unreadable);
    }
}

/// Every byte of the envelope changed, and the envelope cut at every 7th place: never accepted, never a panic.
#[test]
fn no_changed_or_cut_manifest_is_accepted() {
    let whole = signed(&manifest(1, 1), &[1, 2]);
    let payload = Manifest::verify(&whole, &keys(), NOW).expect("verifies").payload_digest();
    let mut changed = whole.clone();
    for place in 0..whole.len() {
        changed[place] ^= 1;
        if let Ok(found) = Manifest::verify(&changed, &keys(), NOW) {
            // A white space for another, or the like: what was signed is the same.
            assert_eq!(found.payload_digest(), payload, "byte {place}");
            assert_eq!(found.signers().len(), 2);
        }
        changed[place] ^= 1;
    }
    for length in (0..whole.len()).step_by(7) {
        assert!(Manifest::verify(&whole[..length], &keys(), NOW).is_err());
    }
}

/// Signed by both holders, and wrong nevertheless.
#[test]
fn a_signature_does_not_make_nonsense_valid() {
    let manifest = manifest(2, 1);
    let whole: Envelope = serde_json::from_slice(&signed(&manifest, &[1])).expect("reads");
    let text = String::from_utf8(whole.payload.0).expect("text");
    let cases = [
        (Code::StatementUnreadable, text.replacen('{', "{ ", 1)),
        (Code::StatementUnreadable, text.replacen("\"number\":2", "\"nomber\":2", 1)),
        (
            Code::StatementUnreadable,
            text.replacen("\"edition\":1,", "\"beta\":1,\"edition\":1,", 1),
        ),
        (
            Code::StatementType,
            text.replacen("in-toto.io/Statement/v1", "in-toto.io/Statement/v2", 1),
        ),
        (
            Code::StatementType,
            text.replacen("urn:sealtune:release:v1", "urn:sealtune:receipt:v1", 1),
        ),
        (
            Code::StatementType,
            text.replacen(
                "\"version\":1},\"predicateType\"",
                "\"version\":2},\"predicateType\"",
                1,
            ),
        ),
        (Code::Field, text.replacen("\"number\":2", "\"number\":0", 1)),
        (Code::Field, text.replacen("\"min_release\":1", "\"min_release\":3", 1)),
        (Code::Field, text.replacen(&"07".repeat(32), &"08".repeat(32), 1)),
        (Code::Field, text.replacen("\"profile\":\"prod\"", "\"profile\":\"dev\"", 1)),
    ];
    for (code, payload) in cases {
        assert_ne!(payload, text, "the case changes something");
        let mut envelope = Envelope::unsigned(payload.clone().into_bytes());
        for seed in [1, 2] {
            envelope.add_signature(key_id(&public(&key(seed))).to_string(), &key(seed));
        }
        let error = Manifest::verify(&bytes(&envelope), &keys(), NOW).expect_err(&payload);
        assert_eq!(error.entry(), code, "{error}");
    }
}

#[test]
fn values_out_of_their_limits_are_not_signed() {
    type Change = fn(&mut Manifest);
    let cases: [(&str, Change); 18] = [
        ("release", |m| m.release = "a b".into()),
        ("release", |m| m.release.clear()),
        ("number", |m| m.edition = 0),
        ("not_after", |m| m.not_after = m.not_before),
        ("not_after", |m| m.not_after = at(NOW + 4 * 366 * DAY)),
        ("images", |m| m.images.clear()),
        ("images", |m| m.images.push(m.images[0].clone())),
        ("images", |m| m.images[0].name = "\u{1b}[2J".into()),
        ("os_image", |m| m.images[0].os_image = Hex32::ZERO),
        ("cmdline", |m| m.images[0].cmdline = "x".repeat(2049)),
        ("reference", |m| m.images[0].kernel = m.images[0].initramfs),
        ("reference", |m| m.images[0].cmdline.push('x')),
        ("reference", |m| m.release = "9.9.9".into()),
        ("revoked", |m| m.revoked = vec![revoke(&[1; 32]), revoke(&[1; 32])]),
        ("revoked", |m| m.revoked = vec![revoke(&[1; 31])]),
        ("revoked", |m| m.revoked = vec![revoke(&[0; 32])]),
        ("revoked", |m| m.revoked = vec![revoke(&[7; 32])]),
        ("revoked", |m| {
            m.revoked = vec![revoke(&[1; 32])];
            m.revoked[0].reason = "line\nline".into();
        }),
    ];
    for (name, change) in cases {
        let mut manifest = manifest(1, 1);
        change(&mut manifest);
        match sign(&manifest, &key(1)) {
            Err(ReleaseError::Field { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    let mut empty = manifest(1, 1);
    if let Reference::Embedded(values) = &mut empty.images[0].reference {
        values.registers.clear();
    }
    assert_eq!(sign(&empty, &key(1)).expect_err("no rows").entry(), Code::Field);
}

#[test]
fn reference_values_beside_the_manifest_are_named_by_digest() {
    let mut manifest = manifest(1, 1);
    let Reference::Embedded(values) = manifest.images[0].reference.clone() else {
        panic!("embedded")
    };
    let file = values.to_bytes().expect("writes");
    manifest.images[0].reference = Reference::Sha256(crate::dsse::payload_digest(&file));
    let good = verified(&manifest);
    assert_eq!(good.reference_values().count(), 0);
    assert_eq!(good.admit_reference(&file).expect("named"), *values);
    let mut other = file.clone();
    other.push(b'\n');
    let error = good.admit_reference(&other).expect_err("another file");
    assert_eq!(error.entry(), Code::ReferenceOther);
    // Named, but of another image.
    manifest.images[0].cmdline.push('x');
    let error = verified(&manifest).admit_reference(&file).expect_err("another image's");
    assert_eq!(error.entry(), Code::Field);
}

#[test]
fn merging_takes_one_statement_only() {
    let one = signed(&manifest(1, 1), &[1]);
    let other = signed(&manifest(1, 2), &[2]);
    assert_eq!(merge(&one, &other).expect_err("two statements").entry(), Code::MergeOther);
    let mut edited: Envelope = serde_json::from_slice(&one).expect("reads");
    edited.signatures[0].sig.0[5] ^= 1;
    let error = merge(&one, &bytes(&edited)).expect_err("two signatures of one key");
    assert_eq!(error.entry(), Code::MergeConflict);
    assert_eq!(bytes(&merge(&one, &one).expect("merges")), one);
    assert_eq!(cosign(&one, &key(1)).expect_err("again").entry(), Code::SignedAlready);
}

#[test]
fn key_sets_that_prove_less_are_refused() {
    type Change = fn(&mut TrustedKeys);
    let cases: [(&str, Change); 8] = [
        ("version", |k| k.version = 2),
        ("threshold", |k| k.threshold = 1),
        ("threshold", |k| k.threshold = 4),
        ("threshold", |k| k.keys.retain(|key| key.holder == "ada")),
        ("keys", |k| {
            k.keys[1] = k.keys[0].clone();
            k.keys[1].holder = "eve".into();
        }),
        ("key_id", |k| k.keys[0].public_key = k.keys[1].public_key),
        ("holder", |k| k.keys[0].holder.clear()),
        ("keys", |k| k.keys = vec![k.keys[0].clone(); 65]),
    ];
    for (name, change) in cases {
        let mut set = keys();
        change(&mut set);
        let bytes = serde_json::to_vec(&set).expect("writes");
        match TrustedKeys::parse(&bytes) {
            Err(ReleaseError::KeysField { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
        let manifest = signed(&manifest(1, 1), &[1, 2]);
        assert!(Manifest::verify(&manifest, &set, NOW).is_err(), "also without parsing");
    }
    let good = serde_json::to_string(&keys()).expect("writes");
    assert_eq!(TrustedKeys::parse(good.as_bytes()).expect("reads"), keys());
    for text in [good.replacen('{', "{\"x\":1,", 1), good.replace("\"release\"", "\"receipt\"")] {
        let error = TrustedKeys::parse(text.as_bytes()).expect_err("closed");
        assert_eq!(error.entry(), Code::KeysUnreadable);
    }
}

/// RFC 8032's first test key. The id is what `openssl pkey -outform DER | sha256sum` gives for it.
#[test]
fn key_ids_are_those_of_other_tools() {
    let public: Hex32 =
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a".parse().expect("hex");
    assert_eq!(
        key_id(&public).to_string(),
        "06e3fd8fda29bb60ab59557de61edb0aecdb231134be30e75b455f8e1b792fa9"
    );
}

/// Files of version 1 as they were first written. `tests/scripts/test_release_manifest.py` reads them with other people's tools.
#[test]
fn the_samples_of_version_1_are_read_for_ever() {
    let set = TrustedKeys::parse(include_bytes!("samples/keys-v1.json")).expect("reads");
    assert_eq!(set, keys());
    let sample = include_bytes!("samples/manifest-v1.json");
    let mut expected = manifest(2, 1);
    expected.revoked = vec![revoke(&[0xab; 48])];
    let found = Manifest::verify(sample, &set, NOW).expect("verifies");
    assert_eq!(found.manifest(), &expected);
    let again = merge(&signed(&expected, &[1]), &signed(&expected, &[2])).expect("merges");
    assert_eq!(bytes(&again), sample.trim_ascii_end(), "signing is deterministic");
}

#[test]
fn nobody_is_taken_back() {
    let admit = |memory: &ReleaseMemory, manifests: &[&Manifest]| {
        let verified: Vec<_> = manifests.iter().map(|manifest| verified(manifest)).collect();
        memory.admit(&verified.iter().collect::<Vec<_>>())
    };
    let refused = |memory: &ReleaseMemory, manifests: &[&Manifest]| {
        admit(memory, manifests).expect_err("refused").entry()
    };
    let empty = ReleaseMemory::default();
    let (one, two) = (manifest(1, 1), manifest(2, 1));
    let seen = admit(&empty, &[&two, &one]).expect("both live");
    assert!(admit(&seen, &[&one]).is_ok(), "an older release that is still good");

    let edition_2 = manifest(1, 2);
    let newer = admit(&seen, &[&edition_2]).expect("newer");
    assert_eq!(refused(&newer, &[&one]), Code::RolledBack);
    assert_eq!(refused(&seen, &[&one, &edition_2]), Code::RolledBack, "whatever the order");
    assert_eq!(refused(&seen, &[&edition_2, &one]), Code::RolledBack);

    let mut twin = manifest(1, 1);
    twin.not_after = at(NOW + 91 * DAY);
    assert_eq!(refused(&seen, &[&twin]), Code::Equivocation);
    assert_eq!(refused(&empty, &[&one, &twin]), Code::Equivocation);

    let mut three = manifest(3, 1);
    three.min_release = 2;
    assert_eq!(refused(&empty, &[&one, &three]), Code::BelowMinimum);
    let risen = admit(&seen, &[&three]).expect("newer");
    assert_eq!(refused(&risen, &[&edition_2]), Code::BelowMinimum);
    assert!(admit(&risen, &[&two]).is_ok());
    assert!(!risen.releases.contains_key(&1), "what is too old is forgotten");
}

#[test]
fn what_was_revoked_stays_revoked() {
    let mut layered = manifest(1, 1);
    layered.images[0].initramfs.sha256 = FixedHex([8; 32]);
    layered.images[0].reference = Reference::Sha256(FixedHex([9; 32]));
    let old = verified(&layered);
    for digest in
        [&layered.images[0].os_image.0[..], &layered.images[0].kernel.sha384.0, &[8; 32], &[9; 32]]
    {
        let mut two = manifest(2, 1);
        two.images[0].os_image = FixedHex([6; 32]);
        two.images[0].reference = Reference::Sha256(FixedHex([5; 32]));
        two.images[0].kernel = two.images[0].initramfs;
        two.revoked = vec![revoke(digest)];
        let two = verified(&two);
        assert!(two.revocation(digest).is_some() && two.revocation(&[1; 32]).is_none());
        let memory = ReleaseMemory::default().admit(&[&two]).expect("newer");
        assert!(memory.revocation(digest).is_some());
        assert_eq!(memory.admit(&[&old]).expect_err("revoked").entry(), Code::Revoked);
        let text = memory.to_bytes().expect("writes");
        let read = ReleaseMemory::parse(&text).expect("reads");
        assert_eq!(read, memory);
        // A later manifest that is silent about it changes nothing.
        let later = verified(&{
            let mut later = manifest(3, 1);
            later.images[0].kernel.sha384 = FixedHex([4; 48]);
            later.images[0].os_image = FixedHex([3; 32]);
            later.images[0].reference = Reference::Sha256(FixedHex([2; 32]));
            later
        });
        let memory = read.admit(&[&later]).expect("unrelated");
        assert!(memory.revocation(digest).is_some());
    }
    let values = values(Profile::Prod);
    let mut memory = ReleaseMemory::default();
    assert!(memory.check_reference(&values).is_ok());
    memory.revoked.insert(values.registers[0].mrtd.to_string(), "old firmware".into());
    let error = memory.check_reference(&values).expect_err("its firmware is revoked");
    assert_eq!(error.entry(), Code::Revoked);
}

#[test]
fn memories_are_closed_and_bounded() {
    let good = r#"{"min_release":0,"releases":{},"revoked":{},"version":1}"#;
    assert_eq!(ReleaseMemory::parse(good.as_bytes()).expect("reads"), ReleaseMemory::default());
    for (from, to, code) in [
        ("\"version\":1", "\"version\":2", Code::MemoryField),
        ("\"version\":1", "\"version\":1,\"x\":1", Code::MemoryUnreadable),
        ("\"revoked\":{}", "\"revoked\":{\"00\":\"x\"}", Code::MemoryField),
        ("\"releases\":{}", "\"releases\":{\"-1\":1}", Code::MemoryUnreadable),
        ("{\"min", "\"min", Code::MemoryUnreadable),
    ] {
        let text = good.replacen(from, to, 1);
        assert_eq!(ReleaseMemory::parse(text.as_bytes()).expect_err(&text).entry(), code);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Any manifest that may be signed verifies as itself, from either half.
    #[test]
    fn what_is_signed_is_what_is_verified(
        number in 1_u32..1000,
        edition in 1_u32..1000,
        days in 1_u64..900,
        revoked in proptest::collection::btree_set(any::<[u8; 32]>(), 0..8),
        aml_sandbox: bool,
    ) {
        let mut manifest = manifest(number, edition);
        manifest.not_after = at(NOW + days * DAY);
        manifest.images[0].aml_sandbox = aml_sandbox;
        manifest.revoked = revoked.iter().map(|digest| revoke(digest)).collect();
        let merged = merge(&signed(&manifest, &[3]), &signed(&manifest, &[1])).expect("merges");
        let found = Manifest::verify(&bytes(&merged), &keys(), NOW).expect("verifies");
        prop_assert_eq!(found.manifest(), &manifest);
        let values = found.reference_values().collect::<Vec<&ReferenceValues>>();
        prop_assert_eq!(values.len(), 1);
        prop_assert_eq!(found.host_code(values[0]) == HostCode::Confined, aml_sandbox);
        fuzz_manifest(&bytes(&merged));
        fuzz_manifest(&found_payload(&merged));
    }
}

fn found_payload(envelope: &Envelope) -> Vec<u8> {
    envelope.payload.0.clone()
}
