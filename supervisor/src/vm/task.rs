//! The one task that owns a VM: it starts the processes, keeps the control connection, stores the agent's events,
//! carries out transfers, and ends everything in order. Others send it [`VmCommand`]s and read what it stores.
//!
//! It starts a new VM or takes up one that a daemon before it started; from then on both are the same.

mod connector;
mod events;
mod handle;
mod transfers;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use sealtune_job::{FailReason, Hex, JobEvent, JobId};
use sealtune_wire::v1::{AgentReply, AgentRequest, ToAgent, ToSupervisor};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};

pub(crate) use self::handle::{RequestError, VmCommand, VmHandle};
use self::{connector::Connector, events::Broken};
use super::{
    arguments::{Accelerator, qemu_arguments, vsock_helper_arguments},
    collateral::HostCollateral,
    link::{Link, LinkError, back_off},
    process::{self, Watched},
    state::{VmEvent, VmFailure, VmState},
    streams::StreamError,
    tee::HostTee,
    transport::{Address, TransportError, wait_for_rings},
};
use crate::{
    api::{quotes::VmLine, types::VmView},
    content::ContentStore,
    daemon::changes::Changes,
    store::{Store, StoreError, VmRow, now_ms},
};

/// A VM that was ready and has not been heard for so long is lost.
const SILENT_VM: Duration = Duration::from_secs(600);
/// Consoles and logs of a VM start anew beyond this length: a guest cannot fill the disk.
const LOG_LIMIT: u64 = 16 << 20;

/// What every VM's task needs of the daemon.
#[derive(Debug)]
pub(crate) struct VmContext {
    pub(crate) store: Store,
    pub(crate) tee: HostTee,
    pub(crate) collateral: HostCollateral,
    pub(crate) content: ContentStore,
    pub(crate) changes: Changes,
    pub(crate) qemu: PathBuf,
    pub(crate) vsock_helper: PathBuf,
    pub(crate) results: PathBuf,
    pub(crate) release_time: Duration,
    pub(crate) stop_time: Duration,
}

enum Pending {
    Launch,
    PlainTerms(JobId),
    Shutdown,
    Command(oneshot::Sender<Result<AgentReply, RequestError>>),
}

/// Why the inner loop ended.
enum End {
    Ended,
    Failed(VmFailure),
    StopTime,
}

pub(crate) struct VmTask {
    context: Arc<VmContext>,
    row: VmRow,
    state: VmState,

    commands: mpsc::Receiver<VmCommand>,
    link: Option<Link>,
    pending: HashMap<u64, Pending>,
    next_request: u64,
    active: HashSet<Hex<16>>,
    streams: JoinSet<(Hex<16>, Result<(), StreamError>)>,
    started: Instant,
    taken_up: bool,
    stop_deadline: Option<Instant>,
}

/// Boot time that is allowed: an emulated guest is slow, and large memory takes time to accept.
pub(crate) fn boot_deadline(accelerator: Accelerator, vcpus: u32, memory_mib: u64) -> Duration {
    let gib = memory_mib.div_ceil(1024);
    let seconds = match accelerator {
        Accelerator::Tcg => 180 + 4 * gib + u64::from(vcpus),
        Accelerator::Kvm => 60 + gib,
        Accelerator::Tdx => 120 + 2 * gib + u64::from(vcpus),
    };
    Duration::from_secs(seconds)
}

impl VmTask {
    pub(crate) fn new(context: Arc<VmContext>, row: VmRow) -> (Self, VmHandle) {
        let (sender, commands) = mpsc::channel(16);
        let handle = VmHandle {
            job: row.definition.job,
            started: row.view.started,
            commands: sender,
            line: Arc::new(VmLine::new(row.definition.devices())),
        };
        let state = match row.view.state.as_str() {
            "defined" => VmState::Defined,
            "starting" => VmState::Starting,
            "ready" => VmState::Ready,
            "draining" => VmState::Draining,
            _ => VmState::Booting,
        };
        let taken_up = state != VmState::Defined;
        let task = Self {
            context,
            row,
            state,

            commands,
            link: None,
            pending: HashMap::new(),
            next_request: 1,
            active: HashSet::new(),
            streams: JoinSet::new(),
            started: Instant::now(),
            taken_up,
            stop_deadline: None,
        };
        (task, handle)
    }

