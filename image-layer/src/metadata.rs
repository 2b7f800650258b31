//! The files that describe an image directory. `metadata.json`, `sha256sum.txt` and `digest.txt` are
//! dstack's format (its own keys keep their meaning, ours are in the object `sealtune`);
//! `reference-values.json` is ours: what a verifier compares a quote with. Its form is that of `sealtune-evidence`; MRTD and
//! RTMR0 belong to a host's firmware and a VM's shape, `sealtune-image measure` adds them.

use std::path::Path;

use sealtune_evidence::reference::{FileDigests, ImageFacts, ImageReference};
use serde::{Deserialize, Serialize};

use crate::digest::{read_bounded, sha256_file, sha256_hex};
use crate::error::ImageError;
use crate::profile::Profile;

pub const METADATA: &str = "metadata.json";
pub const SUMS: &str = "sha256sum.txt";
pub const DIGEST: &str = "digest.txt";
pub const REFERENCE_VALUES: &str = "reference-values.json";
pub const KERNEL: &str = "bzImage";
pub const INITRAMFS: &str = "initramfs.cpio.zst";

const MAX_TEXT_BYTES: u64 = 1 << 20;
const MAX_LISTED_FILES: usize = 64;

/// `metadata.json`. Foreign images have more keys, so unknown ones are let through here only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios: Option<String>,
    pub kernel: String,
    pub initrd: String,
    pub cmdline: String,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub is_dev: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealtune: Option<Provenance>,
}

/// What went into one of our images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    pub profile: Profile,
    pub suite: String,
    pub kernel_package: String,
    pub kernel_package_version: String,
    pub kernel_release: String,
    pub agent_sha256: String,
    pub modules: Vec<String>,
}

/// `reference-values.json` of an image made from these bytes.
///
/// # Errors
/// The command line has no canonical form.
pub fn reference_values(
    profile: Profile,
    release: &str,
    cmdline: &str,
    kernel: &[u8],
    initramfs: &[u8],
) -> Result<ImageReference, ImageError> {
    ImageReference::of(ImageFacts {
        release: release.to_owned(),
        profile: profile.into(),
        cmdline: cmdline.to_owned(),
        kernel: FileDigests::of(kernel),
        initramfs: FileDigests::of(initramfs),
        layers: vec![],
    })
    .map_err(|error| ImageError::Encode { what: "the reference values", detail: error.to_string() })
}

/// `<hex>  <name>` lines, in the order given.
#[must_use]
pub fn sums_text(files: &[(&str, String)]) -> String {
    files.iter().map(|(name, sha256)| format!("{sha256}  {name}\n")).collect()
}

#[must_use]
pub fn digest_text(sums: &str) -> String {
    format!("{}\n", sha256_hex(sums.as_bytes()))
}

/// Exactly two fields a line, flat names only, never the list itself.
///
/// # Errors
/// Anything else.
pub fn parse_sums(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut files = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [sha256, name] = fields[..] else {
            return Err("a line has not exactly a digest and a name".to_owned());
        };
        let is_digest =
            sha256.len() == 64 && sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_digest || !is_flat_name(name) || name == SUMS || name == DIGEST {
            return Err("a line has no digest, or no plain file name".to_owned());
        }
        files.push((name.to_owned(), sha256.to_owned()));
        if files.len() > MAX_LISTED_FILES {
            return Err("it lists too many files".to_owned());
        }
    }
    Ok(files)
}

/// A name that stays in its directory.
#[must_use]
pub fn is_flat_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains(['/', '\\', '\0'])
}

/// # Errors
/// Missing, too long, or not the JSON it should be.
pub fn read_metadata(dir: &Path) -> Result<Metadata, ImageError> {
    let metadata: Metadata = read_json(dir, METADATA)?;
    for name in [Some(&metadata.kernel), Some(&metadata.initrd), metadata.bios.as_ref()]
        .into_iter()
        .flatten()
    {
        if !is_flat_name(name) {
            return Err(bad(dir, format!("{METADATA} names {name:?}, which is not a file in it")));
        }
    }
    Ok(metadata)
}

/// # Errors
/// Missing, too long, or not the JSON it should be.
pub fn read_json<T: serde::de::DeserializeOwned>(dir: &Path, name: &str) -> Result<T, ImageError> {
    let bytes = read_bounded(&dir.join(name), MAX_TEXT_BYTES)
        .map_err(|error| bad(dir, error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| bad(dir, format!("{name}: {error}")))
}

/// One file of an image, hashed again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    pub name: String,
    pub expected: String,
    pub found: Option<String>,
}

impl Checked {
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.found.as_ref() == Some(&self.expected)
    }
}

/// Hashes all listed files again, and the list itself against `digest.txt`.
///
/// # Errors
/// The list is missing or malformed, or does not list kernel, initramfs and metadata.
pub fn check_directory(dir: &Path) -> Result<Vec<Checked>, ImageError> {
    let sums = read_bounded(&dir.join(SUMS), MAX_TEXT_BYTES)
        .map_err(|error| bad(dir, error.to_string()))?;
    let text = std::str::from_utf8(&sums).map_err(|_| bad(dir, format!("{SUMS} is not text")))?;
    let listed = parse_sums(text).map_err(|detail| bad(dir, format!("{SUMS}: {detail}")))?;
    let metadata = read_metadata(dir)?;
    for name in [METADATA, &metadata.kernel, &metadata.initrd] {
        if !listed.iter().any(|(listed, _)| listed == name) {
            return Err(bad(dir, format!("{SUMS} does not list {name}")));
        }
    }
    let digest =
        read_bounded(&dir.join(DIGEST), 256).map_err(|error| bad(dir, error.to_string()))?;
    let mut checked = vec![Checked {
        name: SUMS.to_owned(),
        expected: String::from_utf8_lossy(&digest).trim().to_owned(),
        found: Some(sha256_hex(&sums)),
    }];
    for (name, expected) in listed {
        let found = sha256_file(&dir.join(&name)).ok();
        checked.push(Checked { name, expected, found });
    }
    Ok(checked)
}

