mod raw;

use std::io::{self, Cursor, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use self::raw::{Raw, raw_zip};
use super::*;

fn limits() -> Limits {
    Limits::with_total(1 << 20)
}

fn plan_of(zip: &[u8], limits: &Limits) -> Result<Plan<Cursor<Vec<u8>>>, ArchiveError> {
    plan(Cursor::new(zip.to_vec()), limits)
}

fn refusal(entries: &[Raw]) -> &'static str {
    plan_of(&raw_zip(entries), &limits()).map(|_| ()).map_err(|error| error.code()).unwrap_err()
}

/// Keeps what is unpacked.
#[derive(Default)]
struct Memory(std::collections::BTreeMap<String, Option<Vec<u8>>>);

impl Sink for Memory {
    fn create_dir(&mut self, name: &str) -> io::Result<()> {
        let parent = name.rsplit_once('/').map(|(parent, _)| parent);
        assert!(parent.is_none_or(|parent| self.0.contains_key(parent)));
        assert_eq!(self.0.insert(name.to_owned(), None), None);
        Ok(())
    }

    fn create_file(&mut self, file: &NewFile<'_>) -> io::Result<Box<dyn Write + '_>> {
        let slot = self.0.entry(file.name.to_owned()).or_default();
        Ok(Box::new(slot.insert(Vec::new())))
    }
}

/// A directory that is removed with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("sealtune-content-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_plain_archive_unpacks() {
    let zip = raw_zip(&[
        Raw::stored("data/", b"").mode(0o040_755),
        Raw::stored("data/deep/er/train.jsonl", b"{}\n"),
        Raw::stored("./run.sh", b"#!").mode(0o100_755),
        Raw::stored("empty", b"").mode(0),
    ]);
    let planned = plan_of(&zip, &limits()).unwrap();
    assert_eq!(planned.total_bytes(), 5);
    let mut memory = Memory::default();
    let summary = planned.unpack(&mut memory).unwrap();
    assert_eq!(summary, UnpackSummary { files: 3, directories: 3, bytes: 5 });
    let names: Vec<&str> = memory.0.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["data", "data/deep", "data/deep/er", "data/deep/er/train.jsonl", "empty", "run.sh"]
    );
    assert_eq!(memory.0["data/deep/er/train.jsonl"].as_deref(), Some(b"{}\n".as_slice()));
}

#[test]
fn hostile_names_are_refused() {
    let long = "x".repeat(256);
    let deep = "a/".repeat(65) + "f";
    let very_long = "ab/".repeat(342) + "c";
    for (name, error) in [
        ("../evil", NameError::Parent),
        ("a/../../evil", NameError::Parent),
        ("a/..", NameError::Parent),
        ("/etc/passwd", NameError::Absolute),
        ("//host/share", NameError::Absolute),
        ("a\\..\\b", NameError::ForbiddenCharacter),
        ("a\0b", NameError::ForbiddenCharacter),
        ("a\nb", NameError::ForbiddenCharacter),
        ("C:evil", NameError::DriveLetter),
        ("./c:/evil", NameError::DriveLetter),
        (".", NameError::Empty),
        ("", NameError::Empty),
        (&long, NameError::TooLong),
        (&deep, NameError::TooLong),
        (&very_long, NameError::TooLong),
    ] {
        let zip = raw_zip(&[Raw::stored("fine", b"1"), Raw::stored(name, b"2")]);
        match plan_of(&zip, &limits()) {
            Err(ArchiveError::Name { index: 1, source }) => assert_eq!(source, error, "{name:?}"),
            other => panic!("{name:?}: {other:?}"),
        }
    }
    let mut entry = Raw::stored("x", b"");
    entry.name = vec![b'a', 0xFF];
    assert_eq!(refusal(&[entry]), "ST-CONTENT-47");
    assert_eq!(EntryName::parse(b"a/./b//c/").unwrap().as_str(), "a/b/c");
    assert_eq!(EntryName::parse(b"..data/a..b").unwrap().as_str(), "..data/a..b");
}

