//! The owner's key file, and telling what it is when it is something else.
//!
//! ```json
//! {"version": 1, "kind": "sealtune-owner-key", "signing": "<64 hex>", "suite": "x-wing", "recipient": "<64 hex>"}
//! ```

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::{
    OwnerKey, RecipientKeyPair, Secret, Suite, encoding, hpke::HpkeError, owner::OwnerError,
};

/// The largest file that is looked at.
pub const MAX_KEY_FILE: usize = 64 * 1024;

const KIND: &str = "sealtune-owner-key";
const VERSION: u64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error(transparent)]
    Owner(#[from] OwnerError),
    #[error(transparent)]
    Hpke(#[from] HpkeError),
    #[error("read an owner key: this is an owner key of the wrong kind ({0})")]
    WrongKind(WrongKind),
    #[error("read an owner key from a file of {length} bytes, the limit is {MAX_KEY_FILE}")]
    TooLong { length: usize },
    #[error("read an owner key of version {0}, this program knows version 1")]
    Version(u64),
    #[error("read an owner key: its fields are not as this program writes them (line {line})")]
    Malformed { line: usize },
}

impl KeyFileError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Owner(error) => error.code(),
            Self::Hpke(error) => error.code(),
            Self::WrongKind(_) => "ST-SEAL-25",
            Self::TooLong { .. } => "ST-SEAL-26",
            Self::Version(_) => "ST-SEAL-27",
            Self::Malformed { .. } => "ST-SEAL-28",
        }
    }

    pub fn fix(&self) -> &'static str {
        match self {
            Self::Owner(error) => error.fix(),
            Self::Hpke(error) => error.fix(),
            Self::WrongKind(kind) => kind.fix(),
            Self::TooLong { .. } => "name the file that `sealtune key new` wrote",
            Self::Version(_) => {
                "use the release of sealtune that wrote the key file, or a later one"
            }
            Self::Malformed { .. } => "restore the key file from its backup",
        }
    }
}

/// Things that people have instead of an owner key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongKind {
    Empty,
    OwnerPublic,
    RawHex,
    WalletJson,
    EthereumKeystore,
    RecoveryPhrase,
    SshPrivate,
    SshPublic,
    Putty,
    PemEd25519,
    PemX25519,
    PemSecp256k1,
    PemEc,
    PemRsa,
    PemPrivate,
    PemPublic,
    Certificate,
    Pgp,
    Age,
    JsonWebKey,
    SolanaKeypair,
    OtherJson,
    Unknown,
}

impl fmt::Display for WrongKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty file",
            Self::OwnerPublic => "the public half of an owner key",
            Self::RawHex => "a bare private key in hex",
            Self::WalletJson => {
                "a wallet's JSON with a private key in it, as 0g-compute-cli keeps it"
            }
            Self::EthereumKeystore => "an encrypted Ethereum keystore",
            Self::RecoveryPhrase => "a recovery phrase of a wallet",
            Self::SshPrivate => "an SSH private key",
            Self::SshPublic => "an SSH public key",
            Self::Putty => "a PuTTY private key",
            Self::PemEd25519 => "an ed25519 private key in PEM",
            Self::PemX25519 => "an X25519 private key in PEM",
            Self::PemSecp256k1 => "a secp256k1 private key in PEM",
            Self::PemEc => "an elliptic curve private key of another curve in PEM",
            Self::PemRsa => "an RSA private key in PEM",
            Self::PemPrivate => "a private key in PEM",
            Self::PemPublic => "a public key in PEM",
            Self::Certificate => "a certificate",
            Self::Pgp => "a PGP key or message",
            Self::Age => "an age key",
            Self::JsonWebKey => "a JSON Web Key",
            Self::SolanaKeypair => "an ed25519 key pair as a list of numbers (Solana)",
            Self::OtherJson => "JSON of some other kind",
            Self::Unknown => "no key format that this program knows",
        })
    }
}

