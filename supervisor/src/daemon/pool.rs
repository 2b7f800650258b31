//! The task that owns the set of VMs: it starts one for the head of the queue when there is room, ends those whose
//! job is over, and keeps the release deadlines. It decides from the store alone, so a restart changes nothing.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use sealtune_evidence::Shape;
use sealtune_job::{FailReason, Hex, JobEvent};
use sealtune_wire::v1::{AgentReply, AgentRequest};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    api::types::VmRequest,
    store::{JobRow, StoreError, VmRow, now_ms},
    vm::{
        definition::{DefinedLayer, DefinitionError, VmDefinition, VmPlan},
        image::{GuestImage, ImageError},
        probe::HostAbility,
        quoting::QuoteService,
        task::{RequestError, VmCommand, VmContext, VmHandle, VmTask, first_view},
        tee::{self, TeeError},
    },
};

/// A job that is ended because it holds its VM for longer than the operator allows.
const TOO_LONG: &str = "ST-POOL-09";

#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    #[error("start a VM: all {0} are in use")]
    Full(usize),
    #[error("start a VM: this host has no training image with root {0}")]
    NoSuchImage(Hex<32>),
    #[error("find VM {0} among the running ones")]
    NotRunning(String),
    #[error("start a VM: {0} MiB of memory are too little for it")]
    Memory(u64),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    #[error(transparent)]
    Tee(#[from] TeeError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("reach the pool: the daemon is ending")]
    Ending,
}

impl PoolError {
    pub(crate) fn code(&self) -> String {
        match self {
            Self::Full(_) => "ST-POOL-01".into(),
            Self::NoSuchImage(_) => "ST-POOL-02".into(),
            Self::NotRunning(_) => "ST-POOL-03".into(),
            Self::Ending => "ST-POOL-04".into(),
            Self::Definition(_) => "ST-POOL-05".into(),
            Self::Request(RequestError::NotReady) => "ST-POOL-06".into(),
            Self::Request(RequestError::Lost) => "ST-POOL-07".into(),
            Self::Memory(_) => "ST-POOL-08".into(),
            Self::Request(RequestError::Silent) => "ST-POOL-10".into(),
            Self::Request(RequestError::Refused(code)) => code.clone(),
            Self::Store(error) => error.code().into(),
            Self::Tee(error) => error.code().into(),
            Self::Image(error) => error.code().into(),
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Full(_) => "wait for a VM to end, or raise --max-vms",
            Self::NoSuchImage(_) => "name a root that the provider's /v1/health lists",
            Self::NotRunning(_) => "list VMs with `sealtune vm ls`",
            Self::Ending => "try again when the daemon is up",
            Self::Request(RequestError::NotReady | RequestError::Lost) => {
                "try again in a few seconds"
            }
            Self::Request(RequestError::Silent) => {
                "look at the VM's log with `sealtune vm logs`; stop it if it stays silent"
            }
            Self::Request(RequestError::Refused(_)) => {
                "look the code up in the README of its area (ST-AGENT: agent)"
            }
            Self::Memory(_) => "ask for at least 256 MiB",
            Self::Store(error) => error.fix(),
            Self::Image(error) => error.fix(),
            Self::Definition(_) | Self::Tee(_) => "check the guest image and the state directory",
        }
    }
}

/// What the pool needs besides what VMs need.
#[derive(Debug)]
pub(crate) struct PoolSettings {
    pub(crate) ability: HostAbility,
    pub(crate) image: GuestImage,
    pub(crate) firmware: PathBuf,
    pub(crate) layers: Vec<DefinedLayer>,
    pub(crate) run_directory: PathBuf,
    pub(crate) max_vms: usize,
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u64,
    /// How long one attempt of a job may hold its VM.
    pub(crate) job_time: Duration,
    pub(crate) quote_service: QuoteService,
}

enum Message {
    Start { request: VmRequest, reply: oneshot::Sender<Result<String, PoolError>> },
    Find { vm: String, reply: oneshot::Sender<Option<VmHandle>> },
}

#[derive(Debug, Clone)]
pub(crate) struct PoolHandle(mpsc::Sender<Message>);

