CREATE TABLE jobs (
    id               TEXT PRIMARY KEY NOT NULL,
    kind             TEXT NOT NULL,
    owner            TEXT NOT NULL,
    idempotency_key  TEXT NOT NULL,
    submission       TEXT NOT NULL,
    state            TEXT NOT NULL,
    final            INTEGER NOT NULL DEFAULT 0,
    attempt          INTEGER NOT NULL DEFAULT 1,
    generation       INTEGER NOT NULL DEFAULT 1,
    percent          INTEGER NOT NULL DEFAULT 0,
    dataset_received INTEGER NOT NULL DEFAULT 0,
    created          INTEGER NOT NULL,
    updated          INTEGER NOT NULL,
    release_deadline INTEGER,
    vm               TEXT,
    vm_wanted        INTEGER NOT NULL DEFAULT 1,
    result           TEXT,
    history          TEXT NOT NULL,
    plain_bytes      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (owner, idempotency_key)
) STRICT;

CREATE TABLE vms (
    id            TEXT PRIMARY KEY NOT NULL,
    job           TEXT,
    attempt       INTEGER NOT NULL DEFAULT 0,
    open          INTEGER NOT NULL DEFAULT 1,
    definition    TEXT NOT NULL,
    processes     TEXT NOT NULL DEFAULT '[]',
    view          TEXT NOT NULL,
    acknowledged  INTEGER NOT NULL DEFAULT 0,
    generation    INTEGER NOT NULL DEFAULT 0,
    rtmr3         TEXT NOT NULL DEFAULT '[]',
    host_request  INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE streams (
    vm      TEXT NOT NULL,
    id      TEXT NOT NULL,
    job     TEXT NOT NULL,
    what    TEXT NOT NULL,
    done    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (vm, id)
) STRICT;

CREATE TABLE envelopes (
    job      TEXT NOT NULL,
    attempt  INTEGER NOT NULL,
    envelope TEXT NOT NULL,
    PRIMARY KEY (job, attempt)
) STRICT;

CREATE TABLE frames (
    job     TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    stream  TEXT NOT NULL,
    number  INTEGER NOT NULL,
    frame   BLOB NOT NULL,
    PRIMARY KEY (job, attempt, stream, number)
) STRICT;

CREATE TABLE plain_logs (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    job      TEXT NOT NULL,
    kind     TEXT NOT NULL,
    text     TEXT NOT NULL
) STRICT;
CREATE INDEX plain_logs_job ON plain_logs (job, sequence);

CREATE TABLE evidence (
    job     TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    purpose TEXT NOT NULL,
    bundle  TEXT NOT NULL,
    PRIMARY KEY (job, attempt, purpose)
) STRICT;

CREATE TABLE receipts (
    job      TEXT PRIMARY KEY NOT NULL,
    attempt  INTEGER NOT NULL,
    envelope TEXT NOT NULL
) STRICT;

CREATE TABLE contents (
    sha256 TEXT PRIMARY KEY NOT NULL,
    zg     TEXT,
    path   TEXT NOT NULL,
    bytes  INTEGER NOT NULL,
    added  INTEGER NOT NULL
) STRICT;
CREATE INDEX contents_zg ON contents (zg);

CREATE TABLE owner_calls (
    nonce TEXT PRIMARY KEY NOT NULL,
    time  INTEGER NOT NULL
) STRICT;
CREATE INDEX owner_calls_time ON owner_calls (time);
