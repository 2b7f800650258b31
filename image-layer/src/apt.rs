//! apt in a private root: its own configuration, lists, status and cache, so that it reads nothing
//! of this machine's package state, changes none of it, and runs as an ordinary user.
//! What to run is decided by pure functions; [`crate::packages`] runs it.

use std::path::{Path, PathBuf};

use crate::error::ImageError;
use crate::sources::Mirror;

/// Where the private root of one suite lies.
#[derive(Debug, Clone)]
pub struct AptRoot {
    pub root: PathBuf,
    pub suite: Suite,
}

/// `trixie`, `trixie-backports`, …: the release to read and the release to prefer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite {
    name: String,
}

impl Suite {
    /// # Errors
    /// The name has other characters than lower-case letters, digits and hyphens.
    pub fn parse(name: &str) -> Result<Self, ImageError> {
        let fits = !name.is_empty()
            && name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits {
            Ok(Self { name: name.to_owned() })
        } else {
            Err(ImageError::BadArgument {
                argument: name.to_owned(),
                detail: "a suite is lower-case letters, digits and hyphens".to_owned(),
            })
        }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The release under a backports suite: `trixie` of `trixie-backports`.
    #[must_use]
    pub fn base(&self) -> &str {
        self.name.strip_suffix("-backports").unwrap_or(&self.name)
    }

    fn has_security(&self) -> bool {
        !matches!(self.base(), "sid" | "unstable" | "experimental")
    }
}

/// A package as apt would install it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    pub name: String,
    pub version: String,
    pub arch: String,
}

impl Candidate {
    /// apt's name for the downloaded file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.arch)
    }
}

impl AptRoot {
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.root.join("apt.conf")
    }

    #[must_use]
    pub fn sources_file(&self) -> PathBuf {
        self.root.join("etc/sources.list")
    }

    #[must_use]
    pub fn status_file(&self) -> PathBuf {
        self.root.join("status")
    }

    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        [
            "etc/apt.conf.d",
            "etc/preferences.d",
            "etc/sources.list.d",
            "state/lists/partial",
            "cache/archives/partial",
        ]
        .iter()
        .map(|sub| self.root.join(sub))
        .collect()
    }

    /// The whole configuration. `Dir::Etc` lies in the root, so the machine's hooks and pins are not read.
    ///
    /// # Errors
    /// The path has a character that apt's configuration cannot quote.
    pub fn config(&self, as_root: bool, proxies: &[String]) -> Result<String, ImageError> {
        let root = quotable(&self.root)?;
        let mut text = format!(
            "Dir \"{root}/\";\n\
             Dir::Etc \"{root}/etc\";\n\
             Dir::State \"{root}/state\";\n\
             Dir::State::status \"{root}/status\";\n\
             Dir::Cache \"{root}/cache\";\n\
             Dir::Etc::trusted \"/dev/null\";\n\
             Dir::Etc::trustedparts \"/dev/null/\";\n\
             APT::Architecture \"amd64\";\n\
             APT::Architectures {{ \"amd64\"; }};\n\
             APT::Install-Recommends \"false\";\n\
             APT::Install-Suggests \"false\";\n\
             APT::Get::AllowUnauthenticated \"false\";\n\
             Acquire::AllowInsecureRepositories \"false\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"3\";\n"
        );
        if as_root {
            // The sandbox user could not write into a cache below the caller's home.
            text.push_str("APT::Sandbox::User \"root\";\n");
        }
        for line in proxies {
            text.push_str(line);
            text.push('\n');
        }
        Ok(text)
    }

    /// # Errors
    /// The keyring's path cannot stand in a sources file.
    pub fn sources(&self, mirror: &Mirror, keyring: &Path) -> Result<String, ImageError> {
        let keyring = quotable(keyring)?;
        let base = self.suite.base();
        let mut suites = vec![base.to_owned()];
        if self.suite.name() != base {
            suites.push(self.suite.name().to_owned());
        }
        let mut text: String = suites
            .iter()
            .map(|suite| format!("deb [signed-by={keyring}] {} {suite} main\n", mirror.archive))
            .collect();
        if let Some(security) = mirror.security.as_ref().filter(|_| self.suite.has_security()) {
            text.push_str(&format!("deb [signed-by={keyring}] {security} {base}-security main\n"));
        }
        Ok(text)
    }
}

