//! What the daemon has promised, on disk before anybody hears of it: SQLite, WAL, synchronous=FULL.
//!
//! One daemon a state directory: a lock file says which. One connection: every change is one short transaction.

mod contents;
mod jobs;
mod records;
mod retention;
mod vms;

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

pub(crate) use jobs::{JobRow, NewJob};
pub(crate) use records::{PlainKind, plain_code};
pub(crate) use retention::{EndedJob, Swept};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
pub(crate) use vms::{StreamRow, VmRow};

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("use the state directory {path}: {error}")]
    Directory { path: PathBuf, error: std::io::Error },
    #[error("use the state directory {path}: the daemon with pid {holder} holds it")]
    Held { path: PathBuf, holder: String },
    #[error("use the database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("bring the database up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("read what an older or newer release wrote: {0}")]
    Format(#[from] serde_json::Error),
    #[error("find {0}")]
    NotFound(String),
    #[error("store a job whose id exists already")]
    JobExists,
    #[error(transparent)]
    Denied(#[from] sealtune_job::Denied),
    #[error("accept the same owner call twice")]
    Replayed,
}

impl StoreError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Directory { .. } => "ST-STORE-01",
            Self::Held { .. } => "ST-STORE-02",
            Self::Database(error) if is_full(error) => "ST-STORE-04",
            Self::Database(_) | Self::Migrate(_) => "ST-STORE-03",
            Self::Format(_) => "ST-STORE-05",
            Self::NotFound(_) => "ST-STORE-06",
            Self::JobExists => "ST-STORE-07",
            Self::Denied(denied) => denied.code(),
            Self::Replayed => "ST-STORE-08",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Directory { .. } => {
                "make the directory writable for this user, or name another with --state-dir"
            }
            Self::Held { .. } => "stop that daemon, or give this one its own --state-dir",
            Self::Database(error) if is_full(error) => {
                "make space on the disk of the state directory, then try again"
            }
            Self::Database(_) | Self::Migrate(_) => {
                "check disk and permissions of the state directory; restore it from a backup if it is damaged"
            }
            Self::Format(_) => {
                "run the release that wrote this state directory, or start with a new one"
            }
            Self::NotFound(_) => {
                "list what there is with `sealtune job ls`, `vm ls` or `content ls`"
            }
            Self::JobExists => "submit with a new job id",
            Self::Denied(_) => "look at the job's state with `sealtune job show`",
            Self::Replayed => "sign each call anew",
        }
    }
}

/// SQLITE_FULL and the like: the disk, not the program.
fn is_full(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code().map(|c| c.into_owned()));
    matches!(code.as_deref(), Some("13" | "778" | "1034"))
}

#[derive(Debug, Clone)]
pub(crate) struct Store {
    pool: SqlitePool,
}

/// Held as long as the daemon lives.
#[derive(Debug)]
pub(crate) struct StateLock(#[expect(dead_code, reason = "the lock is the open file")] File);

impl StateLock {
    pub(crate) fn take(directory: &Path) -> Result<Self, StoreError> {
        let failed = |error| StoreError::Directory { path: directory.to_owned(), error };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let path = directory.join("lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = (&mut file).take(32).read_to_string(&mut holder);
            let holder = holder.trim().to_owned();
            return Err(StoreError::Held { path: directory.to_owned(), holder });
        }
        file.set_len(0).map_err(failed)?;
        file.write_all(std::process::id().to_string().as_bytes()).map_err(failed)?;
        Ok(Self(file))
    }
}

impl Store {
    pub(crate) async fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join("sealtune.db");
        // Made here so that it is never readable for others.
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| StoreError::Directory { path: path.clone(), error })?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        sqlx::migrate!("./migrations").run(&pool).await?;
        Ok(Self { pool })
    }
}

/// Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests;