#[test]
fn only_files_and_directories_pass() {
    for mode in [0o120_777, 0o060_644, 0o020_644, 0o010_644, 0o140_644] {
        assert_eq!(refusal(&[Raw::stored("a", b"b").mode(mode)]), "ST-CONTENT-48", "{mode:o}");
    }
    // A directory by mode and a file by name, the reverse, and a directory with content.
    assert_eq!(refusal(&[Raw::stored("a", b"").mode(0o040_755)]), "ST-CONTENT-48");
    assert_eq!(refusal(&[Raw::stored("a/", b"").mode(0o100_644)]), "ST-CONTENT-48");
    assert_eq!(refusal(&[Raw::stored("a/", b"x").mode(0)]), "ST-CONTENT-48");
    let mut encrypted = Raw::stored("a", b"0123456789abcdef");
    encrypted.flags = 1;
    assert_eq!(refusal(&[encrypted]), "ST-CONTENT-49");
    let mut bzip2 = Raw::stored("a", b"0123456789abcdef");
    bzip2.method = 12;
    assert_eq!(refusal(&[bzip2]), "ST-CONTENT-50");
}

#[test]
fn no_name_is_used_twice() {
    let file = |name| Raw::stored(name, b"x");
    let directory = |name| Raw::stored(name, b"").mode(0o040_755);
    for entries in [
        vec![file("a"), file("a")],
        vec![file("a"), file("./a")],
        vec![file("d//a"), file("d/a")],
        vec![directory("a/"), file("a")],
        vec![file("a/b"), file("a-b"), file("a")],
        vec![directory("a/"), directory("./a/")],
    ] {
        assert_eq!(refusal(&entries), "ST-CONTENT-46");
    }
    // Case is kept: these are two files.
    assert!(plan_of(&raw_zip(&[file("a"), file("A"), file("a-b")]), &limits()).is_ok());
}

#[test]
fn counts_and_sizes_are_bounded() {
    let few = Limits { max_entries: 4, ..limits() };
    let four = raw_zip(&[Raw::stored("a/b/c/d", b"1")]);
    assert!(plan_of(&four, &few).is_ok());
    for entries in [
        vec![Raw::stored("a/b/c/d", b"1"), Raw::stored("e", b"2")],
        (0..5).map(|i| Raw::stored(&i.to_string(), b"")).collect(),
    ] {
        let planned = plan_of(&raw_zip(&entries), &few);
        assert!(matches!(planned, Err(ArchiveError::TooManyEntries { limit: 4 })));
    }
    let small = Limits::with_total(9);
    let ten = raw_zip(&[Raw::stored("a", b"12345"), Raw::stored("b", b"12345")]);
    assert!(matches!(plan_of(&ten, &small), Err(ArchiveError::TooBig { limit: 9 })));
    assert!(plan_of(&ten, &Limits::with_total(10)).is_ok());
    let narrow = Limits { max_directory_bytes: 200, ..limits() };
    let planned = plan_of(&raw_zip(&vec![Raw::stored(&"n".repeat(200), b""); 9]), &narrow);
    assert!(matches!(planned, Err(ArchiveError::DirectoryTooBig { limit: 200 })), "{planned:?}");
}

fn deflated(name: &str, data: &[u8]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    writer.start_file(name, options).unwrap();
    writer.write_all(data).unwrap();
    writer.finish().unwrap().into_inner()
}

#[test]
fn bombs_are_refused_before_they_are_inflated() {
    let bomb = deflated("zeros", &vec![0; 10_000_000]);
    assert!(bomb.len() < 50_000);
    let any_ratio = Limits { max_ratio: u64::MAX, ..limits() };
    assert!(matches!(plan_of(&bomb, &any_ratio), Err(ArchiveError::TooBig { .. })));
    let roomy = Limits::with_total(1 << 40);
    assert!(matches!(plan_of(&bomb, &roomy), Err(ArchiveError::Ratio { index: 0, limit: 200 })));
    // An archive in an archive stays one file: nothing is unpacked twice.
    let nested = deflated("inner.zip", &bomb);
    let mut memory = Memory::default();
    plan_of(&nested, &limits()).unwrap().unpack(&mut memory).unwrap();
    assert_eq!(memory.0["inner.zip"].as_deref(), Some(bomb.as_slice()));
}