impl PoolHandle {
    /// Knows these VMs, and starts none.
    #[cfg(test)]
    pub(crate) fn of(handles: HashMap<String, VmHandle>) -> Self {
        let (sender, mut messages) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                match message {
                    Message::Find { vm, reply } => {
                        let _ = reply.send(handles.get(&vm).cloned());
                    }
                    Message::Start { reply, .. } => {
                        let _ = reply.send(Err(PoolError::Full(0)));
                    }
                }
            }
        });
        Self(sender)
    }

    pub(crate) async fn start(&self, request: VmRequest) -> Result<String, PoolError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.send(Message::Start { request, reply }).await;
        sent.map_err(|_| PoolError::Ending)?;
        answer.await.map_err(|_| PoolError::Ending)?
    }

    pub(crate) async fn find(&self, vm: &str) -> Result<VmHandle, PoolError> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Find { vm: vm.to_owned(), reply };
        self.0.send(message).await.map_err(|_| PoolError::Ending)?;
        let found = answer.await.map_err(|_| PoolError::Ending)?;
        found.ok_or_else(|| PoolError::NotRunning(vm.to_owned()))
    }

    pub(crate) async fn stop(&self, vm: &str) -> Result<(), PoolError> {
        let handle = self.find(vm).await?;
        handle.commands.send(VmCommand::Stop).await.map_err(|_| PoolError::Ending)
    }

    pub(crate) async fn request(
        &self,
        vm: &str,
        request: AgentRequest,
    ) -> Result<AgentReply, PoolError> {
        Ok(self.find(vm).await?.request(request).await?)
    }
}

pub(crate) struct Pool {
    context: Arc<VmContext>,
    settings: Arc<PoolSettings>,
    handles: HashMap<String, VmHandle>,
    running: JoinSet<String>,
    messages: mpsc::Receiver<Message>,
}

impl Pool {
    pub(crate) fn new(context: Arc<VmContext>, settings: Arc<PoolSettings>) -> (Self, PoolHandle) {
        let (sender, messages) = mpsc::channel(64);
        let (handles, running) = (HashMap::new(), JoinSet::new());
        (Self { context, settings, handles, running, messages }, PoolHandle(sender))
    }

    /// Takes up the VMs that a daemon before this one left, then runs until it is dropped.
    pub(crate) async fn run(mut self) -> Result<(), PoolError> {
        for row in self.context.store.open_vms().await? {
            tracing::info!(vm = %row.definition.id, "taking up a VM that was {}", row.view.state);
            self.spawn(row);
        }
        let mut changes = self.context.changes.watch();
        loop {
            if let Err(error) = self.settle().await {
                tracing::error!("schedule: {error}");
            }
            let pause = self.until_deadline().await;
            tokio::select! {
                () = changes.next(pause) => {}
                Some(message) = self.messages.recv() => self.answer(message).await,
                Some(ended) = self.running.join_next(), if !self.running.is_empty() => {
                    if let Ok(vm) = ended {
                        self.handles.remove(&vm);
                    }
                }
            }
        }
    }

    async fn answer(&mut self, message: Message) {
        match message {
            Message::Find { vm, reply } => {
                let _ = reply.send(self.handles.get(&vm).cloned());
            }
            Message::Start { request, reply } => {
                let _ = reply.send(self.start(None, &request).await);
            }
        }
    }

    async fn until_deadline(&self) -> Duration {
        let longest = Duration::from_secs(30);
        match self.context.store.next_deadline().await {
            Ok(Some(deadline)) => {
                let left = (deadline - now_ms()).max(10).unsigned_abs();
                Duration::from_millis(left).min(longest)
            }
            _ => longest,
        }
    }

