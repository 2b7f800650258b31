//! `inspect`, `verify`, `diff`, and how a build is told to a person.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use sealtune_evidence::reference::ImageReference;
use serde::Serialize;

use crate::digest::read_bounded;
use crate::error::ImageError;
use crate::image::Report;
use crate::metadata::{
    Checked, DIGEST, Metadata, REFERENCE_VALUES, check_directory, read_json, read_metadata,
    reference_values,
};
use crate::profile::Profile;

/// What an image directory says of itself.
#[derive(Debug, Serialize)]
pub struct Inspection {
    pub digest: String,
    pub metadata: Metadata,
    /// Images that we did not make have none.
    pub reference_values: Option<ImageReference>,
    pub files: BTreeMap<String, u64>,
}

/// # Errors
/// It is not an image directory.
pub fn inspect(dir: &Path) -> Result<Inspection, ImageError> {
    let metadata = read_metadata(dir)?;
    let digest = read_bounded(&dir.join(DIGEST), 256).map_err(|error| ImageError::BadImage {
        path: dir.to_path_buf(),
        detail: error.to_string(),
    })?;
    let reference_values = if dir.join(REFERENCE_VALUES).is_file() {
        Some(read_json(dir, REFERENCE_VALUES)?)
    } else {
        None
    };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(ImageError::io("read", dir))?.flatten() {
        if let (Some(name), Ok(meta)) = (entry.file_name().to_str(), entry.metadata()) {
            files.insert(name.to_owned(), meta.len());
        }
    }
    Ok(Inspection {
        digest: String::from_utf8_lossy(&digest).trim().to_owned(),
        metadata,
        reference_values,
        files,
    })
}

#[derive(Debug, Serialize)]
pub struct Verdict {
    pub intact: bool,
    pub checked: Vec<Checked>,
}

/// # Errors
/// It is not an image directory.
pub fn verify(dir: &Path) -> Result<Verdict, ImageError> {
    let mut checked = check_directory(dir)?;
    if dir.join(REFERENCE_VALUES).is_file() {
        // The reference values are not in dstack's list, but all of them follow from files that are.
        let found: ImageReference = read_json(dir, REFERENCE_VALUES)?;
        let metadata = read_metadata(dir)?;
        let read = |name: &str| read_bounded(&dir.join(name), crate::image::MAX_KERNEL_BYTES);
        let expected = reference_values(
            if metadata.is_dev { Profile::Dev } else { Profile::Prod },
            &metadata.version,
            &metadata.cmdline,
            &read(&metadata.kernel)?,
            &read(&metadata.initrd)?,
        )?;
        let digest = |values: &ImageReference| {
            crate::image::json(values).map(|bytes| crate::digest::sha256_hex(&bytes))
        };
        checked.push(Checked {
            name: REFERENCE_VALUES.to_owned(),
            expected: digest(&expected)?,
            found: Some(digest(&found)?),
        });
    }
    Ok(Verdict { intact: checked.iter().all(Checked::is_right), checked })
}

/// One thing that differs; a side that has none says `null`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub what: String,
    pub a: Option<String>,
    pub b: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Difference {
    pub same: bool,
    pub changes: Vec<Change>,
}

/// # Errors
/// One of them is not an image directory.
pub fn diff(a: &Path, b: &Path) -> Result<Difference, ImageError> {
    let (a, b) = (facts(a)?, facts(b)?);
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let changes: Vec<Change> = names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name))
        .map(|name| Change { what: name.clone(), a: a.get(name).cloned(), b: b.get(name).cloned() })
        .collect();
    Ok(Difference { same: changes.is_empty(), changes })
}

fn facts(dir: &Path) -> Result<BTreeMap<String, String>, ImageError> {
    let inspection = inspect(dir)?;
    let mut facts = BTreeMap::from([("digest".to_owned(), inspection.digest)]);
    for checked in check_directory(dir)? {
        facts.insert(
            format!("file {}", checked.name),
            checked.found.unwrap_or_else(|| "missing".to_owned()),
        );
    }
    let metadata = inspection.metadata;
    facts.insert("cmdline".to_owned(), metadata.cmdline);
    facts.insert("version".to_owned(), metadata.version);
    if let Some(ours) = metadata.sealtune {
        facts.insert("profile".to_owned(), ours.profile.to_string());
        facts.insert("suite".to_owned(), ours.suite);
        facts.insert(
            "kernel".to_owned(),
            format!("{} {}", ours.kernel_package, ours.kernel_package_version),
        );
        facts.insert("agent".to_owned(), ours.agent_sha256);
        for module in ours.modules {
            facts.insert(format!("module {module}"), "in".to_owned());
        }
    }
    if let Some(values) = inspection.reference_values {
        facts.insert("rtmr1".to_owned(), values.simulated_layout_1.rtmr1.to_string());
        facts.insert("rtmr2".to_owned(), values.simulated_layout_1.rtmr2.to_string());
    }
    Ok(facts)
}

