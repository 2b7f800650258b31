//! The host's collateral: what a verifier needs besides the evidence, fetched for this machine and put into every bundle,
//! so that a receipt carries what it is judged with years later.
//!
//! One task asks Intel, AMD and NVIDIA, keeps the answers in the state directory, and publishes them. It learns from the
//! first bundle which machine and which GPUs this is. Who asks for evidence waits for the first fetch, and not long: a
//! provider without a network serves evidence without collateral, which verifiers can fetch themselves.
//!
//! ```text
//!   bundle ── due? ──no──► what is kept is put in
//!               └──yes──► wish ─► task: fetch ─► kept ─► state directory, published
//! ```

mod kept;
#[cfg(test)]
mod tests;

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sealtune_evidence::{
    EvidenceBundle, Tee,
    collateral::{GpuInquiry, IntelInquiry, Services, SnpInquiry, Update},
    nvidia::NvidiaRoots,
    snp::Roots,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::client::inquiry::{self, AskError};
use kept::{Kept, MAX_FILE};

const FILE: &str = "collateral.json";
/// How long a request for evidence waits for what is missing.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the task looks whether something is due.
const TICK: Duration = Duration::from_secs(60);
/// After a failure the services are left alone for so long, in seconds.
const REST: u64 = 600;
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
    On(Handle),
}

#[derive(Debug)]
pub(crate) struct Handle {
    kept: watch::Receiver<Arc<Kept>>,
    wishes: mpsc::Sender<Wish>,
    refresh: u64,
    clock: fn() -> u64,
}

#[derive(Debug)]
struct Wish {
    bundle: EvidenceBundle,
    done: oneshot::Sender<()>,
}

impl HostCollateral {
    /// Begins with what is left from before.
    pub(crate) fn start(state: &Path, settings: CollateralSettings, clock: fn() -> u64) -> Self {
        if settings.refresh == 0 {
            return Self::Off;
        }
        let path = state.join(FILE);
        let kept = Arc::new(load(&path));
        let (publish, published) = watch::channel(Arc::clone(&kept));
        let (wishes, wished) = mpsc::channel(WISHES);
        let refresh = settings.refresh;
        let keeper = Keeper { path, settings, kept, publish, last: None, rest: None, clock };
        tokio::spawn(keeper.run(wished));
        Self::On(Handle { kept: published, wishes, refresh, clock })
    }

    /// Puts in what there is; what is due is fetched meanwhile.
    pub(crate) fn attach(&self, bundle: &mut EvidenceBundle) {
        let Self::On(handle) = self else { return };
        let _ = handle.wish(bundle);
        handle.kept.borrow().attach(bundle, (handle.clock)());
    }

    /// Waits for what is due, and not long.
    pub(crate) async fn ready(&self, bundle: &EvidenceBundle) {
        let Self::On(handle) = self else { return };
        if let Some(done) = handle.wish(bundle) {
            let _ = tokio::time::timeout(PATIENCE, done).await;
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        matches!(self, Self::On(_))
    }
}

impl Handle {
    /// `None` if nothing is due, or the task has enough to do.
    fn wish(&self, bundle: &EvidenceBundle) -> Option<oneshot::Receiver<()>> {
        if !self.kept.borrow().due(bundle, (self.clock)(), self.refresh).anything() {
            return None;
        }
        let (done, receiver) = oneshot::channel();
        self.wishes.try_send(Wish { bundle: bundle.clone(), done }).ok().map(|()| receiver)
    }
}

struct Keeper {
    path: PathBuf,
    settings: CollateralSettings,
    kept: Arc<Kept>,
    publish: watch::Sender<Arc<Kept>>,
    /// What is refreshed by itself.
    last: Option<EvidenceBundle>,
    /// Until when nobody is asked, after a failure.
    rest: Option<u64>,
    clock: fn() -> u64,
}

impl Keeper {
    async fn run(mut self, mut wishes: mpsc::Receiver<Wish>) {
        loop {
            match tokio::time::timeout(TICK, wishes.recv()).await {
                Ok(Some(Wish { bundle, done })) => {
                    self.last = Some(bundle);
                    self.refresh().await;
                    let _ = done.send(());
                }
                Ok(None) => return,
                Err(_) => self.refresh().await,
            }
        }
    }

    async fn refresh(&mut self) {
        let now = (self.clock)();
        let Some(bundle) = &self.last else { return };
        if self.rest.is_some_and(|until| now < until) {
            return;
        }
        let mut newest = Kept::clone(&self.kept);
        let asked = self.fetch(bundle, &mut newest, now).await;
        if newest != *self.kept {
            if let Err(error) = store(&self.path, &newest.to_bytes()) {
                tracing::warn!("keep collateral in {}: {error}", self.path.display());
            }
            self.kept = Arc::new(newest);
            self.publish.send_replace(Arc::clone(&self.kept));
        }
        match (asked, self.rest) {
            (Ok(()), Some(_)) => tracing::info!("collateral is fetched again"),
            (Ok(()), None) => {}
            // Once: a provider without a network would fill its log.
            (Err(error), None) => {
                tracing::warn!("{error}; evidence goes out with the collateral that there is");
                self.rest = Some(now.saturating_add(REST));
                return;
            }
            (Err(error), Some(_)) => {
                tracing::debug!("{error}");
                self.rest = Some(now.saturating_add(REST));
                return;
            }
        }
        self.rest = None;
    }

    /// Everything that is due; one maker's failure does not keep the other from being asked.
    async fn fetch(
        &self,
        bundle: &EvidenceBundle,
        newest: &mut Kept,
        now: u64,
    ) -> Result<(), AskError> {
        let CollateralSettings { services, refresh } = &self.settings;
        let due = newest.due(bundle, now, *refresh);
        let platform = match bundle.tee {
            _ if !due.platform => Ok(()),
            // The newest: who once saw it takes no older one.
            Tee::Tdx | Tee::Dstack => {
                fetched(IntelInquiry::new(&services.intel, Update::Early, &bundle.quote.0))
                    .await
                    .map(|document| newest.put_intel(bundle, document, now))
            }
            Tee::Snp => {
                let sent = bundle.snp_collateral.as_ref();
                let roots = Roots::amd();
                fetched(SnpInquiry::new(&services.amd, &bundle.quote.0, sent, &roots))
                    .await
                    .map(|document| newest.put_amd(bundle, document, now))
            }
        };
        if due.gpu {
            let roots = NvidiaRoots::nvidia();
            let known = newest.known_for(bundle, now, *refresh);
            let devices = bundle.gpu.iter().map(|gpu| gpu.evidence.0.as_slice()).collect();
            // Without a nonce: the responses serve many bundles.
            let inquiry = GpuInquiry::new(&services.rim, &services.ocsp, devices, None, &roots);
            let document = inquiry::all(inquiry.with(known.clone())).await?;
            newest.put_gpu(document, &known, now);
        }
        platform
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