    /// Does whatever the store says is due.
    async fn settle(&mut self) -> Result<(), PoolError> {
        for job in self.context.store.overdue(now_ms()).await? {
            let applied = self.context.store.apply(job, &JobEvent::ReleaseDeadline, 0).await;
            if applied.is_ok() {
                self.context.changes.announce();
            }
        }
        // A daemon that died between the end of a VM and the word to its job left the job tied to nothing.
        for job in self.context.store.stranded().await? {
            tracing::warn!(%job, "its VM is gone");
            if self.context.store.apply(job, &JobEvent::VmLost, 0).await.is_ok() {
                self.context.changes.announce();
            }
        }
        for handle in self.handles.values() {
            let Some(job) = handle.job else { continue };
            let row = self.context.store.job(job).await?;
            if row.state.is_final() {
                // A full queue means that the VM has been told already.
                let _ = handle.commands.try_send(VmCommand::Stop);
            } else if is_over(handle.started, self.settings.job_time, now_ms()) {
                tracing::warn!(%job, "it holds its VM for too long");
                let code = TOO_LONG.to_owned();
                let failed = JobEvent::AgentFailed(FailReason::Host { code });
                self.context.store.apply(job, &failed, 0).await?;
                self.context.changes.announce();
            }
        }
        while self.handles.len() < self.settings.max_vms {
            let Some(job) = self.context.store.next_for_a_vm().await? else { break };
            let request = VmRequest::default();
            if let Err(error) = self.start(Some(&job), &request).await {
                tracing::error!(job = %job.id(), "{error}");
                let code = error.code();
                let failed = JobEvent::AgentFailed(FailReason::Host { code });
                self.context.store.apply(job.id(), &failed, 0).await?;
                self.context.changes.announce();
            }
        }
        Ok(())
    }

    async fn start(
        &mut self,
        job: Option<&JobRow>,
        request: &VmRequest,
    ) -> Result<String, PoolError> {
        let settings = self.settings.clone();
        if self.handles.len() >= settings.max_vms {
            return Err(PoolError::Full(settings.max_vms));
        }
        let layers = match job {
            None => Vec::new(),
            Some(job) => {
                let root = job.submission.image;
                let mut found = settings.layers.iter().filter(|l| l.layer.root.0 == root.0);
                vec![found.next().cloned().ok_or(PoolError::NoSuchImage(root))?]
            }
        };
        let memory_mib = request.memory_mib.unwrap_or(settings.memory_mib);
        if memory_mib < 256 {
            return Err(PoolError::Memory(memory_mib));
        }
        let vcpus = request.vcpus.unwrap_or(settings.vcpus).clamp(1, 512);
        let measured = settings.clone();
        let boot = tokio::task::spawn_blocking(move || {
            tee::measure(&measured.firmware, &measured.image, Shape { vcpus, memory_mib })
        });
        let boot = boot.await.map_err(|_| PoolError::Ending)??;
        let definition = VmDefinition::new(VmPlan {
            job: job.map(JobRow::id),
            accelerator: settings.ability.accelerator,
            kernel_vsock: settings.ability.kernel_vsock,
            sandbox: settings.ability.sandbox,
            vcpus,
            memory_mib,
            run_directory: &settings.run_directory,
            firmware: &settings.firmware,
            image: &settings.image,
            layers,
            boot,
            quote_service: settings.quote_service.clone(),
        })?;
        let view = first_view(&definition);
        let attempt = job.map_or(0, |job| job.attempt);
        self.context.store.add_vm(&definition, &view, attempt).await?;
        let id = definition.id.clone();
        self.spawn(VmRow { definition, view, processes: Vec::new(), acknowledged: 0, attempt });
        self.context.changes.announce();
        Ok(id)
    }

    fn spawn(&mut self, row: VmRow) {
        let id = row.definition.id.clone();
        let (task, handle) = VmTask::new(self.context.clone(), row);
        self.handles.insert(id.clone(), handle);
        self.running.spawn(async move {
            task.run().await;
            id
        });
    }
}

/// The guest keeps its owner's limit itself; this one is for guests that do not, and for transfers that never end.
fn is_over(started: i64, allowed: Duration, now: i64) -> bool {
    let allowed = i64::try_from(allowed.as_millis()).unwrap_or(i64::MAX);
    now.saturating_sub(started) > allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_is_held_for_as_long_as_the_operator_allows() {
        let hour = Duration::from_secs(3600);
        assert!(!is_over(1000, hour, 1000 + 3_600_000));
        assert!(is_over(1000, hour, 1000 + 3_600_001));
        assert!(!is_over(5000, hour, 0), "a clock that went back ends nothing");
        assert!(!is_over(0, Duration::MAX, i64::MAX));
    }
}