/// Sets the inflated size that both headers of a one-entry archive declare.
fn declare(zip: &mut [u8], size: u32) {
    for (magic, at) in [(b"PK\x03\x04", 22), (b"PK\x01\x02", 24)] {
        let header = zip.windows(4).position(|window| window == magic).unwrap();
        zip[header + at..header + at + 4].copy_from_slice(&size.to_le_bytes());
    }
}

#[test]
fn declared_sizes_cannot_lie() {
    let data: Vec<u8> = (0..200_000_u32).map(|i| (i / 7) as u8).collect();
    for lie in [10, 199_999, 200_001, 900_000] {
        let mut zip = deflated("a", &data);
        declare(&mut zip, lie);
        let planned = plan_of(&zip, &limits()).unwrap();
        let unpacked = planned.unpack(&mut NullSink);
        assert!(matches!(unpacked, Err(ArchiveError::Corrupt { index: 0 })), "{lie}: {unpacked:?}");
    }
    // A bomb that declares little stops at what it declared.
    let mut zip = deflated("zeros", &vec![0; 10_000_000]);
    declare(&mut zip, 1000);
    let mut memory = Memory::default();
    let unpacked = plan_of(&zip, &limits()).unwrap().unpack(&mut memory);
    assert!(matches!(unpacked, Err(ArchiveError::Corrupt { .. })));
    assert!(memory.0["zeros"].as_ref().unwrap().len() <= 1000);
    for lie in [2, 4] {
        let mut stored = Raw::stored("a", b"123");
        stored.declared_size = lie;
        let unpacked =
            plan_of(&raw_zip(&[stored]), &limits()).and_then(|p| p.unpack(&mut NullSink));
        assert!(unpacked.is_err(), "{lie}");
    }
}