#[must_use]
pub fn build_text(report: &Report) -> String {
    let mut text = String::new();
    let width = report.parts.iter().map(|part| part.what.len()).max().unwrap_or(0);
    for part in &report.parts {
        let _infallible = writeln!(text, "{:width$}  {:>10}  {}", part.what, part.bytes, part.why);
    }
    let _infallible = writeln!(
        text,
        "\n{} (digest {})\nkernel {} + initramfs {} ({} unpacked) = {} bytes\ncommand line: {}",
        report.directory.display(),
        report.digest,
        report.kernel_bytes,
        report.initramfs_bytes,
        report.initramfs_unpacked_bytes,
        report.kernel_bytes + report.initramfs_bytes,
        report.metadata.cmdline,
    );
    text
}

#[must_use]
pub fn inspect_text(found: &Inspection) -> String {
    let mut text = format!("digest   {}\nversion  {}\n", found.digest, found.metadata.version);
    if let Some(ours) = &found.metadata.sealtune {
        let _infallible = write!(
            text,
            "profile  {}\nkernel   {} {} ({})\nagent    {}\nmodules  {}\n",
            ours.profile,
            ours.kernel_package,
            ours.kernel_package_version,
            ours.suite,
            ours.agent_sha256,
            ours.modules.join(" ")
        );
    }
    let _infallible = writeln!(text, "cmdline  {}", found.metadata.cmdline);
    if let Some(values) = &found.reference_values {
        let simulated = &values.simulated_layout_1;
        let _infallible = writeln!(
            text,
            "rtmr1    {}  (SIMULATED layout 1)\nrtmr2    {}  (SIMULATED layout 1)",
            simulated.rtmr1, simulated.rtmr2
        );
    }
    for (name, bytes) in &found.files {
        let _infallible = writeln!(text, "{bytes:>12}  {name}");
    }
    text
}

#[must_use]
pub fn verify_text(verdict: &Verdict) -> String {
    let mut text = String::new();
    for checked in &verdict.checked {
        let word = match (checked.is_right(), &checked.found) {
            (true, _) => "ok      ",
            (false, Some(_)) => "DIFFERS ",
            (false, None) => "MISSING ",
        };
        let _infallible = writeln!(text, "{word} {}", checked.name);
    }
    text.push_str(if verdict.intact { "intact\n" } else { "NOT intact\n" });
    text
}

#[must_use]
pub fn diff_text(difference: &Difference) -> String {
    if difference.same {
        return "the same\n".to_owned();
    }
    let mut text = String::new();
    for change in &difference.changes {
        let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let _infallible =
            writeln!(text, "{}\n  - {}\n  + {}", change.what, side(&change.a), side(&change.b));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::image::json;
    use crate::metadata::{KERNEL, METADATA, SUMS, digest_text, sums_text};

    fn write_image(dir: &Path, initramfs: &[u8]) {
        let metadata = Metadata {
            bios: None,
            kernel: KERNEL.into(),
            initrd: "i".into(),
            cmdline: Profile::Dev.command_line().into(),
            version: "0.1.0".into(),
            is_dev: true,
            sealtune: None,
        };
        let metadata = json(&metadata).unwrap();
        let values = sample(b"k", initramfs);
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join(KERNEL), b"k").unwrap();
        fs::write(dir.join("i"), initramfs).unwrap();
        fs::write(dir.join(REFERENCE_VALUES), json(&values).unwrap()).unwrap();
        let sum = crate::digest::sha256_hex;
        let sums =
            sums_text(&[(KERNEL, sum(b"k")), ("i", sum(initramfs)), (METADATA, sum(&metadata))]);
        fs::write(dir.join(METADATA), metadata).unwrap();
        fs::write(dir.join(DIGEST), digest_text(&sums)).unwrap();
        fs::write(dir.join(SUMS), sums).unwrap();
    }

    fn sample(kernel: &[u8], initramfs: &[u8]) -> ImageReference {
        let line = Profile::Dev.command_line();
        reference_values(Profile::Dev, "0.1.0", line, kernel, initramfs).unwrap()
    }

    #[test]
    fn two_images_that_differ_in_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        write_image(&a, b"one");
        write_image(&b, b"two");
        assert!(diff(&a, &a).unwrap().same);
        let what: Vec<String> =
            diff(&a, &b).unwrap().changes.into_iter().map(|change| change.what).collect();
        assert_eq!(what, ["digest", "file i", "file sha256sum.txt", "rtmr2"]);
        assert!(inspect_text(&inspect(&a).unwrap()).contains("SIMULATED"));
    }

    #[test]
    fn wrong_reference_values_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        write_image(dir.path(), b"one");
        assert!(verify(dir.path()).unwrap().intact);
        let other = sample(b"other", b"one");
        fs::write(dir.path().join(REFERENCE_VALUES), json(&other).unwrap()).unwrap();
        let verdict = verify(dir.path()).unwrap();
        assert!(!verdict.intact);
        assert!(verify_text(&verdict).contains("DIFFERS  reference-values.json"));
    }
}
