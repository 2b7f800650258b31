//! Start and end of the daemon. Ending it leaves the VMs running: the next one takes them up.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::net::{TcpListener, UnixListener};

use super::{
    changes::Changes,
    config::{Config, ConfigError},
    pool::{Pool, PoolError, PoolSettings},
};
use crate::{
    api::{door, quotes::Strangers, router, shared::Shared},
    client::now,
    content::{ContentError, ContentStore},
    daemon::retention,
    store::{StateLock, Store, StoreError},
    vm::{
        collateral::HostCollateral,
        image::{self, GuestImage, ImageError},
        probe::{ProbeError, ProbeRequest, probe},
        task::VmContext,
        tee::{HostTee, TeeError},
    },
};

/// Unix socket paths have at most 107 bytes; the longest name under a run directory needs this many.
const SOCKET_NAME: usize = 24;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Content(#[from] ContentError),
    #[error(transparent)]
    Tee(#[from] TeeError),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error("listen on {address}: {error}")]
    Listen { address: String, error: std::io::Error },
}

impl ServeError {
    pub(crate) fn code(&self) -> String {
        match self {
            Self::Config(error) => error.code().into(),
            Self::Store(error) => error.code().into(),
            Self::Probe(error) => error.code().into(),
            Self::Image(error) => error.code().into(),
            Self::Content(error) => error.code().into(),
            Self::Tee(error) => error.code().into(),
            Self::Pool(error) => error.code(),
            Self::Listen { .. } => "ST-SERVE-01".into(),
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Config(error) => error.fix(),
            Self::Store(error) => error.fix(),
            Self::Probe(error) => error.fix(),
            Self::Image(error) => error.fix(),
            Self::Content(error) => error.fix(),
            Self::Tee(_) => "check the state directory's simulated-platform.json",
            Self::Pool(error) => error.fix(),
            Self::Listen { .. } => "choose another --listen or --socket, or stop what uses it",
        }
    }
}

pub(crate) async fn serve(config: Config) -> Result<(), ServeError> {
    let state = absolute(&config.state_dir.value)?;
    let _lock = StateLock::take(&state)?;
    let (run_directory, results) = (run_directory(&state)?, state.join("results"));
    make_directory(&run_directory)?;
    make_directory(&results)?;
    let image = GuestImage::load(&config.image.value)?;
    let ability = probe(&ProbeRequest {
        qemu: &config.qemu.value,
        vsock_helper: &config.vsock_helper.value,
        kvm_device: &config.kvm_device.value,
        wanted: config.accelerator.value,
        scratch: &run_directory,
        kernel: &image.kernel,
    })?;
    tracing::info!(
        "QEMU {} runs guests with {}: {}",
        ability.qemu_version,
        ability.accelerator.name(),
        ability.reason
    );
    let firmware = image::firmware(config.firmware.value.as_deref(), &image)?;
    let layers = image::layers(&config.layers.value)?;
    let store = Store::open(&state).await?;
    let content = ContentStore::open(store.clone(), &state, config.content_urls.value.clone())?;
    for directory in &config.content_dirs.value {
        index(content.clone(), absolute(directory)?);
    }
    let tee = HostTee::open(&state)?;
    if tee.name() == "simulated" {
        tracing::warn!("SIMULATED TEE: evidence of this daemon proves nothing about hardware");
    }
    let mut collateral = config.collateral();
    if tee.name() == "simulated" {
        // It brings its own, and nobody knows such a machine.
        collateral.refresh = 0;
    }
    let collateral = HostCollateral::start(&state, collateral, now);
    let context = Arc::new(VmContext {
        store,
        tee,
        collateral,
        content,
        changes: Changes::new(),
        qemu: config.qemu.value.clone(),
        vsock_helper: config.vsock_helper.value.clone(),
        results: results.clone(),
        release_time: Duration::from_secs(config.release_deadline.value),
        stop_time: Duration::from_secs(config.stop_time.value),
    });
    let settings = Arc::new(PoolSettings {
        ability,
        image,
        firmware,
        layers,
        run_directory,
        max_vms: config.max_vms.value,
        vcpus: config.vcpus.value,
        memory_mib: config.memory_mib.value,
        quote_service: config.quote_service(),
        job_time: Duration::from_secs(config.job_hours.value.saturating_mul(3600)),
    });
    let (pool, handle) = Pool::new(context.clone(), settings.clone());
    let shared = Arc::new(Shared {
        context: context.clone(),
        pool: handle,
        settings,
        results,
        strangers: Strangers::new(),
    });
    let unix = listen_unix(&config.socket.value)?;
    let (tcp, address) = listen_tcp(&config.listen.value, &state).await?;
    tracing::info!("customers: http://{address}, operator: {}", config.socket.value.display());
    let proxies = config.proxies.value.clone();
    let customers = door::serve(tcp, router::public(shared.clone()), proxies);
    let operator = axum::serve(unix, router::operator(shared));
    tokio::select! {
        ended = pool.run() => ended?,
        () = retention::run(context, config.keep_days.value) => {}
        () = customers => {}
        _ = operator => {}
        () = end_signal() => tracing::info!("ending; VMs go on and are taken up at the next start"),
    }
    let _ = std::fs::remove_file(&config.socket.value);
    Ok(())
}

/// Hashing a large directory takes long, and running VMs cannot wait for it.
fn index(content: ContentStore, directory: PathBuf) {
    tokio::spawn(async move {
        match content.index(&directory).await {
            Ok(count) => {
                tracing::info!("{count} files of {} are offered as content", directory.display());
            }
            Err(error) => tracing::error!("index {}: {error}", directory.display()),
        }
    });
}

async fn end_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn absolute(path: &Path) -> Result<PathBuf, StoreError> {
    std::path::absolute(path)
        .map_err(|error| StoreError::Directory { path: path.to_owned(), error })
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| StoreError::Directory { path: path.to_owned(), error })
}

/// Sockets live under the state directory, or, where that path is too long for a socket, in the system's temporary
/// directory under a name made from it.
fn run_directory(state: &Path) -> Result<PathBuf, StoreError> {
    let near = state.join("run");
    if near.as_os_str().len() + SOCKET_NAME < 107 {
        return Ok(near);
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, state.as_os_str().as_encoded_bytes());
    let name = format!("sealtune-{}", hex::encode(&digest.as_ref()[..8]));
    let far = std::env::temp_dir().join(name);
    make_directory(&far)?;
    // Somebody else's directory of that name must not be used.
    use std::os::unix::fs::MetadataExt as _;
    let failed = |error| StoreError::Directory { path: far.clone(), error };
    let metadata = std::fs::symlink_metadata(&far).map_err(failed)?;
    if !metadata.is_dir() || metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(failed(std::io::ErrorKind::PermissionDenied.into()));
    }
    std::fs::set_permissions(&far, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    Ok(far)
}

fn listen_unix(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |error| ServeError::Listen { address: path.display().to_string(), error };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    // The state lock is held: a socket that is left here belongs to a daemon that is gone, unless another state
    // directory's daemon answers on it.
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(failed(std::io::ErrorKind::AddrInUse.into()));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

async fn listen_tcp(address: &str, state: &Path) -> Result<(TcpListener, String), ServeError> {
    let failed = |error| ServeError::Listen { address: address.to_owned(), error };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?.to_string();
    // Written whole, then named: whoever waits for the file never reads half of it.
    let temporary = state.join(".listen.address");
    std::fs::write(&temporary, &bound).map_err(failed)?;
    std::fs::rename(&temporary, state.join("listen.address")).map_err(failed)?;
    Ok((listener, bound))
}