#[test]
fn damage_is_noticed() {
    let mut wrong = Raw::stored("a", b"123");
    wrong.crc ^= 1;
    let unpacked = plan_of(&raw_zip(&[wrong]), &limits()).unwrap().unpack(&mut NullSink);
    assert!(matches!(unpacked, Err(ArchiveError::Corrupt { index: 0 })));

    let whole = deflated("a", &(0..50_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    for cut in [0, 1, 21, 22, 100, whole.len() / 2, whole.len() - 30, whole.len() - 1] {
        let planned = plan_of(&whole[..cut], &limits());
        assert_eq!(planned.unwrap_err().code(), "ST-CONTENT-41", "{cut}");
    }
    let mut bent = whole.clone();
    bent[whole.len() / 2] ^= 0x10;
    let unpacked = plan_of(&bent, &limits()).unwrap().unpack(&mut NullSink);
    assert!(matches!(unpacked, Err(ArchiveError::Corrupt { index: 0 })));
}

#[test]
fn contradictions_are_refused() {
    let mut other_name = Raw::stored("good", b"x");
    other_name.local_name = Some(b"evil".to_vec());
    assert_eq!(refusal(&[other_name]), "ST-CONTENT-51");

    // Two directory entries over the same bytes.
    let mut zip = raw_zip(&[Raw::stored("a", b"12345"), Raw::stored("b", b"12345")]);
    let second = zip.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    zip[second + 42..second + 46].fill(0);
    let planned = plan_of(&zip, &limits());
    assert_eq!(planned.unwrap_err().code(), "ST-CONTENT-51");

    // A local entry that the directory hides: streaming readers would unpack it.
    let hidden = raw_zip(&[Raw::stored("hidden", b"x")]);
    let hidden = &hidden[..30 + 6 + 1];
    let mut zip = hidden.to_vec();
    let mut rest = raw_zip(&[Raw::stored("seen", b"y")]);
    let directory = rest.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let shift = hidden.len() as u32;
    rest[directory + 42..directory + 46].copy_from_slice(&shift.to_le_bytes());
    let end = rest.len() - 22;
    let start = directory as u32 + shift;
    rest[end + 16..end + 20].copy_from_slice(&start.to_le_bytes());
    zip.extend(rest);
    assert_eq!(plan_of(&zip, &limits()).unwrap_err().code(), "ST-CONTENT-51");
}

#[test]
fn one_top_level_directory_is_renamed() {
    let model = limits().single_top_level("model");
    let zip = raw_zip(&[
        Raw::stored("my-model/", b"").mode(0o040_755),
        Raw::stored("my-model/config.json", b"{}"),
        Raw::stored("my-model/sub/w.bin", b"w"),
    ]);
    let mut memory = Memory::default();
    plan_of(&zip, &model).unwrap().unpack(&mut memory).unwrap();
    let names: Vec<&str> = memory.0.keys().map(String::as_str).collect();
    assert_eq!(names, ["model", "model/config.json", "model/sub", "model/sub/w.bin"]);
    for entries in [
        vec![Raw::stored("a/x", b""), Raw::stored("__MACOSX/x", b"")],
        vec![Raw::stored("only-a-file", b"")],
        vec![Raw::stored("a/x", b""), Raw::stored("b", b"")],
        vec![],
    ] {
        let planned = plan_of(&raw_zip(&entries), &model);
        assert!(matches!(planned, Err(ArchiveError::TopLevel)));
    }
}

#[test]
fn a_directory_sink_follows_nothing() {
    let zip = raw_zip(&[Raw::stored("d/f", b"new"), Raw::stored("run", b"x").mode(0o100_755)]);
    let unpack_into = |root: &std::path::Path| {
        plan_of(&zip, &limits()).unwrap().unpack(&mut DirectorySink::new(root).unwrap())
    };
    let fresh = Scratch::new();
    unpack_into(&fresh.0).unwrap();
    assert_eq!(std::fs::read(fresh.0.join("d/f")).unwrap(), b"new");
    let again = unpack_into(&fresh.0);
    assert!(matches!(again, Err(ArchiveError::Write { .. })));

    #[cfg(unix)]
    {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let mode = std::fs::metadata(fresh.0.join("run")).unwrap().permissions().mode();
        assert_eq!(mode & 0o100, 0o100);

        let (outside, trap) = (Scratch::new(), Scratch::new());
        symlink(&outside.0, trap.0.join("d")).unwrap();
        assert!(unpack_into(&trap.0).is_err());
        assert!(std::fs::read_dir(&outside.0).unwrap().next().is_none());

        let trap = Scratch::new();
        symlink(outside.0.join("made"), trap.0.join("run")).unwrap();
        assert!(unpack_into(&trap.0).is_err());
        assert!(!outside.0.join("made").exists());

        symlink(&outside.0, trap.0.join("root")).unwrap();
        assert!(DirectorySink::new(&trap.0.join("root")).is_err());
    }
}

type Packed = Result<(Vec<u8>, PackSummary), ArchiveError>;

fn pack_all(files: &[(&str, &[u8])], method: PackMethod, max: u64) -> Packed {
    let mut out = Vec::new();
    let entries = files.iter().map(|(name, data)| Ok((*name, *data)));
    let summary = pack(entries, method, max, &mut out)?;
    Ok((out, summary))
}

#[test]
fn packing_is_deterministic_and_unpacks() {
    let text = b"weights ".repeat(10_000);
    let files: [(&str, &[u8]); 3] =
        [("output_model/a", &text), ("output_model/empty", b""), ("output_model/s/b", b"1")];
    for method in [PackMethod::Deflate, PackMethod::Store] {
        let (zip, summary) = pack_all(&files, method, 1 << 20).unwrap();
        assert_eq!(summary, PackSummary { files: 3, bytes: 80_001 });
        assert_eq!(pack_all(&files, method, 1 << 20).unwrap().0, zip);
        assert_eq!(zip.len() < 10_000, method == PackMethod::Deflate);
        let mut memory = Memory::default();
        let renamed = limits().single_top_level("model");
        plan_of(&zip, &renamed).unwrap().unpack(&mut memory).unwrap();
        assert_eq!(memory.0["model/a"].as_deref(), Some(text.as_slice()));
        assert_eq!(memory.0["model/empty"].as_deref(), Some(b"".as_slice()));
    }
}

#[test]
fn packing_refuses_disorder_and_too_much() {
    let unsorted = pack_all(&[("b", b""), ("a", b"")], PackMethod::Store, 10);
    assert!(matches!(unsorted, Err(ArchiveError::Unsorted { index: 1 })));
    let twice = pack_all(&[("a", b""), ("a", b"")], PackMethod::Store, 10);
    assert!(matches!(twice, Err(ArchiveError::Unsorted { index: 1 })));
    let outside = pack_all(&[("../a", b"")], PackMethod::Store, 10);
    assert!(matches!(outside, Err(ArchiveError::Name { .. })));
    let big = pack_all(&[("a", b"12345"), ("b", b"123456")], PackMethod::Store, 10);
    assert!(matches!(big, Err(ArchiveError::TooBig { limit: 10 })));
}

#[test]
fn a_failed_pack_leaves_no_complete_archive() {
    struct Failing;
    impl io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::TimedOut.into())
        }
    }
    let mut out = Vec::new();
    let files: [Result<(&str, Box<dyn io::Read>), _>; 2] =
        [Ok(("a", Box::new(b"1".as_slice()))), Ok(("b", Box::new(Failing)))];
    let packed = pack(files, PackMethod::Deflate, 10, &mut out);
    assert!(matches!(packed, Err(ArchiveError::PackSource { index: 1, .. })));
    assert!(plan_of(&out, &limits()).is_err());
}

