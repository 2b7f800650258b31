//! The unpacking role as serve starts it: a process of its own, confined before its first byte.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const USER: u32 = 65_500;

fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|status| status.uid() == 0);
    if !is_root {
        eprintln!("skipped: only root can start the role, which gives its user up");
    }
    is_root
}

fn archive(path: &Path, entries: &[(&str, &[u8])]) {
    let mut writer = zip::ZipWriter::new(File::create(path).unwrap());
    for (name, bytes) in entries {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap();
}

fn role(folder: &Path, archive: &Path, arguments: &[&str]) -> Output {
    chown(folder, Some(USER), Some(USER)).unwrap();
    Command::new(env!("CARGO_BIN_EXE_sealtune-agent"))
        .arg("unpack-archive")
        .args(arguments)
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::from(File::open(archive).unwrap()))
        .output()
        .unwrap()
}

#[test]
fn unpacks_as_its_own_user_and_says_so() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let zip = tempfile::NamedTempFile::new().unwrap();
    let large: Vec<u8> = (0..700_000u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    archive(zip.path(), &[("top/a", b"content"), ("top/sub/b", &large)]);
    let output = role(folder.path(), zip.path(), &["model", "8000000"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "\"unpacked\"\n", "{output:?}");
    assert!(output.status.success());
    let made = folder.path().join("model/sub/b");
    assert_eq!(fs::read(&made).unwrap(), large);
    assert_eq!(fs::metadata(&made).unwrap().uid(), USER);
}

#[test]
fn refuses_with_the_archives_code_and_tells_space_apart() {
    if !is_root() {
        return;
    }
    let zip = tempfile::NamedTempFile::new().unwrap();
    for (entries, limit, report) in [
        (&[("top/../../escape", &b"x"[..])][..], "1000", "ST-CONTENT-47"),
        (&[("one/a", &b"x"[..]), ("two/b", b"x")][..], "1000", "ST-CONTENT-52"),
        (&[("top/a", &[0; 2000][..])][..], "1000", "no_space"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        archive(zip.path(), entries);
        let output = role(folder.path(), zip.path(), &["model", limit]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains(report), "{entries:?}: {told}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn what_it_was_not_asked_for_right_it_does_not_do() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let zip = tempfile::NamedTempFile::new().unwrap();
    archive(zip.path(), &[("top/a", b"x")]);
    for arguments in [&["model"][..], &["model", "many"], &["model", "1", "2"]] {
        let output = role(folder.path(), zip.path(), arguments);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.starts_with("{\"not_confined\""), "{arguments:?}: {told}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
