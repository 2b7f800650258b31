//! Memories of collateral and of releases on disk: read and replaced under a lock, so that two programs at once forget
//! nothing.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sealtune_evidence::{
    Anchors, Verdict,
    collateral::{AtHand, Code, CollateralMemory, Lesson, memory::MAX_MEMORY_BYTES},
    release::ReleaseMemory,
    verdict::Findings,
};

use crate::{failure::Failure, input, judge::Part};

/// Holds what a verdict about these parts rests on against the memory of collateral at `path`, adds what comes of it to the
/// verdict, and keeps what is newer. `at_hand` and `now` must be what was judged with.
pub fn remember(
    path: Option<&Path>,
    parts: &[Part<'_>],
    at_hand: AtHand<'_>,
    anchors: &Anchors,
    now: u64,
    verdict: &mut Verdict,
) -> Result<(), Failure> {
    let named = parts.iter().map(|part| (part.name, part.bundle));
    let findings = match (Lesson::of(named, at_hand.brought(), anchors, now, verdict), path) {
        (Lesson::Nothing(findings), _) => findings,
        (Lesson::Facts(_), None) => {
            let mut findings = Findings::default();
            findings.open("collateral-memory", "", Code::NoMemory, "");
            findings
        }
        (Lesson::Facts(facts), Some(path)) => {
            let file = MemoryFile::<CollateralMemory>::open(path)?;
            let (findings, newest) = file.memory().hold(facts);
            file.replace(&newest)?;
            findings
        }
    };
    verdict.add(findings);
    Ok(())
}

/// Something that is kept in a file between runs.
pub(crate) trait Memory: Default + PartialEq {
    const MAX_BYTES: usize;
    fn read(path: &Path, bytes: &[u8]) -> Result<Self, Failure>;
    fn written(&self, path: &Path) -> Result<Vec<u8>, Failure>;
}

impl Memory for CollateralMemory {
    const MAX_BYTES: usize = MAX_MEMORY_BYTES;

    fn read(path: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        Self::parse(bytes)
            .map_err(Failure::of(path, |path, source| Failure::Memory { path, source }))
    }

    fn written(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        self.to_bytes().map_err(Failure::of(path, |path, source| Failure::Memory { path, source }))
    }
}

impl Memory for ReleaseMemory {
    /// As much as its own limit.
    const MAX_BYTES: usize = 1024 * 1024;

    fn read(path: &Path, bytes: &[u8]) -> Result<Self, Failure> {
        Self::parse(bytes)
            .map_err(Failure::of(path, |path, source| Failure::Manifest { path, source }))
    }

    fn written(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        self.to_bytes()
            .map_err(Failure::of(path, |path, source| Failure::Manifest { path, source }))
    }
}

/// Held as long as this lives.
pub(crate) struct MemoryFile<M> {
    path: PathBuf,
    memory: M,
    _lock: File,
}

/// Whether there is a memory; one that cannot be looked at counts, so that opening it says why.
pub(crate) fn is_there(path: &Path) -> bool {
    !matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

impl<M: Memory> MemoryFile<M> {
    /// An absent file is an empty memory; an unreadable one is an error.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed =
            |path: &Path| Failure::of(path, |path, source| Failure::MemoryFile { path, source });
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
        }
        let lock_path = beside(path, ".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(failed(&lock_path))?;
        let memory = match read(path, M::MAX_BYTES).map_err(failed(path))? {
            None => M::default(),
            Some(bytes) => M::read(path, &bytes)?,
        };
        Ok(Self { path: path.to_owned(), memory, _lock: lock })
    }

    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    pub(crate) fn replace(&self, memory: &M) -> Result<(), Failure> {
        if *memory == self.memory {
            return Ok(());
        }
        let bytes = memory.written(&self.path)?;
        self.write(&bytes)
            .map_err(Failure::of(&self.path, |path, source| Failure::MemoryFile { path, source }))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let temporary = beside(&self.path, ".new");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        // The new name is on disk once its folder is.
        match self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => File::open(folder)?.sync_all(),
            None => File::open(".")?.sync_all(),
        }
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn read(path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match input::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