    /// Runs until the VM has ended and its processes are gone.
    pub(crate) async fn run(mut self) {
        let processes = match self.state {
            VmState::Defined => self.start().await,
            _ => {
                let found = self.find_processes();
                if !found.is_empty() {
                    self.step(VmEvent::ProcessesRun).await;
                }
                Ok(found)
            }
        };
        let (watched, end) = match processes {
            Err(failure) => (Vec::new(), End::Failed(failure)),
            Ok(watched) if watched.is_empty() => (watched, End::Ended),
            Ok(watched) => {
                let end = self.serve(&watched[0]).await;
                (watched, end)
            }
        };
        self.link = None;
        for process in &watched {
            process.end(Duration::from_secs(3)).await;
        }
        self.streams.shutdown().await;
        // Whatever was started and never stored: a daemon that died in between, a start that failed half-way.
        process::kill_strays(&self.row.definition.folder);
        // Result and receipt may have arrived before the VM went.
        let _ = self.try_complete().await;
        if let (End::Failed(VmFailure::Launch { code }), Some(job)) =
            (&end, self.row.definition.job)
        {
            // The same files would be refused again: another VM would only boot in vain.
            let reason = FailReason::Host { code: code.clone() };
            let _ = self.apply(job, &JobEvent::AgentFailed(reason)).await;
        }
        if let Err(error) = self.job_lost().await {
            tracing::error!(vm = %self.row.definition.id, "store the end of a VM: {error}");
        }
        match end {
            End::Failed(failure) => self.step(VmEvent::Failed(failure)).await,
            End::Ended | End::StopTime => self.step(VmEvent::Ended).await,
        }
        self.context.changes.announce();
    }

    async fn start(&mut self) -> Result<Vec<Watched>, VmFailure> {
        self.step(VmEvent::Start).await;
        let failed = |detail: String| VmFailure::Start { detail };
        let definition = self.row.definition.clone();
        std::fs::create_dir_all(&definition.folder).map_err(|error| failed(error.to_string()))?;

        let mut helper = None;
        if let Address::Unix { socket } = &definition.address {
            let device = definition.device_socket();
            let arguments = vsock_helper_arguments(definition.cid, &device, socket);
            let log = definition.folder.join("vsock.log");
            let identity = process::spawn(&self.context.vsock_helper, &arguments, &log)
                .map_err(|error| failed(error.to_string()))?;
            helper = Some(identity);
            wait_for_file(&device).await.map_err(|()| {
                failed("vhost-device-vsock did not make its socket; see vsock.log".into())
            })?;
        }
        let arguments = qemu_arguments(&definition.shape());
        let log = definition.folder.join("qemu.log");
        let qemu = process::spawn(&self.context.qemu, &arguments, &log)
            .map_err(|error| failed(error.to_string()))?;
        self.row.view.pid = Some(qemu.pid);
        self.row.processes = std::iter::once(qemu).chain(helper).collect();
        let stored = self.context.store.set_processes(&definition.id, &self.row.processes).await;
        stored.map_err(|error| failed(error.to_string()))?;
        self.started = Instant::now();
        self.step(VmEvent::ProcessesRun).await;
        Ok(self.find_processes())
    }

    /// Watches what runs; without QEMU the rest is ended and nothing is left.
    fn find_processes(&self) -> Vec<Watched> {
        let mut watched = Vec::new();
        for (index, identity) in self.row.processes.iter().enumerate() {
            match Watched::open(*identity) {
                Ok(Some(process)) => watched.push(process),
                // Without QEMU there is no VM; the rest is ended with the strays.
                Ok(None) | Err(_) if index == 0 => return Vec::new(),
                Ok(None) | Err(_) => {}
            }
        }
        watched
    }