fn bad(dir: &Path, detail: String) -> ImageError {
    ImageError::BadImage { path: dir.to_path_buf(), detail }
}

/// Names in any list stay in the directory; a list that parses is written back the same.
pub fn fuzz_sums(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(files) = parse_sums(text) {
        assert!(files.iter().all(|(name, _)| is_flat_name(name)));
        let again: Vec<(&str, String)> =
            files.iter().map(|(name, sum)| (name.as_str(), sum.clone())).collect();
        assert_eq!(parse_sums(&sums_text(&again)).as_ref(), Ok(&files));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn sample() -> Metadata {
        Metadata {
            bios: None,
            kernel: KERNEL.into(),
            initrd: INITRAMFS.into(),
            cmdline: Profile::Dev.command_line().into(),
            version: "0.1.0".into(),
            is_dev: true,
            sealtune: Some(Provenance {
                profile: Profile::Dev,
                suite: "trixie-backports".into(),
                kernel_package: "linux-image-7.3".into(),
                kernel_package_version: "7.3-1".into(),
                kernel_release: "7.3".into(),
                agent_sha256: "00".repeat(32),
                modules: vec!["vsock".into()],
            }),
        }
    }

    fn write_image(dir: &Path) {
        fs::write(dir.join(METADATA), serde_json::to_vec(&sample()).unwrap()).unwrap();
        fs::write(dir.join(KERNEL), b"kernel").unwrap();
        fs::write(dir.join(INITRAMFS), b"initramfs").unwrap();
        let sum = |name: &str| sha256_file(&dir.join(name)).unwrap();
        let sums = sums_text(&[
            (KERNEL, sum(KERNEL)),
            (INITRAMFS, sum(INITRAMFS)),
            (METADATA, sum(METADATA)),
        ]);
        fs::write(dir.join(DIGEST), digest_text(&sums)).unwrap();
        fs::write(dir.join(SUMS), sums).unwrap();
    }

    #[test]
    fn a_whole_image_is_right_and_each_change_is_named() {
        let dir = tempfile::tempdir().unwrap();
        write_image(dir.path());
        assert!(check_directory(dir.path()).unwrap().iter().all(Checked::is_right));
        for name in [KERNEL, INITRAMFS] {
            let before = fs::read(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name), b"other").unwrap();
            let wrong: Vec<String> = check_directory(dir.path())
                .unwrap()
                .into_iter()
                .filter(|checked| !checked.is_right())
                .map(|checked| checked.name)
                .collect();
            assert_eq!(wrong, [name]);
            fs::remove_file(dir.path().join(name)).unwrap();
            assert!(!check_directory(dir.path()).unwrap().iter().all(Checked::is_right));
            fs::write(dir.path().join(name), before).unwrap();
        }
        let sums = fs::read_to_string(dir.path().join(SUMS)).unwrap();
        let without_kernel: String = sums.lines().skip(1).map(|line| format!("{line}\n")).collect();
        fs::write(dir.path().join(SUMS), &without_kernel).unwrap();
        assert!(check_directory(dir.path()).is_err(), "a list without the kernel proves nothing");
        fs::write(dir.path().join(SUMS), format!("{sums}{}  extra\n", "0".repeat(64))).unwrap();
        assert!(!check_directory(dir.path()).unwrap()[0].is_right(), "the list itself is checked");
    }

    #[test]
    fn lists_with_paths_are_refused() {
        let sum = "0".repeat(64);
        for bad in [
            format!("{sum}  ../x\n"),
            format!("{sum}  a/b\n"),
            format!("{sum}  {SUMS}\n"),
            format!("{sum}\n"),
            format!("{sum}  a b\n"),
            "zz  a\n".to_owned(),
            format!("{}  a\n", sum.to_uppercase().replace('0', "A")),
        ] {
            assert!(parse_sums(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_dstack_description_is_read_too() {
        let text = r#"{"bios":"ovmf.fd","kernel":"bzImage","cmdline":"console=ttyS0","initrd":"initramfs.cpio.gz",
            "rootfs":"rootfs.img.verity","version":"0.5.5","git_revision":"x","shared_ro":true,"is_dev":false}"#;
        let metadata: Metadata = serde_json::from_str(text).unwrap();
        assert_eq!((metadata.bios.as_deref(), metadata.sealtune), (Some("ovmf.fd"), None));
    }

    #[test]
    fn reference_values_of_a_sample() {
        let line = Profile::Prod.command_line();
        let values =
            reference_values(Profile::Prod, "0.1.0", line, b"kernel", b"initramfs").unwrap();
        let text = serde_json::to_string(&values).unwrap();
        assert_eq!(ImageReference::parse(text.as_bytes()).unwrap(), values);
        assert_eq!(values.simulated_layout_1.events.len(), 3);
        assert!(ImageReference::parse(text.replacen("release", "relaese", 1).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..256)) {
            fuzz_sums(&data);
        }

        #[test]
        fn lists_round_trip(names in proptest::collection::vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}", 0..8)) {
            let files: Vec<(&str, String)> = names.iter().map(|name| (name.as_str(), sha256_hex(name.as_bytes()))).collect();
            fuzz_sums(sums_text(&files).as_bytes());
            prop_assert_eq!(parse_sums(&sums_text(&files)).unwrap().len(), names.len());
        }
    }
}