fn quotable(path: &Path) -> Result<&str, ImageError> {
    path.to_str()
        .filter(|text| {
            text.starts_with('/')
                && !text.contains(|c: char| {
                    c.is_whitespace() || c.is_control() || "\"[];{}#".contains(c)
                })
        })
        .ok_or_else(|| ImageError::BadArgument {
            argument: path.display().to_string(),
            detail: "apt needs an absolute path without blanks, quotes and brackets".to_owned(),
        })
}

#[must_use]
pub fn update_arguments() -> Vec<String> {
    ["-q", "-o", "APT::Update::Error-Mode=any", "update"].map(str::to_owned).to_vec()
}

/// A simulated installation on an empty machine: its `Inst` lines are the dependency closure.
#[must_use]
pub fn closure_arguments(suite: &Suite, packages: &[String]) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["-q", "-s", "-y", "--no-install-recommends"].map(str::to_owned).to_vec();
    if suite.name() != suite.base() {
        // Only where asked for: `-t` on the base suite would put it before its security updates.
        arguments.extend(["-t".to_owned(), suite.name().to_owned()]);
    }
    arguments.extend(["install".to_owned(), "--".to_owned()]);
    arguments.extend(packages.iter().cloned());
    arguments
}

#[must_use]
pub fn download_arguments(candidates: &[Candidate]) -> Vec<String> {
    let mut arguments: Vec<String> = ["-q", "download", "--"].map(str::to_owned).to_vec();
    arguments.extend(
        candidates.iter().map(|candidate| format!("{}={}", candidate.name, candidate.version)),
    );
    arguments
}

#[must_use]
pub fn unpack_arguments(deb: &Path, into: &Path) -> Vec<std::ffi::OsString> {
    vec!["-x".into(), deb.into(), into.into()]
}

/// Of `apt-config dump`: the proxies that this machine's apt uses, which the private one needs too.
#[must_use]
pub fn proxy_lines(dump: &str) -> Vec<String> {
    dump.lines()
        .filter(|line| {
            let key = line.split([' ', '"']).next().unwrap_or_default().to_ascii_lowercase();
            (key.starts_with("acquire::http::proxy") || key.starts_with("acquire::https::proxy"))
                && line.ends_with("\";")
                && !line.ends_with(" \"\";")
        })
        .map(str::to_owned)
        .collect()
}

/// `Inst NAME [OLD] (VERSION ORIGIN [ARCH])` lines of a simulated installation, sorted.
#[must_use]
pub fn parse_inst_lines(output: &str) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = output.lines().filter_map(parse_inst).collect();
    candidates.sort();
    candidates.dedup();
    candidates
}

