//! This machine's apt sources, read only to learn which Debian mirror it uses.
//! Formats: sources.list(5), one-line and deb822.

/// Where packages come from: the archive, and its security archive when this machine knows one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub archive: String,
    pub security: Option<String>,
}

/// One binary ("deb") source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub uri: String,
    pub suites: Vec<String>,
    pub components: Vec<String>,
}

/// A file bigger than this is not a list of sources.
pub const MAX_SOURCES_BYTES: usize = 1 << 20;

const DEBIAN_SUITES: [&str; 13] = [
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "experimental",
];

/// `deb [options] URI suite component…`; comments, `deb-src` and anything odd are skipped.
#[must_use]
pub fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    rest = rest.trim_start();
    if let Some(options) = rest.strip_prefix('[') {
        rest = &options[options.find(']')? + 1..];
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    let uri = words.next()?;
    let suite = words.next()?;
    Some(Source { uri, suites: vec![suite], components: words.collect() })
}

/// Stanzas separated by empty lines; `Enabled: no` and `Types` without `deb` are skipped.
#[must_use]
pub fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(stanza_sources(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            fields.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn stanza_sources(fields: &[(String, String)]) -> Vec<Source> {
    let words = |key: &str| -> Vec<String> {
        fields
            .iter()
            .filter(|(name, _)| name == key)
            .flat_map(|(_, value)| value.split_whitespace().map(str::to_owned))
            .collect()
    };
    let enabled = !words("enabled").iter().any(|word| word.eq_ignore_ascii_case("no"));
    if !enabled || !words("types").iter().any(|word| word == "deb") {
        return Vec::new();
    }
    words("uris")
        .into_iter()
        .map(|uri| Source { uri, suites: words("suites"), components: words("components") })
        .collect()
}

/// The Debian archive among the machine's sources. Other vendors name their suites after Debian's
/// too, so a URI that ends in `/debian` goes before the rest, and `main` must be a component.
#[must_use]
pub fn choose_mirror(sources: &[Source]) -> Option<Mirror> {
    let is_debian = |suite: &String| DEBIAN_SUITES.contains(&suite.as_str());
    let mut archives: Vec<&Source> = sources
        .iter()
        .filter(|source| source.components.iter().any(|component| component == "main"))
        .filter(|source| source.suites.iter().any(is_debian))
        .filter(|source| is_plain_uri(&source.uri))
        .collect();
    archives.sort_by_key(|source| !source.uri.trim_end_matches('/').ends_with("/debian"));
    let archive = archives.first()?.uri.trim_end_matches('/').to_owned();
    let security = sources
        .iter()
        .filter(|source| is_plain_uri(&source.uri))
        .find(|source| {
            source.suites.iter().any(|suite| {
                suite.strip_suffix("-security").is_some_and(|base| DEBIAN_SUITES.contains(&base))
            })
        })
        .map(|source| source.uri.trim_end_matches('/').to_owned());
    Some(Mirror { archive, security })
}

/// A URI that can stand in a sources file without quoting.
#[must_use]
pub fn is_plain_uri(uri: &str) -> bool {
    uri.contains(":/")
        && uri.len() <= 1024
        && uri
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'[' | b']' | b'#'))
}

/// Hostile text must not make the parsers panic or yield a URI that breaks out of its line.
pub fn fuzz_sources(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for source in parse_one_line(&text).into_iter().chain(parse_deb822(&text)) {
        assert!(!source.uri.contains(char::is_whitespace));
    }
    let mut all = parse_one_line(&text);
    all.extend(parse_deb822(&text));
    if let Some(mirror) = choose_mirror(&all) {
        assert!(
            is_plain_uri(&mirror.archive)
                || mirror.archive.is_empty()
                || !mirror.archive.contains(' ')
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_line_sources() {
        let text = "# deb http://old.example/debian bookworm main\n\
                    deb-src http://mirror.example/debian trixie main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian trixie main contrib # x\n\
                    debugging\n\
                    deb http://mirror.example/debian-security trixie-security main\n";
        let sources = parse_one_line(text);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert_eq!(
            choose_mirror(&sources),
            Some(Mirror {
                archive: "http://mirror.example/debian".into(),
                security: Some("http://mirror.example/debian-security".into()),
            })
        );
    }

    #[test]
    fn deb822_with_comments_continuations_and_disabled_stanzas() {
        let text = "Types: deb\n# a note\nURIs: http://mirror.example/debian/\nSuites: bookworm\n bookworm-updates\n\
                    Components: main\n\nEnabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: trixie\n\
                    Components: main\n\nTypes: deb-src\nURIs: http://src.example/debian\nSuites: trixie\nComponents: main\n";
        let sources = parse_deb822(text);
        assert_eq!(sources.len(), 1);
        assert_eq!(sources[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(
            choose_mirror(&sources),
            Some(Mirror { archive: "http://mirror.example/debian".into(), security: None })
        );
    }

    #[test]
    fn another_vendors_debian_suite_is_not_the_archive() {
        let sources = parse_one_line(
            "deb https://vendor.example/apt bookworm main\n\
             deb http://mirror.example/debian bookworm main\n\
             deb https://vendor.example/docker bookworm stable\n",
        );
        assert_eq!(
            choose_mirror(&sources).map(|mirror| mirror.archive).as_deref(),
            Some("http://mirror.example/debian")
        );
    }

    #[test]
    fn ubuntu_has_no_debian_mirror() {
        assert_eq!(
            choose_mirror(&parse_one_line(
                "deb http://mirror.example/ubuntu noble main universe\n"
            )),
            None
        );
    }

    #[test]
    fn a_mirror_list_file_is_kept_as_it_is() {
        let sources = parse_deb822(
            "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: trixie\nComponents: main\n",
        );
        assert_eq!(
            choose_mirror(&sources).map(|mirror| mirror.archive).as_deref(),
            Some("mirror+file:///etc/apt/mirrors/debian.list")
        );
    }

    proptest! {
        #[test]
        fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..512)) {
            fuzz_sources(&data);
        }
    }
}
