//! One job, from its acceptance to its last byte. A task of its own; the hub only keeps its handle.
//!
//! ```text
//! fetch -> prepare -> knobs -> RTMR3 job-start -> start evidence -> GPUs ready -> train -> pack and seal -> receipt -> deliver
//!    '-------------------------- any failure: frame to the owner, signed record, code to the host ------'
//! ```
//! The host's word decides nothing in here but where bytes come from and whether the job is cancelled.

mod deliver;
mod error;
mod fetch;
mod owner;
mod prepare;
mod progress;
mod receipt;
pub(crate) mod release;
mod train;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealtune_evidence::{Event, FixedHex, JobBinding};
use sealtune_job::{ExitClass, Hex, JobId, JobPhase, TrainingExit};
use sealtune_seal::result_object::ResultSealer;
use sealtune_wire::v1::{AgentEvent, OutsidePurpose, Transfer};
use tokio::sync::{mpsc, watch};

pub(crate) use self::error::JobError;
pub(crate) use self::release::{AcceptedJob, Secrecy};

use self::deliver::Packed;
use self::owner::{Chains, OwnerChannel};
use self::prepare::Folders;
use self::progress::{Audience, Progress};
use super::error::ServeError;
use super::listener::{StreamPeer, Wanted};
use super::machine::{Machine, Places};
use super::outbox::Outbox;
use super::state::ToHub;
use crate::container::protocol::{ContainerRequest, Limits as ContainerLimits};
use crate::device::knobs;
use crate::gpu::MayTakeWork;

/// The container's user 0, outside.
const UID_BASE: u32 = 100_000;
const MIB: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct JobHandle {
    pub(crate) job: JobId,
    cancel: watch::Sender<bool>,
    standing: watch::Receiver<Standing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    In(JobPhase),
    Ended,
}

impl JobHandle {
    pub(crate) fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    pub(crate) fn is_running(&self) -> bool {
        *self.standing.borrow() != Standing::Ended
    }

    pub(crate) fn phase(&self) -> Option<JobPhase> {
        match *self.standing.borrow() {
            Standing::In(phase) => Some(phase),
            Standing::Ended => None,
        }
    }
}

pub(crate) fn start(
    accepted: AcceptedJob,
    machine: Arc<Machine>,
    places: Arc<Places>,
    outbox: Outbox,
    hub: mpsc::Sender<ToHub>,
) -> JobHandle {
    let job = accepted.terms.job;
    let (cancel, cancelled) = watch::channel(false);
    let (standing, watched) = watch::channel(Standing::In(JobPhase::Fetching));
    let context = Context { job, machine, places, outbox, hub, standing, cancel: cancelled };
    tokio::spawn(Work::new(context, accepted).run());
    JobHandle { job, cancel, standing: watched }
}

/// What every step has at hand.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) job: JobId,
    machine: Arc<Machine>,
    places: Arc<Places>,
    outbox: Outbox,
    hub: mpsc::Sender<ToHub>,
    standing: watch::Sender<Standing>,
    cancel: watch::Receiver<bool>,
}

impl Context {
    fn event(&self, event: AgentEvent) -> Result<(), JobError> {
        self.outbox.push(event).map_err(JobError::Event)
    }

    fn enter(&self, phase: JobPhase) -> Result<(), JobError> {
        if *self.cancel.borrow() {
            return Err(JobError::Cancelled);
        }
        self.standing.send_replace(Standing::In(phase));
        self.event(AgentEvent::Phase { job: self.job, phase })
    }

    /// Asks the host for a transfer. Who waits is known before the host is.
    async fn want(&self, what: Transfer) -> Result<mpsc::Receiver<StreamPeer>, JobError> {
        let mut stream = Hex([0; 16]);
        getrandom::fill(&mut stream.0).map_err(|error| JobError::Internal(error.to_string()))?;
        let (sender, peers) = mpsc::channel(2);
        self.hub
            .send(ToHub::Want(Wanted { stream, peers: sender }))
            .await
            .map_err(|_| JobError::Internal("the hub is gone".into()))?;
        self.event(AgentEvent::StreamWanted { stream, job: self.job, what })?;
        Ok(peers)
    }

