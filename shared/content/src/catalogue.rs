//! Every code of this crate is used once and explained in the README.

use std::collections::BTreeMap;
use std::io;

use zip::result::ZipError;

use crate::archive::{ArchiveError, NameError};
use crate::{HashError, IdError, StreamError, merkle::MerkleError};

fn catalogue() -> Vec<(&'static str, String, &'static str)> {
    let io = || io::Error::from(io::ErrorKind::Other);
    let archive = [
        ArchiveError::Read(io()),
        ArchiveError::NotAZip(ZipError::FileNotFound),
        ArchiveError::DirectoryTooBig { limit: 0 },
        ArchiveError::TooManyEntries { limit: 0 },
        ArchiveError::TooBig { limit: 0 },
        ArchiveError::Ratio { index: 0, limit: 0 },
        ArchiveError::DuplicateName,
        ArchiveError::Name { index: 0, source: NameError::Parent },
        ArchiveError::Special { index: 0 },
        ArchiveError::Encrypted { index: 0 },
        ArchiveError::Method { index: 0 },
        ArchiveError::Inconsistent(ZipError::FileNotFound),
        ArchiveError::TopLevel,
        ArchiveError::Corrupt { index: 0 },
        ArchiveError::Write { index: 0, source: io() },
        ArchiveError::Unsorted { index: 0 },
        ArchiveError::Pack(io()),
        ArchiveError::PackSource { index: 0, source: io() },
        ArchiveError::List(io()),
        ArchiveError::SpecialInTree,
    ];
    let hash = [HashError::Read(io()), HashError::ThreadDied];
    let mut all = Vec::new();
    all.extend(IdError::ALL.iter().map(|e| (e.code(), e.to_string(), e.fix())));
    all.extend(MerkleError::ALL.iter().map(|e| (e.code(), e.to_string(), e.fix())));
    all.extend(hash.iter().map(|e| (e.code(), e.to_string(), e.fix())));
    all.extend(StreamError::ALL.iter().map(|e| (e.code(), e.to_string(), e.fix())));
    all.extend(archive.iter().map(|e| (e.code(), e.to_string(), e.fix())));
    all
}

#[test]
fn codes_are_unique_and_in_the_readme() {
    let readme = include_str!("../README.md");
    let mut seen = BTreeMap::new();
    for (code, message, fix) in catalogue() {
        assert!(code.starts_with("ST-CONTENT-"));
        assert!(seen.insert(code, message.clone()).is_none(), "{code} has two causes");
        let row = readme.lines().find(|line| line.starts_with(&format!("| {code} |")));
        assert!(
            row.is_some_and(|row| row.ends_with(&format!("| {fix} |"))),
            "{code}: {message} | {fix}"
        );
    }
    let rows = readme.lines().filter(|line| line.starts_with("| ST-CONTENT-")).count();
    assert_eq!(rows, seen.len());
}
