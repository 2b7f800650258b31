//! Looking for a secret wherever the host could find it.

use std::path::{Path, PathBuf};

/// Files that were looked through.
#[derive(Debug, Default)]
pub struct Haystack {
    pub files: usize,
    pub bytes: usize,
    found: Vec<(PathBuf, String)>,
}

/// Panics if one of the secrets stands, as it is, in hex or in base64, in a file below `folder`.
#[track_caller]
pub fn assert_nowhere(folder: &Path, secrets: &[&str]) -> Haystack {
    let mut needles = Vec::new();
    for secret in secrets {
        assert!(secret.len() >= 16, "too short to mean anything: {secret}");
        needles.push((format!("{secret} as text"), secret.as_bytes().to_vec()));
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        needles.push((format!("{secret} in hex"), hex.into_bytes()));
        // In base64 the bytes between depend on where the secret begins among three.
        for shift in 0..3 {
            let inner = secret.get(shift..).unwrap_or_default();
            let whole = inner.len() / 3 * 3;
            let text = base64(inner.as_bytes().get(..whole).unwrap_or_default());
            needles.push((format!("{secret} in base64"), text.into_bytes()));
        }
    }
    let mut haystack = Haystack::default();
    haystack.search(folder, &needles);
    assert!(haystack.files > 0, "nothing was looked through in {}", folder.display());
    assert!(haystack.found.is_empty(), "{:?}", haystack.found);
    haystack
}

impl Haystack {
    fn search(&mut self, path: &Path, needles: &[(String, Vec<u8>)]) {
        let Ok(metadata) = std::fs::symlink_metadata(path) else { return };
        if metadata.is_dir() {
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                self.search(&entry.path(), needles);
            }
        } else if metadata.is_file() {
            let bytes = std::fs::read(path).unwrap_or_default();
            self.files += 1;
            self.bytes += bytes.len();
            for (name, needle) in needles {
                if bytes.windows(needle.len()).any(|window| window == needle.as_slice()) {
                    self.found.push((path.to_owned(), name.clone()));
                }
            }
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks_exact(3) {
        let number = three.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        for shift in [18, 12, 6, 0] {
            text.push(char::from(LETTERS[(number >> shift) as usize & 63]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_whole_triples() {
        assert_eq!(base64(b"sealtune!"), "c2VhbHR1bmUh");
    }

    fn found(text: &str) -> bool {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join("file"), text).expect("write");
        let path = folder.path().to_owned();
        std::panic::catch_unwind(|| assert_nowhere(&path, &["canary-0123456789"])).is_err()
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        assert!(!found("nothing here"));
        assert!(found("xxcanary-0123456789xx"));
        assert!(found("63616e6172792d30313233343536373839"));
        // "ab" before it moves it within its triple.
        assert!(found("YWJjYW5hcnktMDEyMzQ1Njc4OQ=="));
        assert!(found("Y2FuYXJ5LTAxMjM0NTY3ODk="));
    }
}