    async fn cancelled(&self) {
        let mut cancel = self.cancel.clone();
        // An error means that the hub is gone, and with it soon this task.
        let _ = cancel.wait_for(|cancelled| *cancelled).await;
    }
}

/// Everything that the receipt will say.
#[derive(Debug, Default)]
pub(crate) struct Record {
    exit: Option<TrainingExit>,
    durations: BTreeMap<&'static str, Duration>,
    metrics: Option<Vec<u8>>,
    chains: Chains,
    packed: Option<deliver::Packed>,
    /// Digest of the start evidence: there was a `job-start`.
    started: Option<[u8; 32]>,
}

#[derive(Debug)]
struct Work {
    context: Context,
    accepted: AcceptedJob,
    owner: Option<OwnerChannel>,
    folders: Option<Folders>,
    record: Record,
}

impl Work {
    fn new(context: Context, accepted: AcceptedJob) -> Self {
        Self { context, accepted, owner: None, folders: None, record: Record::default() }
    }

    async fn run(mut self) {
        let ended = self.work().await;
        let job = self.context.job;
        let peers = match ended {
            Ok(peers) => Some(peers),
            Err(error) => {
                self.fail(&error).await;
                None
            }
        };
        // Nothing of the job is needed any more but its sealed result.
        self.owner = None;
        self.accepted.secrecy = Secrecy::Plain;
        let _ = self.context.event(AgentEvent::Done { job });
        self.context.standing.send_replace(Standing::Ended);
        match (peers, &self.folders, self.record.packed) {
            (Some(mut peers), Some(folders), Some(packed)) => {
                folders.drop_work();
                let (result, length) = (folders.result(), packed.sha256.length());
                // A host that lost what it had may come again until it ends this VM.
                while deliver::send(&result, length, &mut peers).await.is_ok() {}
            }
            (_, Some(folders), _) => folders.drop_all(),
            _ => {}
        }
    }

    async fn work(&mut self) -> Result<mpsc::Receiver<StreamPeer>, JobError> {
        self.context.enter(JobPhase::Fetching)?;
        if let Secrecy::Sealed(sealed) = &self.accepted.secrecy {
            let owner = OwnerChannel::new(self.context.job, sealed, &self.accepted.digest)?;
            self.context.event(owner.envelope_event())?;
            self.owner = Some(owner);
        }
        let layer = self
            .context
            .machine
            .layer(&self.accepted.terms.image.verity_root.0)
            .ok_or(JobError::UnknownImage)?
            .folder
            .clone();
        prepare::check_script(&self.accepted.terms.script, &layer)?;
        let folders = Folders::create(&self.context.places.scratch, &self.context.job.to_string())?;
        self.folders = Some(folders.clone());
        prepare::check_space(&folders, &self.accepted.terms)?;
        let began = Instant::now();
        tokio::select! {
            fetched = self.fetch(&folders) => fetched?,
            () = self.context.cancelled() => return Err(JobError::Cancelled),
        }
        self.lasted("fetching", began);

        self.context.enter(JobPhase::Preparing)?;
        let began = Instant::now();
        let progress_file = self.prepare(&folders).await?;
        let may_take_work = self.start_evidence().await?;
        let devices = self.context.machine.attester.set_gpus_ready(may_take_work).await?;
        self.lasted("preparing", began);

        self.context.enter(JobPhase::Training)?;
        let began = Instant::now();
        let request = ContainerRequest { devices, ..self.request(&folders, layer) };
        let exit = self.train(&folders, &request, &progress_file).await;
        self.lasted("training", began);
        let exit = exit?;
        self.record.exit = Some(exit);
        if !exit.succeeded() {
            return Err(JobError::Training(exit));
        }
        let job = self.context.job;
        self.context.event(AgentEvent::Exited { job, exit: ExitClass::Succeeded })?;

        self.context.enter(JobPhase::Sealing)?;
        let began = Instant::now();
        let packed = self.pack(&folders).await?;
        self.record.packed = Some(packed);
        self.lasted("sealing", began);

        self.context.enter(JobPhase::Delivering)?;
        let receipt = self.receipt(None).await?;
        let mut peers = self.context.want(Transfer::Result).await?;
        let Packed { sha256, root, .. } = packed;
        self.context.event(AgentEvent::Result { job, sha256, root })?;
        if let Some(receipt) = receipt {
            self.context.event(receipt)?;
        }
        deliver::send(&folders.result(), sha256.length(), &mut peers).await?;
        Ok(peers)
    }