impl WrongKind {
    fn fix(self) -> &'static str {
        match self {
            Self::OwnerPublic => {
                "name the private key file that `sealtune key new` wrote beside it"
            }
            Self::RawHex | Self::WalletJson | Self::PemSecp256k1 => {
                "import the 64 hex digits of the secp256k1 key into a new owner key file"
            }
            Self::EthereumKeystore | Self::RecoveryPhrase => {
                "export the account's private key from the wallet and import that, or make a new owner key"
            }
            _ => "make an owner key with `sealtune key new`, and name the file that it wrote",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    version: u64,
    kind: String,
    #[serde(deserialize_with = "secret_string")]
    signing: Secret<String>,
    suite: Suite,
    #[serde(deserialize_with = "secret_string")]
    recipient: Secret<String>,
}

fn secret_string<'de, D: Deserializer<'de>>(from: D) -> Result<Secret<String>, D::Error> {
    String::deserialize(from).map(Secret::new)
}

impl OwnerKey {
    /// The text of the key file. It holds both private keys: to be written with mode 0600.
    pub fn to_file_text(&self) -> Secret<String> {
        let signing = Zeroizing::new(hex::encode(self.signing_bytes().expose()));
        let recipient = Zeroizing::new(hex::encode(self.recipient().private().expose()));
        // Reserved once: a string that grows leaves unwiped copies behind.
        let mut text = String::with_capacity(512);
        for part in [
            "{\n  \"version\": 1,\n  \"kind\": \"",
            KIND,
            "\",\n  \"signing\": \"",
            &signing,
            "\",\n  \"suite\": \"",
            self.recipient().suite().name(),
            "\",\n  \"recipient\": \"",
            &recipient,
            "\"\n}\n",
        ] {
            text.push_str(part);
        }
        Secret::new(text)
    }

    pub fn from_file_text(text: &str) -> Result<Self, KeyFileError> {
        if text.len() > MAX_KEY_FILE {
            return Err(KeyFileError::TooLong { length: text.len() });
        }
        if let Some(wrong) = recognise(text) {
            return Err(KeyFileError::WrongKind(wrong));
        }
        // The parser's own message could quote the file: only the line is told.
        let file: KeyFile =
            serde_json::from_str(text).map_err(|error| malformed_or_version(text, error.line()))?;
        if file.kind != KIND {
            return Err(KeyFileError::WrongKind(WrongKind::OtherJson));
        }
        if file.version != VERSION {
            return Err(KeyFileError::Version(file.version));
        }
        let signing = secret_key(&file.signing).ok_or(OwnerError::BadSigningKey)?;
        let recipient =
            secret_key(&file.recipient).ok_or(HpkeError::BadPrivateKey { suite: file.suite })?;
        let pair = RecipientKeyPair::from_private(file.suite, recipient)?;
        Ok(Self::from_parts(&signing, pair)?)
    }
}

fn secret_key(text: &Secret<String>) -> Option<Secret<[u8; 32]>> {
    encoding::hex_array(text.expose()).map(Secret::new)
}

/// A later version may have other fields: then the version is the cause.
fn malformed_or_version(text: &str, line: usize) -> KeyFileError {
    #[derive(Deserialize)]
    struct AnyVersion {
        version: u64,
    }
    match serde_json::from_str::<AnyVersion>(text) {
        Ok(any) if any.version != VERSION => KeyFileError::Version(any.version),
        _ => KeyFileError::Malformed { line },
    }
}

/// What `text` is, if it is clearly not an owner key.
fn recognise(text: &str) -> Option<WrongKind> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('{') || text.starts_with('[') {
        return recognise_json(text);
    }
    if text.is_empty() {
        return Some(WrongKind::Empty);
    }
    if let Some(start) = text.find("-----BEGIN ") {
        return Some(recognise_pem(text.get(start..).unwrap_or_default()));
    }
    let starts_with_any = |starts: &[&str]| starts.iter().any(|start| text.starts_with(start));
    if starts_with_any(&["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"]) {
        return Some(WrongKind::SshPublic);
    }
    if text.starts_with("PuTTY-User-Key-File") {
        return Some(WrongKind::Putty);
    }
    if text.contains("AGE-SECRET-KEY-1") || text.starts_with("age1") {
        return Some(WrongKind::Age);
    }
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(WrongKind::RawHex);
    }
    let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    let words = text.split_whitespace().count();
    if [12, 15, 18, 21, 24].contains(&words) && text.split_whitespace().all(is_word) {
        return Some(WrongKind::RecoveryPhrase);
    }
    Some(WrongKind::Unknown)
}

