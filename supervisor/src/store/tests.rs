//! What survives, what happens once, and what a hostile guest cannot make the host keep.

use base64::Engine as _;
use sealtune_content::ContentId;
use sealtune_job::{Hex, JobEvent, JobId, JobKind, JobPhase, Limits};
use sealtune_wire::v1::{AgentEvent, AgentFailure, FrameStream, LogStream, Transfer};

use super::*;
use crate::api::types::Submission;

const JOB: [u8; 16] = [1; 16];

fn id(byte: u8, length: u64) -> ContentId {
    ContentId::Sha256 { digest: [byte; 32], length }
}

fn submission(kind: JobKind) -> Submission {
    Submission {
        job: JobId::from_bytes(JOB),
        idempotency_key: "once".into(),
        kind,
        owner: Hex([2; 33]),
        model: id(3, 10),
        image: Hex([4; 32]),
        dataset: id(5, 20),
        limits: Limits::default(),
        terms: None,
    }
}

struct Bench {
    store: Store,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// A job whose VM is ready and whose owner has released it.
    async fn new(kind: JobKind) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path()).await.expect("store");
        store.submit(&submission(kind)).await.expect("submit");
        let bench = Self { store, _folder: folder };
        bench.vm("vm-1").await;
        let events = [JobEvent::VmReady, JobEvent::Accepted];
        for event in &events {
            bench.store.apply(JobId::from_bytes(JOB), event, 1000).await.expect("applies");
        }
        bench
    }

    async fn vm(&self, name: &str) {
        sqlx::query(
            "INSERT INTO vms (id, job, attempt, definition, view) VALUES (?, ?, 1, '{}', '{}')",
        )
        .bind(name)
        .bind(JobId::from_bytes(JOB).to_string())
        .execute(&self.store.pool)
        .await
        .expect("a VM");
        sqlx::query("UPDATE jobs SET vm = ?")
            .bind(name)
            .execute(&self.store.pool)
            .await
            .expect("tied");
    }

    async fn record(&self, sequence: u64, event: &AgentEvent) -> records::EventOutcome {
        let vm_job = Some((JobId::from_bytes(JOB), 1));
        let recorded = self.store.record_event("vm-1", vm_job, sequence, event, |_| None).await;
        recorded.expect("recorded")
    }

    async fn count(&self, query: &str) -> i64 {
        // Test queries only.
        let query = sqlx::AssertSqlSafe(query.to_owned());
        sqlx::query_scalar(query).fetch_one(&self.store.pool).await.expect("count")
    }
}

fn job() -> JobId {
    JobId::from_bytes(JOB)
}

#[tokio::test]
async fn the_same_submission_makes_one_job() {
    let bench = Bench::new(JobKind::Sealed).await;
    let again = bench.store.submit(&submission(JobKind::Sealed)).await.expect("found");
    assert!(matches!(again, NewJob::Found(_)));
    let mut other = submission(JobKind::Sealed);
    other.idempotency_key = "twice".into();
    let error = bench.store.submit(&other).await.expect_err("the id exists");
    assert_eq!(error.code(), "ST-STORE-07");
}

#[tokio::test]
async fn an_event_that_comes_again_is_handled_once() {
    let bench = Bench::new(JobKind::Plain).await;
    let log =
        AgentEvent::PlainLog { job: job(), stream: LogStream::Stdout, text: "a line\n".into() };
    for sequence in [1, 1, 2, 1, 2] {
        bench.record(sequence, &log).await;
    }
    assert_eq!(bench.count("SELECT count(*) FROM plain_logs").await, 2);
    assert_eq!(bench.count("SELECT acknowledged FROM vms").await, 2);
}