    async fn fetch(&self, folders: &Folders) -> Result<(), JobError> {
        let terms = &self.accepted.terms;
        fetch::content(&self.context, terms.model.id, &folders.model()).await?;
        match (&self.accepted.secrecy, terms.dataset.sealed) {
            (Secrecy::Sealed(sealed), Some(id)) => {
                fetch::sealed_dataset(
                    &self.context,
                    id,
                    terms.dataset.id,
                    &sealed.data_key,
                    &folders.dataset(),
                )
                .await
            }
            _ => fetch::content(&self.context, terms.dataset.id, &folders.dataset()).await,
        }
    }

    async fn prepare(&self, folders: &Folders) -> Result<File, JobError> {
        let (folders, terms) = (folders.clone(), self.accepted.terms.clone());
        let places = Arc::clone(&self.context.places);
        blocking(move || prepare::lay_out(&folders, &terms, &places)).await
    }

    /// Knobs, `job-start`, evidence: in this order, and nothing untrusted runs before the last of them.
    async fn start_evidence(&mut self) -> Result<MayTakeWork, JobError> {
        // After `modules_disabled` nothing could be loaded any more.
        self.context.places.modules_loaded().await?;
        let readings = knobs::apply(&self.context.places.proc_sys)?;
        let knobs = readings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let attester = &self.context.machine.attester;
        let nonce = FixedHex(self.accepted.terms.nonce.0);
        let previous = match &self.accepted.secrecy {
            Secrecy::Sealed(sealed) => sealed.offer,
            // A plain job answers no offer: what the VM was before it stands in its place.
            Secrecy::Plain => attester.outside(OutsidePurpose::Identity, nonce).await?.digest,
        };
        attester.extend(Event::job_start(&FixedHex(self.accepted.digest))).await?;
        let (made, may_take_work) = attester.start(nonce, self.binding(), previous, knobs).await?;
        self.record.started = Some(made.digest);
        let evidence = made.evidence;
        self.context.event(AgentEvent::Started { job: self.context.job, evidence })?;
        Ok(may_take_work)
    }

    async fn train(
        &mut self,
        folders: &Folders,
        request: &ContainerRequest,
        progress_file: &File,
    ) -> Result<TrainingExit, JobError> {
        let terms = &self.accepted.terms;
        let audience = Audience::of(terms.disclosure, self.owner.is_some());
        let mut progress = Progress::new(self.context.job, audience, terms.limits.log_bytes);
        let exit =
            train::run(&self.context, request, &mut progress, self.owner.as_mut(), progress_file)
                .await;
        if let Some(passed) = progress.first_output() {
            self.record.durations.insert("starting", passed);
        }
        for event in progress.last_words(self.owner.as_mut())? {
            self.context.outbox.push_when_room(event).await.map_err(JobError::Event)?;
        }
        // A result file of numbers tells more than the last line on the way.
        self.record.metrics = deliver::metrics_file(folders)
            .or_else(|| progress.last_metric().map(|line| line.as_bytes().to_vec()));
        exit
    }