fn recognise_pem(text: &str) -> WrongKind {
    let label = text
        .strip_prefix("-----BEGIN ")
        .and_then(|rest| rest.split_once("-----"))
        .map_or("", |(label, _)| label);
    if label.starts_with("PGP ") {
        return WrongKind::Pgp;
    }
    match label {
        "OPENSSH PRIVATE KEY" => WrongKind::SshPrivate,
        "RSA PRIVATE KEY" => WrongKind::PemRsa,
        "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => WrongKind::Certificate,
        _ if label.ends_with("PUBLIC KEY") => WrongKind::PemPublic,
        _ if label.ends_with("PRIVATE KEY") => recognise_pem_private(text, label),
        _ => WrongKind::Unknown,
    }
}

fn recognise_pem_private(text: &str, label: &str) -> WrongKind {
    let body: Zeroizing<String> = Zeroizing::new(
        text.lines()
            .skip(1)
            .take_while(|line| !line.starts_with("-----END"))
            .flat_map(|line| line.trim().chars())
            .collect(),
    );
    let der = Zeroizing::new(STANDARD.decode(body.as_bytes()).unwrap_or_default());
    let has = |oid: &[u8]| der.windows(oid.len()).any(|window| window == oid);
    if has(&[0x06, 3, 0x2b, 0x65, 0x70]) {
        WrongKind::PemEd25519
    } else if has(&[0x06, 3, 0x2b, 0x65, 0x6e]) {
        WrongKind::PemX25519
    } else if has(&[0x06, 5, 0x2b, 0x81, 0x04, 0x00, 0x0a]) {
        WrongKind::PemSecp256k1
    } else if label == "EC PRIVATE KEY" || has(&[0x06, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]) {
        WrongKind::PemEc
    } else if has(&[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]) {
        WrongKind::PemRsa
    } else {
        WrongKind::PemPrivate
    }
}

/// Looks at the names of the members only, so that no value of a foreign key file is kept.
fn recognise_json(text: &str) -> Option<WrongKind> {
    use serde::de::IgnoredAny;
    if text.starts_with('[') {
        let numbers = serde_json::from_str::<Vec<u8>>(text).map(Zeroizing::new);
        return Some(match numbers {
            Ok(numbers) if [32, 64].contains(&numbers.len()) => WrongKind::SolanaKeypair,
            _ => WrongKind::OtherJson,
        });
    }
    let Ok(members) = serde_json::from_str::<std::collections::BTreeMap<String, IgnoredAny>>(text)
    else {
        // Not JSON after all: a damaged owner key says so in its first lines.
        return if text.contains(KIND) { None } else { Some(WrongKind::Unknown) };
    };
    let has = |names: &[&str]| {
        members.keys().any(|member| names.iter().any(|name| member.eq_ignore_ascii_case(name)))
    };
    if has(&["kind"]) && (has(&["signing"]) || text.contains(KIND)) {
        None
    } else if has(&["crypto"]) && has(&["version", "address", "id"]) {
        Some(WrongKind::EthereumKeystore)
    } else if has(&["kty"]) {
        Some(WrongKind::JsonWebKey)
    } else if has(&["signing"]) && has(&["recipient"]) {
        Some(WrongKind::OwnerPublic)
    } else if has(&["privateKey", "private_key", "mnemonic", "secretKey", "signerPrivateKey"]) {
        Some(WrongKind::WalletJson)
    } else {
        Some(WrongKind::OtherJson)
    }
}

/// Fuzz entry: any text gives a key or an error, and a key survives its own file.
pub fn fuzz_key_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = OwnerKey::from_file_text(text) {
        let again = OwnerKey::from_file_text(key.to_file_text().expose());
        assert_eq!(again.ok().map(|again| again.public()), Some(key.public()));
    }
}

#[cfg(test)]
mod tests;
