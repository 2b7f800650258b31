use std::io::Write as _;
use std::os::unix::fs::symlink;

use sealtune_job::Hex;

use super::*;

fn sha256(bytes: &[u8]) -> Hex<32> {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    Hex(hash)
}

fn places() -> Places {
    Places { unpack: crate::unpack::in_this_process, ..Places::default() }
}

fn archive_of(names: &[&str]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in names {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(b"content").unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn the_folder_is_as_training_scripts_expect_it() {
    let scratch = tempfile::tempdir().unwrap();
    let folders = Folders::create(scratch.path(), "job").unwrap();
    fs::write(folders.model(), archive_of(&["any-name/weights.bin", "any-name/sub/a"])).unwrap();
    fs::write(folders.dataset(), b"{}\n").unwrap();
    place(&folders, &folders.model(), "model", InputFormat::Archive, &places()).unwrap();
    place(&folders, &folders.dataset(), "data", InputFormat::File, &places()).unwrap();
    let work = folders.work();
    assert_eq!(fs::read(work.join("model/weights.bin")).unwrap(), b"content");
    assert_eq!(fs::read(work.join("model/sub/a")).unwrap(), b"content");
    assert_eq!(fs::read(work.join("data")).unwrap(), b"{}\n");
    assert!(!folders.model().exists(), "nothing is kept twice");
    folders.drop_inputs();
    assert!(!work.join("model").exists() && !work.join("data").exists());
    folders.drop_all();
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn hostile_archives_have_a_code() {
    for names in [&["one/a", "two/b"][..], &["a"], &["one/../../escape"]] {
        let scratch = tempfile::tempdir().unwrap();
        let folders = Folders::create(scratch.path(), "job").unwrap();
        fs::write(folders.model(), archive_of(names)).unwrap();
        let error = place(&folders, &folders.model(), "model", InputFormat::Archive, &places())
            .unwrap_err();
        assert!(error.code().starts_with("ST-CONTENT-"), "{names:?}: {error}");
    }
}

#[test]
fn a_folder_that_is_there_already_is_not_used() {
    let scratch = tempfile::tempdir().unwrap();
    Folders::create(scratch.path(), "job").unwrap();
    assert_eq!(Folders::create(scratch.path(), "job").unwrap_err().code(), "ST-AGENT-88");
}

#[test]
fn the_images_script_is_the_pinned_one_and_links_stay_inside() {
    let layer = tempfile::tempdir().unwrap();
    fs::create_dir(layer.path().join("app")).unwrap();
    fs::write(layer.path().join("app/train.py"), b"pass").unwrap();
    symlink("/app/train.py", layer.path().join("inside")).unwrap();
    symlink("/etc/passwd", layer.path().join("outside")).unwrap();
    let script = |path: &str, sha256| Script::Image { path: path.into(), sha256 };
    let check = |path: &str, hash| {
        check_script(&script(path, hash), layer.path()).map_err(|error| error.code())
    };
    assert_eq!(check("/app/train.py", sha256(b"pass")), Ok(()));
    assert_eq!(check("/inside", sha256(b"pass")), Ok(()));
    assert_eq!(check("/app/train.py", sha256(b"other")), Err("ST-AGENT-90"));
    for missing in ["/outside", "/none", "/app"] {
        assert_eq!(check(missing, sha256(b"pass")), Err("ST-AGENT-89"), "{missing}");
    }
}

#[test]
fn what_cannot_fit_is_refused_before_it_is_fetched() {
    let scratch = tempfile::tempdir().unwrap();
    let folders = Folders::create(scratch.path(), "job").unwrap();
    assert!(folders.free_bytes().unwrap() > 0);
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    assert_eq!(JobError::from(full).code(), "ST-AGENT-87");
}
