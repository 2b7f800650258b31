//! Test only: every error code of this crate has one cause and stands in the README.

const README: &str = include_str!("../README.md");
const SOURCES: [(&str, &str); 9] = [
    ("canonical", include_str!("canonical.rs")),
    ("hpke", include_str!("hpke.rs")),
    ("owner", include_str!("owner.rs")),
    ("key_file", include_str!("key_file.rs")),
    ("owner_call", include_str!("owner_call.rs")),
    ("release", include_str!("release.rs")),
    ("stream", include_str!("stream.rs")),
    ("envelope and result", concat!(include_str!("envelope.rs"), include_str!("result_object.rs"))),
    ("frames and commitment", concat!(include_str!("frames.rs"), include_str!("commitment.rs"))),
];

/// Codes as `fn code` gives them: after an arrow, so that tests which expect one do not count.
fn codes(source: &str) -> Vec<&str> {
    let given = source.split("=> \"ST-SEAL-").skip(1);
    given.filter_map(|rest| rest.get(..2)).collect()
}

#[test]
fn each_code_is_given_once_and_explained_in_the_readme() {
    let mut all: Vec<&str> = SOURCES.iter().flat_map(|(_, source)| codes(source)).collect();
    assert!(all.len() > 50, "the search found {} codes", all.len());
    all.sort_unstable();
    for pair in all.windows(2) {
        assert_ne!(pair[0], pair[1], "ST-SEAL-{} has two causes", pair[0]);
    }
    let mut explained: Vec<&str> =
        README.lines().filter_map(|line| line.strip_prefix("| ST-SEAL-")?.get(..2)).collect();
    explained.sort_unstable();
    assert_eq!(all, explained);
}

#[test]
fn each_source_of_codes_is_searched() {
    for (name, source) in SOURCES {
        assert!(!codes(source).is_empty(), "{name}");
    }
}
