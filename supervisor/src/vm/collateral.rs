//! The host's collateral: what a verifier needs besides the evidence, fetched for this machine and put into every bundle,
//! so that a receipt carries what it is judged with years later.
//!
//! One task asks Intel, AMD and NVIDIA, keeps the answers in the state directory, and publishes them. It learns from the
//! first bundle which machine and which GPUs this is. Who asks for evidence waits whenever something is due, and not long: a
//! provider without a network serves evidence without collateral, which verifiers can fetch themselves.
//!
//! Bundles come from VMs, which nobody trusts. Nobody is asked about a quote that its machine did not sign for this very VM,
//! or about a GPU that is none of NVIDIA's; a VM that brings other machines' has a budget; only what a bundle's quote verifies
//! with is kept; and a failure keeps nobody from being asked about another machine or other GPUs.
//!
//! ```text
//!   bundle ── due? ──no──► what is kept is put in
//!               └──yes──► signed? ─► wish ─► task: budget ─► fetch ─► verify the quote ─► kept ─► state directory, published
//! ```

mod budget;
mod gpus;
mod kept;
mod rests;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sealtune_evidence::{
    Anchors, EvidenceBundle,
    collateral::{
        Brought, Facts, GpuInquiry, IntelInquiry, Missing, Services, SnpInquiry, Update, Worth,
        keep_genuine_devices,
    },
    nvidia::NvidiaRoots,
    snp::Roots,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use super::definition::VmDefinition;
use crate::client::inquiry::{self, AskError};
use budget::Budget;
use kept::{Dated, Kept, MAX_FILE, MAX_PLATFORMS, Maker, Platform, REST};
use rests::Rests;

const FILE: &str = "collateral.json";
/// How long a request for evidence waits for what is missing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the task looks whether something is due.
const TICK: Duration = Duration::from_secs(60);
/// How long one refresh of everything may take.
const MOST: Duration = Duration::from_secs(120);
const WISHES: usize = 8;

#[derive(Debug, Clone)]
pub(crate) struct CollateralSettings {
    pub(crate) services: Services,
    /// Seconds after which collateral is fetched again; 0: never.
    pub(crate) refresh: u64,
}

/// What the daemon asks for collateral.
#[derive(Debug)]
pub(crate) enum HostCollateral {
    /// The TEE is simulated and brings its own, or the operator wants none.
    Off,
    On(Box<Handle>),
}

#[derive(Debug)]
pub(crate) struct Handle {
    kept: watch::Receiver<Arc<Kept>>,
    wishes: mpsc::Sender<Wish>,
    refresh: u64,
    /// NVIDIA's; a test has its own.
    roots: NvidiaRoots,
    clock: fn() -> u64,
}

#[derive(Debug)]
struct Wish {
    vm: String,
    bundle: EvidenceBundle,
    done: oneshot::Sender<()>,
}

impl HostCollateral {
    /// Begins with what is left from before.
    pub(crate) fn start(state: &Path, settings: CollateralSettings, clock: fn() -> u64) -> Self {
        Self::start_with(state, settings, clock, Eyes::default())
    }

    fn start_with(
        state: &Path,
        settings: CollateralSettings,
        clock: fn() -> u64,
        Eyes { verifies, roots }: Eyes,
    ) -> Self {
        if settings.refresh == 0 {
            return Self::Off;
        }
        let path = state.join(FILE);
        let kept = Arc::new(load(&path));
        let (publish, published) = watch::channel(Arc::clone(&kept));
        let (wishes, wished) = mpsc::channel(WISHES);
        let refresh = settings.refresh;
        let keeper = Keeper {
            path,
            settings,
            kept,
            publish,
            last: None,
            rests: Rests::default(),
            unproven: BTreeMap::new(),
            budget: Budget::new(clock()),
            verifies,
            most: MOST,
            clock,
        };
        tokio::spawn(keeper.run(wished));
        Self::On(Box::new(Handle { kept: published, wishes, refresh, roots, clock }))
    }

    /// Puts in what there is. [`Self::ready`] comes before.
    pub(crate) fn attach(&self, bundle: &mut EvidenceBundle) {
        let Self::On(handle) = self else { return };
        handle.kept().attach(bundle, (handle.clock)());
    }

    /// Waits for what is due, and not long. Evidence of another TEE than the one that the VM was started with is made up.
    pub(crate) async fn ready(&self, vm: &VmDefinition, bundle: &EvidenceBundle) {
        if vm.accelerator.makes_evidence_of(bundle.tee) {
            self.ready_for(&vm.id, bundle).await;
        }
    }