    async fn serve(&mut self, qemu: &Watched) -> End {
        let definition = self.row.definition.clone();
        let boot_limit =
            boot_deadline(definition.accelerator, definition.vcpus, definition.memory_mib);
        let boot_deadline = self.started + boot_limit;
        let (links, mut new_links) = mpsc::channel(1);
        let mut connector = self.connect(links.clone());
        let mut ping = tokio::time::interval(Duration::from_secs(10));
        let mut silent_since = Some(Instant::now());
        if self.state == VmState::Draining {
            self.stop_deadline = Some(Instant::now() + self.context.stop_time);
        }
        loop {
            let booting = self.state == VmState::Booting;
            let silent_at = silent_since.filter(|_| !booting).map(|since| since + SILENT_VM);
            let stop_at = self.stop_deadline;
            let outcome = tokio::select! {
                () = qemu.ended() => return End::Ended,
                () = tokio::time::sleep_until(boot_deadline), if booting => {
                    return End::Failed(VmFailure::BootDeadline);
                }
                () = wait_until(stop_at), if stop_at.is_some() => return End::StopTime,
                () = wait_until(silent_at), if silent_at.is_some() => {
                    return End::Failed(VmFailure::Silent);
                }
                Some(opened) = new_links.recv() => {
                    let Some(link) = opened else { return End::Failed(VmFailure::Deaf) };
                    silent_since = None;
                    self.link = Some(link);
                    self.launch().await
                }
                message = receive(&mut self.link), if self.link.is_some() => match message {
                    Some(message) => match self.handle(message).await {
                        Ok(()) => Ok(()),
                        Err(Broken::Link) => Err(()),
                        Err(Broken::Vm(failure)) => return End::Failed(failure),
                    },
                    None => Err(()),
                },
                Some(command) = self.commands.recv() => self.command(command).await,
                Some(finished) = self.streams.join_next(), if !self.streams.is_empty() => {
                    self.stream_finished(finished).await
                }
                _ = ping.tick() => self.tick().await,
            };
            if outcome.is_err() && self.link.is_some() {
                silent_since = Some(Instant::now());
                self.link = None;
                for (_, pending) in self.pending.drain() {
                    if let Pending::Command(reply) = pending {
                        let _ = reply.send(Err(RequestError::Lost));
                    }
                }
                // The one before may still be trying.
                drop(std::mem::replace(&mut connector, self.connect(links.clone())));
            }
        }
    }

    /// What has to be looked at now and then.
    async fn tick(&mut self) -> Result<(), ()> {
        for log in ["console.log", "qemu.log", "vsock.log"] {
            bound_log(&self.row.definition.folder.join(log));
        }
        self.try_complete().await?;
        if self.link.is_none() {
            return Ok(());
        }
        self.send(&ToAgent::Ping { nonce: self.next_request }).await
    }

    /// Tries to connect until it succeeds; the new link arrives by the channel, or none when there will never be one.
    fn connect(&self, links: mpsc::Sender<Option<Link>>) -> Connector {
        let definition = self.row.definition.clone();
        let store = self.context.store.clone();
        let helper = self.row.processes.get(1).map(|helper| helper.pid);
        let is_new = self.state == VmState::Booting;
        Connector(tokio::spawn(async move {
            if let Some(helper) = helper.filter(|_| is_new) {
                wait_for_rings(helper).await;
            }
            for attempt in 0.. {
                let opened = async {
                    let generation = store.next_generation(&definition.id).await?;
                    let acknowledged = store.acknowledged(&definition.id).await?;
                    Ok::<_, StoreError>(Link::open(&definition, generation, acknowledged).await)
                };
                match opened.await {
                    Ok(Ok(link)) => {
                        let _ = links.send(Some(link)).await;
                        return;
                    }
                    Ok(Err(LinkError::Transport(TransportError::Deaf))) => {
                        let _ = links.send(None).await;
                        return;
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(vm = %definition.id, "not connected: {error}")
                    }
                    Err(error) => tracing::error!(vm = %definition.id, "{error}"),
                }
                tokio::time::sleep(back_off(attempt)).await;
            }
        }))
    }