    fn request(&self, folders: &Folders, layer: PathBuf) -> ContainerRequest {
        let terms = &self.accepted.terms;
        let mut environment = BTreeMap::from([
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            // So that the owner sees lines when they are printed.
            ("PYTHONUNBUFFERED".to_owned(), "1".to_owned()),
        ]);
        environment.extend(terms.environment.clone());
        let argv = [
            "python",
            &terms.script.container_path(),
            "--data_path",
            "/app/mnt/data",
            "--model_path",
            "/app/mnt/model",
            "--config_path",
            "/app/mnt/config.json",
            "--output_dir",
            "/app/mnt/output_model",
        ];
        ContainerRequest {
            id: format!("job-{}", self.context.job),
            rootfs: layer,
            work_dir: folders.work(),
            read_only: Vec::new(),
            devices: Vec::new(),
            argv: argv.map(str::to_owned).to_vec(),
            environment,
            limits: ContainerLimits {
                memory_bytes: terms.limits.memory_mib.saturating_mul(MIB),
                pids: u32::try_from(terms.limits.processes).unwrap_or(u32::MAX),
                cpus: self.context.machine.configuration.shape.vcpus,
                wall_seconds: terms.limits.seconds,
                file_bytes: None,
            },
            uid_base: UID_BASE,
        }
    }

    async fn pack(&self, folders: &Folders) -> Result<Packed, JobError> {
        folders.drop_inputs();
        let sealer = match &self.owner {
            Some(owner) => {
                Some(ResultSealer::new(&owner.envelope, &owner.object_key, &self.accepted.digest)?)
            }
            None => None,
        };
        let max_bytes = self.accepted.terms.limits.output_bytes;
        let folders = folders.clone();
        blocking(move || deliver::make(&folders, sealer, max_bytes)).await
    }

    /// Tells everybody what he may know, the owner first: the host may end the VM at the last word.
    async fn fail(&mut self, error: &JobError) {
        let job = self.context.job;
        eprintln!("{} job failed", error.code());
        if let Some(owner) = &mut self.owner
            && let Ok(frame) = owner.seal_failure(error)
        {
            let _ = self.context.event(frame);
        }
        // A record that cannot be made must not hide the failure itself.
        match self.receipt(Some(error)).await {
            Ok(record) => {
                if let Some(record) = record {
                    let _ = self.context.event(record);
                }
            }
            Err(record) => eprintln!("{} no failure record", record.code()),
        }
        if let JobError::Training(exit) = error {
            let _ = self.context.event(AgentEvent::Exited { job, exit: exit.class() });
        }
        let _ = self.context.event(AgentEvent::Failed { job, failure: error.failure() });
    }

    /// The signed record of a sealed job; a plain one has none.
    async fn receipt(
        &mut self,
        failure: Option<&JobError>,
    ) -> Result<Option<AgentEvent>, JobError> {
        let Some(owner) = &self.owner else { return Ok(None) };
        self.record.chains = owner.chains();
        let Secrecy::Sealed(sealed) = &self.accepted.secrecy else { return Ok(None) };
        let machine = &self.context.machine;
        let sign = |gpu| receipt::sign(machine, &self.accepted, sealed, &self.record, failure, gpu);
        let (signed, evidence) = match self.record.started {
            Some(start) => {
                let nonce = FixedHex(self.accepted.terms.nonce.0);
                match machine.attester.begin_receipt(nonce).await {
                    // A GPU that is gone does not take the record of the failure along; the start evidence vouches for its key.
                    Err(ServeError::Gpu(error)) if failure.is_some() => {
                        eprintln!("{} no evidence with the failure record", error.code());
                        (sign(Vec::new())?, None)
                    }
                    turn => {
                        let turn = turn?;
                        let signed = sign(turn.gpu())?;
                        let digest = signed.payload_digest;
                        let made = turn.finish(self.binding(), start, digest).await?;
                        (signed, Some(made.evidence))
                    }
                }
            }
            // Before `job-start` there is no evidence of a job.
            None => (sign(Vec::new())?, None),
        };
        let job = self.context.job;
        Ok(Some(AgentEvent::Receipt { job, envelope: signed.envelope, evidence }))
    }

    fn binding(&self) -> JobBinding {
        JobBinding {
            job: FixedHex(*self.context.job.as_bytes()),
            attempt: self.accepted.terms.attempt,
            spec: FixedHex(self.accepted.digest),
        }
    }

    fn lasted(&mut self, phase: &'static str, since: Instant) {
        self.record.durations.insert(phase, since.elapsed());
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JobError> + Send + 'static,
) -> Result<T, JobError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(JobError::Internal(error.to_string())),
    }
}