    async fn ready_for(&self, vm: &str, bundle: &EvidenceBundle) {
        let Self::On(handle) = self else { return };
        if let Some(done) = handle.wish(vm, bundle) {
            let _ = tokio::time::timeout(PATIENCE, done).await;
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }
}

impl Handle {
    /// Not held while it is read: publishing would wait.
    fn kept(&self) -> Arc<Kept> {
        Arc::clone(&self.kept.borrow())
    }

    /// `None` if nothing is due, if nobody outside is to hear of this evidence, or if the task has enough to do.
    fn wish(&self, vm: &str, bundle: &EvidenceBundle) -> Option<oneshot::Receiver<()>> {
        let now = (self.clock)();
        let due = |bundle: &EvidenceBundle| self.kept().due(bundle, now, self.refresh).anything();
        if !due(bundle) || Worth::of_platform(bundle) == Worth::Nothing {
            return None;
        }
        let mut bundle = bundle.clone();
        keep_genuine_devices(&mut bundle, &self.roots, now);
        if !due(&bundle) {
            return None;
        }
        let (done, receiver) = oneshot::channel();
        let wish = Wish { vm: vm.to_owned(), bundle, done };
        self.wishes.try_send(wish).ok().map(|()| receiver)
    }
}

/// How bundles are looked at.
struct Eyes {
    verifies: Verifies,
    roots: NvidiaRoots,
}

impl Default for Eyes {
    fn default() -> Self {
        Self { verifies, roots: NvidiaRoots::nvidia() }
    }
}

/// Whether the bundle's quote verifies with this.
type Verifies = fn(&EvidenceBundle, Brought<'_>, u64) -> bool;

fn verifies(bundle: &EvidenceBundle, brought: Brought<'_>, now: u64) -> bool {
    Facts::of_hardware(bundle, brought, &Anchors::default(), now).is_some()
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Ask(#[from] AskError),
    #[error("fetch collateral: it took too long")]
    Slow,
    #[error("fetch collateral of GPUs: {}", gpus::told(.0))]
    Missing(Vec<Missing>),
}

impl From<Vec<Missing>> for Failure {
    fn from(missing: Vec<Missing>) -> Self {
        Self::Missing(missing)
    }
}

struct Keeper {
    path: PathBuf,
    settings: CollateralSettings,
    kept: Arc<Kept>,
    publish: watch::Sender<Arc<Kept>>,
    /// What is refreshed by itself; its quote verified.
    last: Option<EvidenceBundle>,
    rests: Rests,
    /// Fetched for quotes that do not verify with it. The next one of such a machine may, and nobody is asked again.
    unproven: BTreeMap<String, Dated<Platform>>,
    budget: Budget,
    verifies: Verifies,
    most: Duration,
    clock: fn() -> u64,
}

impl Keeper {
    async fn run(mut self, mut wishes: mpsc::Receiver<Wish>) {
        loop {
            match tokio::time::timeout(TICK, wishes.recv()).await {
                Ok(Some(Wish { vm, bundle, done })) => {
                    self.refresh(Some(&vm), bundle).await;
                    let _ = done.send(());
                }
                Ok(None) => return,
                Err(_) => {
                    if let Some(bundle) = self.last.clone() {
                        self.refresh(None, bundle).await;
                    }
                }
            }
        }
    }

    /// Everything that is due; the platform first, since only its quote says that the GPUs are worth asking about. Without a
    /// VM, what verified before is refreshed.
    async fn refresh(&mut self, vm: Option<&str>, bundle: EvidenceBundle) {
        let now = (self.clock)();
        let end = Instant::now() + self.most;
        let refresh = self.settings.refresh;
        let mut newest = Kept::clone(&self.kept);
        let due = newest.due(&bundle, now, refresh);
        if due.platform
            && let Some((maker, key)) = kept::key(&bundle)
            && !self.rests.has(&key, now)
            && (newest.knows(&key) || self.has_unproven(&key, now) || self.may_ask(vm, true, now))
        {
            let asked = self.platform(&bundle, maker, &key, now);
            let asked = timeout_at(end, asked).await.unwrap_or(Err(Failure::Slow));
            match self.outcome(&key, asked, now) {
                Some(it) if (self.verifies)(&bundle, it.document.brought(), now) => {
                    self.unproven.remove(&key);
                    newest.put(&bundle, it.document, it.fetched);
                }
                Some(it) => {
                    if it.fetched == now {
                        tracing::warn!("a quote does not verify with its machine's collateral");
                    }
                    kept::put(&mut self.unproven, key, it.document, it.fetched, MAX_PLATFORMS);
                }
                None => {}
            }
        }
        if (self.verifies)(&bundle, newest.brought(&bundle, now), now) {
            let key = kept::gpu_key(&bundle);
            if due.gpu && !self.rests.has(&key, now) && self.may_ask(vm, false, now) {
                let known = newest.known_for(&bundle, now, refresh);
                let devices = bundle.gpu.iter().map(|gpu| gpu.evidence.0.as_slice()).collect();
                let Services { rim, ocsp, .. } = &self.settings.services;
                let roots = NvidiaRoots::nvidia();
                // Without a nonce: the responses serve many bundles.
                let inquiry = GpuInquiry::new(rim, ocsp, devices, None, &roots);
                let (document, missing) = gpus::fetch(inquiry.with(known.clone()), end).await;
                let asked = if missing.is_empty() { Ok(()) } else { Err(missing.into()) };
                self.outcome(&key, asked, now);
                newest.put_gpu(&bundle, document, &known, now);
            }
            self.last = Some(bundle);
        }
        self.publish(newest).await;
    }

    fn may_ask(&mut self, vm: Option<&str>, is_new: bool, now: u64) -> bool {
        let granted = vm.is_none_or(|vm| self.budget.take(vm, is_new, now));
        if !granted {
            tracing::debug!(vm, "it has made this host ask often enough for now");
        }
        granted
    }

    fn has_unproven(&self, key: &str, now: u64) -> bool {
        self.unproven.get(key).is_some_and(|it| it.is_younger(REST, now))
    }

    async fn publish(&mut self, newest: Kept) {
        if newest == *self.kept {
            return;
        }
        let (path, bytes) = (self.path.clone(), newest.to_bytes());
        let stored = tokio::task::spawn_blocking(move || store(&path, &bytes)).await;
        if let Err(error) = stored.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::warn!("keep collateral in {}: {error}", self.path.display());
        }
        self.kept = Arc::new(newest);
        self.publish.send_replace(Arc::clone(&self.kept));
    }

    /// Who does not answer is left alone for a while.
    fn outcome<D>(&mut self, key: &str, asked: Result<D, Failure>, now: u64) -> Option<D> {
        match asked {
            Ok(document) => {
                if self.rests.end(key) {
                    tracing::info!("collateral is fetched again");
                }
                Some(document)
            }
            Err(error) => {
                // Once: a provider without a network would fill its log.
                if self.rests.begin(key, now) {
                    tracing::warn!("{error}; evidence goes out with the collateral that there is");
                } else {
                    tracing::debug!("{error}");
                }
                None
            }
        }
    }

    async fn platform(
        &self,
        bundle: &EvidenceBundle,
        maker: Maker,
        key: &str,
        now: u64,
    ) -> Result<Dated<Platform>, Failure> {
        if let Some(it) = self.unproven.get(key).filter(|it| it.is_younger(REST, now)) {
            return Ok(it.clone());
        }
        let services = &self.settings.services;
        let quote = &bundle.quote.0;
        let document = match maker {
            // The newest: who once saw it takes no older one.
            Maker::Intel => {
                let inquiry = IntelInquiry::new(&services.intel, Update::Early, quote);
                Platform::Intel(Box::new(fetched(inquiry).await?))
            }
            Maker::Amd => {
                let (sent, roots) = (bundle.snp_collateral.as_ref(), Roots::amd());
                let inquiry = SnpInquiry::new(&services.amd, quote, sent, &roots);
                Platform::Amd(Box::new(fetched(inquiry).await?))
            }
        };
        Ok(Dated { fetched: now, document })
    }
}

async fn fetched<I: sealtune_evidence::collateral::Inquiry>(
    inquiry: Result<I, sealtune_evidence::collateral::CollateralError>,
) -> Result<I::Document, AskError> {
    inquiry::all(inquiry?).await
}

/// A file that is missing or cannot be understood is made anew.
fn load(path: &Path) -> Kept {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Kept::parse(&bytes).unwrap_or_else(|| {
            tracing::warn!("{} is not understood and will be replaced", path.display());
            Kept::default()
        }),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                tracing::warn!("read {}: {error}", path.display());
            }
            Kept::default()
        }
    }
}

/// Whole or not at all.
fn store(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if bytes.is_empty() || bytes.len() as u64 >= MAX_FILE {
        return Err(std::io::Error::other("it is longer than its limit"));
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(directory)?.sync_all()
}
