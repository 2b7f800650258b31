//! The package cache: what a request resolved to, the downloaded files, and unpacking them.
//!
//! ```text
//! <cache>/lock                     one builder at a time
//! <cache>/apt-<suite>/             private apt root
//! <cache>/resolved/<key>.json      suite + packages -> exact files with their SHA-256
//! <cache>/debs/                    the files
//! ```
//! A resolved request is used again without the network until `--refresh`. apt checked each file against
//! the signed index when it fetched it; the record's SHA-256 is checked each time it is used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::apt::{self, AptRoot, Candidate, Suite};
use crate::digest::{read_bounded, sha256_file, sha256_hex};
use crate::error::ImageError;
use crate::output::write_atomically;
use crate::sources::{self, Mirror};

const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];
const WORK_PREFIX: &str = "work-";
const MAX_RECORD_BYTES: u64 = 4 << 20;

/// Where packages come from, as the command line said it.
#[derive(Debug, Clone)]
pub struct Origin {
    pub mirror: Option<String>,
    pub security_mirror: Option<String>,
    pub keyring: Option<PathBuf>,
    pub refresh: bool,
}

/// One package of a resolved request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub file: String,
    pub sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    suite: String,
    request: Vec<String>,
    packages: Vec<Package>,
}

/// An open, locked cache.
#[derive(Debug)]
pub struct PackageCache {
    dir: PathBuf,
    origin: Origin,
    _lock: fs::File,
}