#[tokio::test]
async fn an_event_of_another_job_changes_nothing() {
    let bench = Bench::new(JobKind::Sealed).await;
    let other = JobId::from_bytes([9; 16]);
    for event in [
        AgentEvent::Phase { job: other, phase: JobPhase::Training },
        AgentEvent::Result { job: other, sha256: id(1, 1), root: id(1, 1) },
        AgentEvent::Done { job: other },
    ] {
        let sequence = 1 + bench.count("SELECT acknowledged FROM vms").await.unsigned_abs();
        let outcome = bench.record(sequence, &event).await;
        assert!(outcome.changed.is_none() && !outcome.done);
    }
    assert_eq!(bench.store.job(job()).await.expect("job").state.name(), "fetching");
}

#[tokio::test]
async fn frames_of_another_size_or_without_end_are_not_kept() {
    let bench = Bench::new(JobKind::Sealed).await;
    let frame = |number, bytes: usize| AgentEvent::OwnerFrame {
        job: job(),
        stream: FrameStream::Log,
        number,
        frame: base64::engine::general_purpose::STANDARD.encode(vec![0; bytes]),
    };
    let right = sealtune_seal::frames::FRAME_LENGTH;
    for (sequence, (number, bytes)) in
        [(0, right), (1, right - 1), (2, 700_000), (u64::MAX, right), (1 << 62, right), (3, 0)]
            .into_iter()
            .enumerate()
    {
        bench.record(sequence as u64 + 1, &frame(number, bytes)).await;
    }
    assert_eq!(bench.count("SELECT count(*) FROM frames").await, 1);
}

#[tokio::test]
async fn a_guest_gets_its_jobs_content_and_nothing_else() {
    let bench = Bench::new(JobKind::Sealed).await;
    let wanted =
        |byte: u8, what| AgentEvent::StreamWanted { stream: Hex([byte; 16]), job: job(), what };
    let foreign = wanted(1, Transfer::Content { id: id(77, 10) });
    assert!(!bench.record(1, &foreign).await.stream_wanted);
    let longer = wanted(2, Transfer::Content { id: id(3, 11) });
    assert!(!bench.record(2, &longer).await.stream_wanted);
    assert!(bench.record(3, &wanted(3, Transfer::Content { id: id(3, 10) })).await.stream_wanted);
    for sequence in 4..1000u64 {
        let mut stream = [0; 16];
        stream[..8].copy_from_slice(&sequence.to_be_bytes());
        let again = AgentEvent::StreamWanted {
            stream: Hex(stream),
            job: job(),
            what: Transfer::SealedDataset { id: id(5, 20) },
        };
        bench.record(sequence, &again).await;
    }
    assert!(bench.count("SELECT count(*) FROM streams").await <= 256);
}

#[tokio::test]
async fn a_code_with_control_characters_reaches_nobody() {
    let bench = Bench::new(JobKind::Sealed).await;
    let code = format!("\u{1b}[2J{}", "x".repeat(100_000));
    let failure = AgentFailure::Guest { code };
    bench.record(1, &AgentEvent::Failed { job: job(), failure }).await;
    let row = bench.store.job(job()).await.expect("job");
    assert_eq!(row.failure().map(sealtune_job::FailReason::code), Some("no-code"));
}

#[tokio::test]
async fn logs_of_nothing_fill_nothing() {
    let bench = Bench::new(JobKind::Plain).await;
    sqlx::query("UPDATE jobs SET plain_bytes = 67108800")
        .execute(&bench.store.pool)
        .await
        .expect("near");
    let empty = AgentEvent::PlainLog { job: job(), stream: LogStream::Stderr, text: String::new() };
    for sequence in 1..50 {
        bench.record(sequence, &empty).await;
    }
    assert_eq!(bench.count("SELECT count(*) FROM plain_logs").await, 1);
}