    async fn send(&mut self, message: &ToAgent) -> Result<(), ()> {
        let Some(link) = &mut self.link else {
            return Err(());
        };
        link.send(message).await.map_err(|error| tracing::debug!("send: {error}"))
    }

    async fn request(&mut self, request: AgentRequest, pending: Pending) -> Result<(), ()> {
        let id = self.next_request;
        self.next_request += 1;
        self.pending.insert(id, pending);
        self.send(&ToAgent::Request { id, request }).await
    }

    async fn launch(&mut self) -> Result<(), ()> {
        use base64::Engine as _;
        let configuration =
            base64::engine::general_purpose::STANDARD.encode(&self.row.definition.launch);
        self.request(AgentRequest::Launch { configuration }, Pending::Launch).await
    }

    async fn command(&mut self, command: VmCommand) -> Result<(), ()> {
        match command {
            VmCommand::Stop => {
                self.begin_stop().await;
                Ok(())
            }
            VmCommand::Request { request, reply } => {
                if self.state != VmState::Ready || self.link.is_none() {
                    let _ = reply.send(Err(RequestError::NotReady));
                    return Ok(());
                }
                self.request(request, Pending::Command(reply)).await
            }
        }
    }

    async fn begin_stop(&mut self) {
        if self.stop_deadline.is_some() {
            return;
        }
        self.step(VmEvent::StopAsked).await;
        self.stop_deadline = Some(Instant::now() + self.context.stop_time);
        // A VM that cannot be asked is ended when the deadline has passed.
        let _ = self.request(AgentRequest::Shutdown, Pending::Shutdown).await;
    }

    async fn step(&mut self, event: VmEvent) {
        let Some(next) = self.state.after(&event) else {
            return;
        };
        let id = &self.row.definition.id;
        match &next {
            VmState::Failed { reason } => tracing::warn!(vm = %id, "{reason} [{}]", reason.code()),
            next => tracing::info!(vm = %id, "VM is {}", next.name()),
        }
        self.row.view.failure = match &next {
            VmState::Failed { reason } => Some(format!("{}: {reason}", reason.code())),
            _ => None,
        };
        self.state = next;
        self.row.view.state = self.state.name().to_owned();
        let open = !self.state.is_final();
        if let Err(error) = self.context.store.set_vm_view(&self.row.view, open).await {
            tracing::error!("{error}");
        }
        self.context.changes.announce();
    }
}

async fn receive(link: &mut Option<Link>) -> Option<ToSupervisor> {
    match link {
        Some(link) => link.receive().await,
        None => std::future::pending().await,
    }
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The writers append, so that a file cut to nothing goes on from its start.
fn bound_log(path: &std::path::Path) {
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > LOG_LIMIT) {
        let opened = std::fs::OpenOptions::new().write(true).open(path);
        let _ = opened.and_then(|file| file.set_len(0));
    }
}

/// A helper's socket appears within milliseconds.
async fn wait_for_file(path: &std::path::Path) -> Result<(), ()> {
    for _ in 0..500 {
        if path.exists() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(())
}

/// The view of a VM that has been decided on and not started.
pub(crate) fn first_view(definition: &super::definition::VmDefinition) -> VmView {
    VmView {
        vm: definition.id.clone(),
        state: VmState::Defined.name().to_owned(),
        role: "worker".to_owned(),
        job: definition.job,
        cid: definition.cid,
        pid: None,
        accelerator: definition.accelerator.name().to_owned(),
        vcpus: definition.vcpus,
        memory_mib: definition.memory_mib,
        started: now_ms(),
        ready_ms: None,
        resident_kib: None,
        kernel: None,
        instance: None,
        rtmr3: None,
        failure: None,
    }
}