fn parse_inst(line: &str) -> Option<Candidate> {
    let rest = line.strip_prefix("Inst ")?;
    let name = rest.split_whitespace().next()?;
    let name = name.split(':').next()?;
    let inside = rest.split_once('(')?.1.rsplit_once(')')?.0;
    let version = inside.split_whitespace().next()?;
    let arch = inside.rsplit_once('[')?.1.split(']').next()?;
    let plain = |text: &str, more: &str| {
        !text.is_empty()
            && text.len() < 200
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    if !plain(name, "+-.")
        || !plain(version, "+-.~:")
        || !plain(arch, "-")
        || name.starts_with(['-', '.'])
    {
        return None;
    }
    Some(Candidate { name: name.to_owned(), version: version.to_owned(), arch: arch.to_owned() })
}

/// apt's output is text from outside: any text gives file names that stay in their directory.
pub fn fuzz_inst_lines(data: &[u8]) {
    for candidate in parse_inst_lines(&String::from_utf8_lossy(data)) {
        assert!(!candidate.file_name().contains('/') && !candidate.file_name().starts_with('.'));
        assert!(!candidate.name.starts_with('-'));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn root() -> AptRoot {
        AptRoot { root: "/cache/apt".into(), suite: Suite { name: "trixie-backports".into() } }
    }

    #[test]
    fn suites() {
        for good in ["trixie", "trixie-backports", "sid"] {
            assert_eq!(Suite::parse(good).unwrap().name(), good);
        }
        for bad in ["", "-t", "trixie main", "../x", "Trixie", "a/b"] {
            assert!(Suite::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Suite::parse("trixie-backports").unwrap().base(), "trixie");
    }

    #[test]
    fn sources_hold_the_base_suite_the_backports_and_security() {
        let mirror = Mirror {
            archive: "http://m.example/debian".into(),
            security: Some("http://m.example/sec".into()),
        };
        assert_eq!(
            root().sources(&mirror, Path::new("/k.gpg")).unwrap(),
            "deb [signed-by=/k.gpg] http://m.example/debian trixie main\n\
             deb [signed-by=/k.gpg] http://m.example/debian trixie-backports main\n\
             deb [signed-by=/k.gpg] http://m.example/sec trixie-security main\n"
        );
        let sid = AptRoot { root: "/c".into(), suite: Suite { name: "sid".into() } };
        assert_eq!(
            sid.sources(&mirror, Path::new("/k.gpg")).unwrap(),
            "deb [signed-by=/k.gpg] http://m.example/debian sid main\n"
        );
    }

    #[test]
    fn configuration_is_private_and_signed_only() {
        let text = root().config(false, &[]).unwrap();
        for line in [
            "Dir \"/cache/apt/\";",
            "Acquire::AllowInsecureRepositories \"false\";",
            "Dir::Etc::trusted \"/dev/null\";",
        ] {
            assert!(text.contains(line), "{line}");
        }
        assert!(!text.contains("Sandbox"));
        let proxied =
            root().config(true, &["Acquire::http::Proxy \"http://p.example:1\";".into()]).unwrap();
        assert!(proxied.contains("Sandbox::User \"root\"") && proxied.contains("p.example"));
        let odd = AptRoot { root: "/a \"b".into(), suite: Suite { name: "sid".into() } };
        assert!(odd.config(false, &[]).is_err());
    }

    #[test]
    fn arguments() {
        let suite = Suite { name: "trixie-backports".into() };
        assert_eq!(
            closure_arguments(&suite, &["linux-image-cloud-amd64".into()]).join(" "),
            "-q -s -y --no-install-recommends -t trixie-backports install -- linux-image-cloud-amd64"
        );
        let stable = Suite { name: "trixie".into() };
        assert!(!closure_arguments(&stable, &[]).contains(&"-t".to_owned()));
        let busybox = Candidate {
            name: "busybox-static".into(),
            version: "1:1.37.0-6+b9".into(),
            arch: "amd64".into(),
        };
        assert_eq!(busybox.file_name(), "busybox-static_1%3a1.37.0-6+b9_amd64.deb");
        assert_eq!(
            download_arguments(&[busybox]).join(" "),
            "-q download -- busybox-static=1:1.37.0-6+b9"
        );
        assert_eq!(unpack_arguments(Path::new("/a.deb"), Path::new("/r")), ["-x", "/a.deb", "/r"]);
        assert_eq!(update_arguments().last().map(String::as_str), Some("update"));
    }

    #[test]
    fn inst_lines_of_a_simulation() {
        let output = "NOTE: This is only a simulation!\n\
            Inst libgcc-s1 (14.2.0-19 Debian:13.7/stable [amd64]) []\n\
            Inst busybox-static [1.0] (1:1.37.0-6+b9 Debian:13.7/stable, Debian-Security:13/stable-security [amd64])\n\
            Conf libgcc-s1 (14.2.0-19 Debian:13.7/stable [amd64])\n\
            Inst linux-base (4.17~bpo13+1 Debian Backports:stable-backports [all])\n\
            Inst ../evil (1 x [all])\n";
        let names: Vec<String> =
            parse_inst_lines(output).iter().map(Candidate::file_name).collect();
        assert_eq!(
            names,
            [
                "busybox-static_1%3a1.37.0-6+b9_amd64.deb",
                "libgcc-s1_14.2.0-19_amd64.deb",
                "linux-base_4.17~bpo13+1_all.deb"
            ]
        );
    }

    #[test]
    fn proxies_are_carried_over_and_nothing_else() {
        let dump = "Acquire::http::Proxy \"http://p.example:3128\";\nAcquire::https::Proxy \"\";\n\
                    Acquire::Check-Valid-Until \"false\";\nAcquire::http::Proxy::m.example \"DIRECT\";\n";
        assert_eq!(
            proxy_lines(dump),
            [
                "Acquire::http::Proxy \"http://p.example:3128\";",
                "Acquire::http::Proxy::m.example \"DIRECT\";"
            ]
        );
    }

    proptest! {
        #[test]
        fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..512)) {
            fuzz_inst_lines(&data);
        }
    }
}