#[tokio::test]
async fn a_lost_vm_leaves_nothing_to_be_believed() {
    let bench = Bench::new(JobKind::Sealed).await;
    bench.record(1, &AgentEvent::Result { job: job(), sha256: id(1, 1), root: id(1, 1) }).await;
    let receipt = AgentEvent::Receipt { job: job(), envelope: "{}".into(), evidence: None };
    bench.record(2, &receipt).await;
    let (row, _) = bench.store.apply(job(), &JobEvent::VmLost, 0).await.expect("applies");
    assert_eq!((row.state.name(), row.attempt, row.vm), ("awaiting-release", 2, None));
    assert!(bench.store.job(job()).await.expect("job").result.is_none());
    assert!(bench.store.receipt(job()).await.expect("no error").is_none());
}

#[tokio::test]
async fn a_job_whose_vm_is_closed_is_found() {
    let bench = Bench::new(JobKind::Sealed).await;
    assert!(bench.store.stranded().await.expect("none").is_empty());
    sqlx::query("UPDATE vms SET open = 0").execute(&bench.store.pool).await.expect("closed");
    assert_eq!(bench.store.stranded().await.expect("one"), [job()]);
}

#[tokio::test]
async fn the_release_deadline_is_set_once_an_attempt() {
    let folder = tempfile::tempdir().expect("folder");
    let store = Store::open(folder.path()).await.expect("store");
    store.submit(&submission(JobKind::Sealed)).await.expect("submit");
    let (first, _) = store.apply(job(), &JobEvent::VmReady, 1000).await.expect("ready");
    let (second, _) = store.apply(job(), &JobEvent::VmReady, 900_000).await.expect("ready again");
    assert_eq!(first.release_deadline, second.release_deadline);
    let (lost, _) = store.apply(job(), &JobEvent::VmLost, 0).await.expect("lost");
    assert_eq!(lost.release_deadline, None);
    let due = first.release_deadline.expect("a deadline");
    assert!(store.overdue(due + 1).await.expect("none").is_empty(), "no VM, no deadline");
}

#[tokio::test]
async fn uploads_only_grow_and_calls_count_once() {
    let bench = Bench::new(JobKind::Sealed).await;
    assert!(bench.store.grow_dataset(job(), 0, 10).await.expect("grows"));
    assert!(!bench.store.grow_dataset(job(), 0, 5).await.expect("another was quicker"));
    bench.store.remember_call("nonce", 1000).await.expect("first");
    let error = bench.store.remember_call("nonce", 1001).await.expect_err("second");
    assert_eq!(error.code(), "ST-STORE-08");
}

#[tokio::test]
async fn a_second_daemon_is_told_who_is_first() {
    let folder = tempfile::tempdir().expect("folder");
    let first = StateLock::take(folder.path()).expect("first");
    let error = StateLock::take(folder.path()).expect_err("second");
    assert_eq!(error.code(), "ST-STORE-02");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    drop(first);
    StateLock::take(folder.path()).expect("free again");
}

#[tokio::test]
async fn ended_jobs_are_listed_until_nothing_is_left_to_remove() {
    let bench = Bench::new(JobKind::Plain).await;
    assert!(bench.store.ended_jobs().await.expect("lists").is_empty(), "an open job stays whole");
    let job = JobId::from_bytes(JOB);
    bench.store.apply(job, &JobEvent::CancelRequested, 0).await.expect("applies");
    sqlx::query("INSERT INTO plain_logs (job, kind, text) VALUES (?, 'stdout', 'x')")
        .bind(job.to_string())
        .execute(&bench.store.pool)
        .await
        .expect("a line");
    let lines = || async {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM plain_logs")
            .fetch_one(&bench.store.pool)
            .await
            .expect("counts")
    };
    for (swept, listed, left) in [(Swept::Inputs, 1, 1), (Swept::Everything, 0, 0)] {
        bench.store.set_swept(job, swept).await.expect("notes");
        let ended = bench.store.ended_jobs().await.expect("lists");
        assert_eq!(ended.len(), listed);
        assert!(ended.iter().all(|job| job.swept == swept && !job.is_acknowledged));
        assert_eq!(lines().await, left);
    }
    assert_eq!(bench.store.job(job).await.expect("the record stays").id(), job);
}