impl PackageCache {
    /// Waits for another builder that uses the same cache.
    ///
    /// # Errors
    /// The directory cannot be made or locked.
    pub fn open(dir: &Path, origin: Origin) -> Result<Self, ImageError> {
        fs::create_dir_all(dir).map_err(ImageError::io("make", dir))?;
        let dir = fs::canonicalize(dir).map_err(ImageError::io("find", dir))?;
        for sub in ["resolved", "debs"] {
            let sub = dir.join(sub);
            fs::create_dir_all(&sub).map_err(ImageError::io("make", &sub))?;
        }
        let lock_path = dir.join("lock");
        let lock = fs::File::create(&lock_path).map_err(ImageError::io("open", &lock_path))?;
        if lock.try_lock().is_err() {
            eprintln!("waiting for another build that uses {}", dir.display());
            lock.lock().map_err(ImageError::io("lock", &lock_path))?;
        }
        remove_leftovers(&dir);
        Ok(Self { dir, origin, _lock: lock })
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A place to work in, below the cache so that nothing big lands in a small `/tmp`.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub fn work_dir(&self) -> Result<tempfile::TempDir, ImageError> {
        tempfile::Builder::new()
            .prefix(WORK_PREFIX)
            .tempdir_in(&self.dir)
            .map_err(ImageError::io("write in", &self.dir))
    }

    /// The dependency closure of `request` on an empty machine, less what `keep` refuses, downloaded.
    ///
    /// # Errors
    /// See the variants of [`ImageError`] about apt, keyring and mirror.
    pub fn fetch(
        &self,
        suite: &Suite,
        request: &[String],
        keep: impl Fn(&Candidate, &[Candidate]) -> bool,
    ) -> Result<Vec<Package>, ImageError> {
        let mut request = request.to_vec();
        request.sort();
        request.dedup();
        let key = request_key(suite, &request);
        let record_path = self.dir.join("resolved").join(format!("{key}.json"));
        if !self.origin.refresh
            && let Some(packages) = self.cached(&record_path)
        {
            return Ok(packages);
        }
        let root = self.prepare_root(suite)?;
        eprintln!("resolving {} in {}", request.join(" "), suite.name());
        self.apt(&root, &apt::update_arguments(), &self.dir)?;
        let simulation = self
            .apt(&root, &apt::closure_arguments(suite, &request), &self.dir)
            .map_err(|error| match error {
                ImageError::AptFailed { detail, .. } => ImageError::Unresolved {
                    packages: request.join(" "),
                    suite: suite.name().to_owned(),
                    detail,
                },
                other => other,
            })?;
        let closure = apt::parse_inst_lines(&simulation);
        let wanted: Vec<Candidate> =
            closure.iter().filter(|candidate| keep(candidate, &closure)).cloned().collect();
        if wanted.is_empty() {
            return Err(ImageError::Unresolved {
                packages: request.join(" "),
                suite: suite.name().to_owned(),
                detail: "apt would install nothing".to_owned(),
            });
        }
        let debs = self.dir.join("debs");
        eprintln!("fetching {} packages", wanted.len());
        self.apt(&root, &apt::download_arguments(&wanted), &debs)?;
        let packages = wanted
            .iter()
            .map(|candidate| {
                let file = candidate.file_name();
                let sha256 = sha256_file(&debs.join(&file)).map_err(|error| {
                    ImageError::PackageFile { file: file.clone(), detail: error.to_string() }
                })?;
                Ok(Package {
                    name: candidate.name.clone(),
                    version: candidate.version.clone(),
                    file,
                    sha256,
                })
            })
            .collect::<Result<Vec<_>, ImageError>>()?;
        let record = Record { version: 1, suite: suite.name().to_owned(), request, packages };
        let text = serde_json::to_vec_pretty(&record).map_err(|error| ImageError::Encode {
            what: "a package record",
            detail: error.to_string(),
        })?;
        write_atomically(&record_path, &text)?;
        Ok(record.packages)
    }

    /// # Errors
    /// `dpkg-deb` is missing or refuses the file.
    pub fn unpack(&self, packages: &[Package], into: &Path) -> Result<(), ImageError> {
        for package in packages {
            let deb = self.dir.join("debs").join(&package.file);
            let output = Command::new("dpkg-deb")
                .args(apt::unpack_arguments(&deb, into))
                .env("LC_ALL", "C")
                .stdin(Stdio::null())
                .output()
                .map_err(|source| ImageError::ProgramMissing {
                    program: "dpkg-deb".to_owned(),
                    source,
                })?;
            if !output.status.success() {
                return Err(ImageError::Unpack {
                    package: package.file.clone(),
                    detail: last_lines(&output.stderr),
                });
            }
        }
        Ok(())
    }

    fn cached(&self, record_path: &Path) -> Option<Vec<Package>> {
        let bytes = read_bounded(record_path, MAX_RECORD_BYTES).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        let debs = self.dir.join("debs");
        let intact = record.version == 1
            && record.packages.iter().all(|package| {
                !package.file.contains('/')
                    && sha256_file(&debs.join(&package.file))
                        .is_ok_and(|sha256| sha256 == package.sha256)
            });
        intact.then_some(record.packages)
    }

    fn prepare_root(&self, suite: &Suite) -> Result<AptRoot, ImageError> {
        let root =
            AptRoot { root: self.dir.join(format!("apt-{}", suite.name())), suite: suite.clone() };
        let keyring = self.keyring()?;
        let mirror = self.mirror()?;
        for directory in root.directories() {
            fs::create_dir_all(&directory).map_err(ImageError::io("make", &directory))?;
        }
        let config = root.config(runs_as_root(), &machine_proxies())?;
        let sources = root.sources(&mirror, &keyring)?;
        for (path, text) in [
            (root.config_file(), config),
            (root.sources_file(), sources),
            (root.status_file(), String::new()),
        ] {
            fs::write(&path, text).map_err(ImageError::io("write", &path))?;
        }
        Ok(root)
    }

    fn keyring(&self) -> Result<PathBuf, ImageError> {
        let candidates: Vec<PathBuf> = match &self.origin.keyring {
            Some(given) => vec![given.clone()],
            None => KEYRINGS.iter().map(PathBuf::from).collect(),
        };
        candidates
            .iter()
            .find_map(|path| fs::canonicalize(path).ok().filter(|path| path.is_file()))
            .ok_or_else(|| {
                let names: Vec<String> =
                    candidates.iter().map(|path| path.display().to_string()).collect();
                ImageError::KeyringMissing { looked_for: names.join(", ") }
            })
    }

    fn mirror(&self) -> Result<Mirror, ImageError> {
        let checked = |url: &String| {
            if sources::is_plain_uri(url) {
                Ok(url.trim_end_matches('/').to_owned())
            } else {
                Err(ImageError::BadArgument {
                    argument: url.clone(),
                    detail: "a mirror is a URL that apt understands".to_owned(),
                })
            }
        };
        let security = self.origin.security_mirror.as_ref().map(checked).transpose()?;
        if let Some(url) = &self.origin.mirror {
            return Ok(Mirror { archive: checked(url)?, security });
        }
        let mut mirror = sources::choose_mirror(&machine_sources()).ok_or(ImageError::NoMirror)?;
        if security.is_some() {
            mirror.security = security;
        }
        Ok(mirror)
    }

    fn apt(
        &self,
        root: &AptRoot,
        arguments: &[String],
        directory: &Path,
    ) -> Result<String, ImageError> {
        let output = Command::new("apt-get")
            .args(arguments)
            .current_dir(directory)
            .env("APT_CONFIG", root.config_file())
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .map_err(|source| ImageError::ProgramMissing {
                program: "apt-get".to_owned(),
                source,
            })?;
        if !output.status.success() {
            return Err(ImageError::AptFailed {
                program: "apt-get",
                detail: last_lines(&output.stderr),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What an interrupted build left; whoever holds the lock is alone here.
fn remove_leftovers(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX) {
            // Only room on the disk is at stake.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn request_key(suite: &Suite, request: &[String]) -> String {
    let mut text = suite.name().to_owned();
    for name in request {
        text.push('\n');
        text.push_str(name);
    }
    sha256_hex(text.as_bytes())[..24].to_owned()
}

/// # Errors
/// A name that is not a Debian package name.
pub fn check_package_name(name: &str) -> Result<(), ImageError> {
    let fits = (2..=128).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    // A trailing + or - would tell apt to install or remove something else.
    if fits && !name.ends_with('-') && (!name.ends_with('+') || name.ends_with("++")) {
        return Ok(());
    }
    Err(ImageError::BadArgument {
        argument: name.to_owned(),
        detail: "not a Debian package name".to_owned(),
    })
}

fn machine_sources() -> Vec<sources::Source> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut more: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        more.sort();
        files.extend(more);
    }
    let mut all = Vec::new();
    for file in files {
        let Ok(bytes) = read_bounded(&file, sources::MAX_SOURCES_BYTES as u64) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => all.extend(sources::parse_deb822(&text)),
            Some("list") => all.extend(sources::parse_one_line(&text)),
            _ => {}
        }
    }
    all
}

fn machine_proxies() -> Vec<String> {
    Command::new("apt-config")
        .arg("dump")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map(|output| apt::proxy_lines(&String::from_utf8_lossy(&output.stdout)))
        .unwrap_or_default()
}

fn runs_as_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The end of a program's messages: enough to see the cause.
#[must_use]
pub fn last_lines(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offline(dir: &Path) -> PackageCache {
        let origin = Origin {
            mirror: None,
            security_mirror: None,
            keyring: Some("/nonexistent".into()),
            refresh: false,
        };
        PackageCache::open(dir, origin).unwrap()
    }

    #[test]
    fn package_names() {
        for good in ["python3", "libstdc++6", "g++", "linux-image-cloud-amd64", "libc6"] {
            assert!(check_package_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "-y", "perl-", "perl+", "a b", "x=1", "X11", "p/sid", "é"] {
            assert!(check_package_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_record_is_used_offline_until_a_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = offline(dir.path());
        let suite = Suite::parse("trixie").unwrap();
        let request = vec!["hello".to_owned()];
        fs::write(dir.path().join("debs/hello_1_amd64.deb"), b"deb").unwrap();
        let record = Record {
            version: 1,
            suite: "trixie".into(),
            request: request.clone(),
            packages: vec![Package {
                name: "hello".into(),
                version: "1".into(),
                file: "hello_1_amd64.deb".into(),
                sha256: sha256_hex(b"deb"),
            }],
        };
        let path =
            dir.path().join("resolved").join(format!("{}.json", request_key(&suite, &request)));
        fs::write(path, serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(cache.fetch(&suite, &request, |_, _| true).unwrap(), record.packages);

        fs::write(dir.path().join("debs/hello_1_amd64.deb"), b"dex").unwrap();
        let error = cache.fetch(&suite, &request, |_, _| true).unwrap_err();
        assert_eq!(error.code(), "ST-IMAGE-01", "{error}");
    }

    #[test]
    fn what_an_interrupted_build_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("work-dead")).unwrap();
        let cache = offline(dir.path());
        assert!(!dir.path().join("work-dead").exists());
        assert!(cache.work_dir().unwrap().path().starts_with(cache.dir()));
    }

    #[test]
    fn the_key_names_suite_and_packages() {
        let trixie = Suite::parse("trixie").unwrap();
        let sid = Suite::parse("sid").unwrap();
        let a = request_key(&trixie, &["ab".to_owned()]);
        assert_ne!(a, request_key(&sid, &["ab".to_owned()]));
        assert_ne!(a, request_key(&trixie, &["a".to_owned(), "b".to_owned()]));
    }
}
