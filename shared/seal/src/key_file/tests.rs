use super::*;

/// A key file of version 1, as the first release wrote it. It must be readable for ever.
const VERSION_1: &str = r#"{
  "version": 1,
  "kind": "sealtune-owner-key",
  "signing": "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
  "suite": "x25519",
  "recipient": "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"
}
"#;

fn wrong_kind(text: &str) -> WrongKind {
    match OwnerKey::from_file_text(text) {
        Err(error @ KeyFileError::WrongKind(kind)) => {
            assert_eq!(error.code(), "ST-SEAL-25");
            assert!(error.to_string().contains("owner key of the wrong kind"));
            assert!(!error.fix().is_empty());
            kind
        }
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn the_first_version_stays_readable_and_is_written_the_same() {
    let key = OwnerKey::from_file_text(VERSION_1).expect("read");
    assert_eq!(key.address().expect("address"), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    assert_eq!(
        key.public().recipient.to_hex(),
        "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a"
    );
    assert_eq!(key.to_file_text().expose(), VERSION_1);
}

#[test]
fn new_keys_of_both_suites_survive_their_file() {
    for suite in Suite::ALL {
        let key = OwnerKey::generate(suite).expect("generate");
        let text = key.to_file_text();
        assert!(text.expose().capacity() == 512, "it did not grow");
        let again = OwnerKey::from_file_text(text.expose()).expect("read");
        assert_eq!(again.public(), key.public());
        fuzz_key_file(text.expose().as_bytes());
    }
}

#[test]
fn other_key_files_are_called_by_their_name() {
    let pem = |label: &str, der: &str| {
        let body = STANDARD.encode(hex::decode(der).expect("hex"));
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    let numbers = format!("[{}]", vec!["7"; 64].join(","));
    let owner = OwnerKey::from_file_text(VERSION_1).expect("read");
    let public = serde_json::to_string(&owner.public()).expect("json");
    let raw = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    let phrase = "test test test test test test test test test test test junk";
    let table = [
        ("", WrongKind::Empty),
        (" \n", WrongKind::Empty),
        (public.as_str(), WrongKind::OwnerPublic),
        (raw, WrongKind::RawHex),
        (&format!("0x{raw}\n"), WrongKind::RawHex),
        (&format!(r#"{{"address":"0x0","privateKey":"0x{raw}"}}"#), WrongKind::WalletJson),
        (
            r#"{"address":"00","crypto":{"cipher":"aes-128-ctr"},"id":"x","version":3}"#,
            WrongKind::EthereumKeystore,
        ),
        (phrase, WrongKind::RecoveryPhrase),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n",
            WrongKind::SshPrivate,
        ),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA me@here\n", WrongKind::SshPublic),
        ("ecdsa-sha2-nistp256 AAAA me@here\n", WrongKind::SshPublic),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", WrongKind::Putty),
        (&pem("PRIVATE KEY", "302e020100300506032b657004220420"), WrongKind::PemEd25519),
        (&pem("PRIVATE KEY", "302e020100300506032b656e04220420"), WrongKind::PemX25519),
        (&pem("EC PRIVATE KEY", "30740201010420a00706052b8104000a"), WrongKind::PemSecp256k1),
        (&pem("EC PRIVATE KEY", "307702010104200a06082a8648ce3d030107"), WrongKind::PemEc),
        (
            &pem("PRIVATE KEY", "308187020100301306072a8648ce3d020106082a8648ce3d030107"),
            WrongKind::PemEc,
        ),
        (&pem("PRIVATE KEY", "020100300d06092a864886f70d010101"), WrongKind::PemRsa),
        (&pem("RSA PRIVATE KEY", "3000"), WrongKind::PemRsa),
        (&pem("ENCRYPTED PRIVATE KEY", "3000"), WrongKind::PemPrivate),
        (&pem("PUBLIC KEY", "3000"), WrongKind::PemPublic),
        (&pem("CERTIFICATE", "3000"), WrongKind::Certificate),
        (&pem("PGP PRIVATE KEY BLOCK", "00"), WrongKind::Pgp),
        ("# created: today\nAGE-SECRET-KEY-1QQQ\n", WrongKind::Age),
        (r#"{"kty":"OKP","crv":"Ed25519","d":"x"}"#, WrongKind::JsonWebKey),
        (&numbers, WrongKind::SolanaKeypair),
        ("[1,2]", WrongKind::OtherJson),
        (r#"{"a":1}"#, WrongKind::OtherJson),
        (r#"{"kind":"sealtune-owner-key-backup","a":1}"#, WrongKind::OtherJson),
        ("{ not json", WrongKind::Unknown),
        ("something else\n", WrongKind::Unknown),
    ];
    for (text, expected) in table {
        if text.contains("backup") {
            assert!(OwnerKey::from_file_text(text).is_err());
            continue;
        }
        assert_eq!(wrong_kind(text), expected, "{text}");
        fuzz_key_file(text.as_bytes());
    }
}

#[test]
fn a_damaged_owner_key_is_told_from_a_foreign_one_and_never_quoted() {
    let signing = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    let changes = [
        (r#""version": 1"#, r#""version": 2"#, "ST-SEAL-27"),
        (r#""version": 1"#, r#""version": 2, "extra": "x""#, "ST-SEAL-27"),
        (r#""version": 1"#, r#""version": "1""#, "ST-SEAL-28"),
        (r#""version": 1"#, r#""version": 1, "extra": "x""#, "ST-SEAL-28"),
        (r#""suite": "x25519""#, r#""suite": "x448""#, "ST-SEAL-28"),
        (r#""suite": "x25519","#, "", "ST-SEAL-28"),
        ("}", "", "ST-SEAL-28"),
        ("sealtune-owner-key", "sealtune-other-key", "ST-SEAL-25"),
        ("ac0974be", "AC0974BE", "ST-SEAL-20"),
        ("8057991e", "8057991", "ST-SEAL-13"),
        (signing, &"0".repeat(64), "ST-SEAL-20"),
    ];
    for (from, to, code) in changes {
        let text = VERSION_1.replacen(from, to, 1);
        assert_ne!(text, VERSION_1);
        let error = OwnerKey::from_file_text(&text).expect_err(to);
        assert_eq!(error.code(), code, "{from} -> {to}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("0974be") && !shown.contains("57991"), "{shown}");
    }
    // A value of the wrong type must not be quoted by the parser's message.
    let misplaced = VERSION_1.replacen("\"x25519\"", "\"ac0974bec39a17e3\"", 1);
    let error = OwnerKey::from_file_text(&misplaced).expect_err("suite");
    assert!(!format!("{error} {error:?}").contains("ac0974be"));
    let long = format!("{VERSION_1}{}", " ".repeat(MAX_KEY_FILE));
    assert_eq!(OwnerKey::from_file_text(&long).expect_err("long").code(), "ST-SEAL-26");
}