#[test]
fn a_tree_is_listed_in_order_and_without_links() {
    let tree = Scratch::new();
    std::fs::create_dir_all(tree.0.join("s/t")).unwrap();
    std::fs::create_dir(tree.0.join("void")).unwrap();
    for name in ["z", "s/t/deep", "s-1", "a"] {
        std::fs::write(tree.0.join(name), name).unwrap();
    }
    let files = list_tree(&tree.0, "output_model", 10).unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(
        names,
        ["output_model/a", "output_model/s-1", "output_model/s/t/deep", "output_model/z"]
    );
    let mut out = Vec::new();
    let readers = files.iter().enumerate().map(|(index, file)| {
        let reader = file.open().map_err(|source| ArchiveError::PackSource { index, source })?;
        Ok((file.name.as_str(), reader))
    });
    pack(readers, PackMethod::Deflate, 1000, &mut out).unwrap();
    let mut memory = Memory::default();
    plan_of(&out, &limits()).unwrap().unpack(&mut memory).unwrap();
    assert_eq!(memory.0["output_model/s/t/deep"].as_deref(), Some(b"s/t/deep".as_slice()));

    assert!(matches!(list_tree(&tree.0, "m", 6), Err(ArchiveError::TooManyEntries { limit: 6 })));
    #[cfg(unix)]
    {
        let listed = &files[0];
        std::fs::rename(tree.0.join("a"), tree.0.join("b")).unwrap();
        std::os::unix::fs::symlink("z", tree.0.join("a")).unwrap();
        assert!(listed.open().is_err());
        assert!(matches!(list_tree(&tree.0, "m", 100), Err(ArchiveError::SpecialInTree)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn packed_trees_come_back(
        files in proptest::collection::btree_map("[a-c]{1,3}(/[d-f]{1,2}){0,2}\\.x", proptest::collection::vec(any::<u8>(), 0..500), 0..12),
    ) {
        let list: Vec<(&str, &[u8])> =
            files.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
        let (zip, _) = pack_all(&list, PackMethod::Deflate, 1 << 20).unwrap();
        let mut memory = Memory::default();
        plan_of(&zip, &limits()).unwrap().unpack(&mut memory).unwrap();
        for (name, data) in &files {
            prop_assert_eq!(memory.0[name].as_ref(), Some(data));
        }
        fuzz_archive(&zip);
    }

    #[test]
    fn bent_archives_never_panic(
        at: prop::sample::Index, value: u8, cut: prop::sample::Index,
    ) {
        let mut zip = raw_zip(&[Raw::stored("data/a", b"12345"), Raw::stored("data/b/", b"").mode(0o040_755)]);
        let at = at.index(zip.len());
        zip[at] = value;
        fuzz_archive(&zip);
        fuzz_archive(&zip[..cut.index(zip.len())]);
        let mut zip = deflated("x", &[7; 3000]);
        let at = at % zip.len();
        zip[at] = value;
        fuzz_archive(&zip);
    }

    #[test]
    fn no_name_leaves_the_tree(name in "[./\\\\a-cC: ]{0,12}") {
        if let Ok(name) = EntryName::parse(name.as_bytes()) {
            let joined = std::path::Path::new("/root").join(name.as_str());
            let all_normal = std::path::Path::new(name.as_str())
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            prop_assert!(joined.starts_with("/root") && all_normal);
        }
    }
}
