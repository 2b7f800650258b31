//! `/etc/sealtune/sealtune.toml`: every key optional, unknown keys refused; flags win over the file, the file over
//! the defaults, and `config show` says which it was.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use sealtune_evidence::collateral::{
    ServiceBase, Services,
    urls::{AMD_KDS, INTEL_PCS, NVIDIA_OCSP, NVIDIA_RIM},
};
use serde::{Deserialize, Serialize};

use crate::vm::{collateral::CollateralSettings, probe::Wanted, quoting::QuoteService};

/// Read where no `--config` names another file.
pub(crate) const DEFAULT_PATH: &str = "/etc/sealtune/sealtune.toml";
const MAX_FILE: u64 = 1 << 20;
/// 30 days: older collateral is never sent.
const MAX_REFRESH_HOURS: u32 = 720;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("read the configuration {path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("understand the configuration {path}: {error}")]
    Format { path: PathBuf, error: toml::de::Error },
    #[error("use the configuration: {0}")]
    Value(String),
}

impl ConfigError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "ST-CONFIG-01",
            Self::Format { .. } => "ST-CONFIG-02",
            Self::Value(_) => "ST-CONFIG-03",
        }
    }

    pub(crate) fn fix(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the path and its permissions",
            Self::Format { .. } => "correct the line; `sealtune config show` prints every key",
            Self::Value(_) => "correct the value in the file or flag",
        }
    }
}

/// The file and the flags have the same shape.
#[derive(Debug, Clone, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Given {
    /// Directory for everything that must survive
    #[arg(long, env = "SEALTUNE_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Unix socket for the operator (mode 0660)
    #[arg(long, env = "SEALTUNE_SOCKET")]
    pub(crate) socket: Option<PathBuf>,
    /// TCP address for customers and verifiers; port 0 takes a free one
    #[arg(long)]
    pub(crate) listen: Option<String>,
    /// Address of a proxy that writes the customers' addresses into X-Forwarded-For (repeatable)
    #[arg(long = "proxy")]
    pub(crate) proxies: Vec<IpAddr>,
    /// Guest image directory, as `sealtune-image build` makes it
    #[arg(long)]
    pub(crate) image: Option<PathBuf>,
    /// Directory with training layers, as `sealtune-image layer` makes them
    #[arg(long)]
    pub(crate) layers: Option<PathBuf>,
    /// QEMU
    #[arg(long)]
    pub(crate) qemu: Option<PathBuf>,
    /// vhost-device-vsock, where the host has no vhost-vsock
    #[arg(long)]
    pub(crate) vsock_helper: Option<PathBuf>,
    /// KVM's device
    #[arg(long)]
    pub(crate) kvm_device: Option<PathBuf>,
    /// Intel's quote generation service for TDX VMs: vsock:PORT (of this host) or unix:/PATH
    #[arg(long)]
    pub(crate) quote_service: Option<String>,
    /// Firmware file; default: the image's, else QEMU's own
    #[arg(long)]
    pub(crate) firmware: Option<PathBuf>,
    /// How guests are run; auto tries TDX, KVM, emulation in this order
    #[arg(long, value_enum)]
    pub(crate) accelerator: Option<Wanted>,
    /// VMs at the same time
    #[arg(long)]
    pub(crate) max_vms: Option<usize>,
    /// Virtual CPUs of a VM
    #[arg(long)]
    pub(crate) vcpus: Option<u32>,
    /// Memory of a VM, MiB
    #[arg(long)]
    pub(crate) memory_mib: Option<u64>,
    /// Seconds that an owner has to release a job whose VM is ready
    #[arg(long)]
    pub(crate) release_deadline: Option<u64>,
    /// Seconds that a VM has to power off before it is ended
    #[arg(long)]
    pub(crate) stop_time: Option<u64>,
    /// Hours that one attempt of a job may hold its VM
    #[arg(long)]
    pub(crate) job_hours: Option<u64>,
    /// Days that results and logs of ended jobs are kept
    #[arg(long)]
    pub(crate) keep_days: Option<u32>,
    /// Hours after which this machine's collateral is fetched again, to be sent with its evidence, at most 720; 0: never
    #[arg(long)]
    pub(crate) collateral_refresh_hours: Option<u32>,
    /// Whom to ask about TDX: Intel, or a cache (PCCS)
    #[arg(long)]
    pub(crate) collateral_service: Option<String>,
    /// Whom to ask about SEV-SNP: AMD, or a cache of its key service
    #[arg(long)]
    pub(crate) snp_service: Option<String>,
    /// Whom to ask for the RIM files of GPUs
    #[arg(long)]
    pub(crate) rim_service: Option<String>,
    /// Whom to ask whether certificates of GPUs are revoked
    #[arg(long)]
    pub(crate) ocsp_service: Option<String>,
    /// Directories whose files are offered as content (repeatable)
    #[arg(long = "content-dir")]
    pub(crate) content_dirs: Vec<PathBuf>,
    /// HTTP(S) sources of content, `{id}` stands for the digest in hex (repeatable)
    #[arg(long = "content-url")]
    pub(crate) content_urls: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Origin {
    Flag,
    File,
    Default,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Config {
    pub(crate) state_dir: Setting<PathBuf>,
    pub(crate) socket: Setting<PathBuf>,
    pub(crate) listen: Setting<String>,
    pub(crate) proxies: Setting<Vec<IpAddr>>,
    pub(crate) image: Setting<PathBuf>,
    pub(crate) layers: Setting<PathBuf>,
    pub(crate) qemu: Setting<PathBuf>,
    pub(crate) vsock_helper: Setting<PathBuf>,
    pub(crate) kvm_device: Setting<PathBuf>,
    pub(crate) quote_service: Setting<String>,
    pub(crate) firmware: Setting<Option<PathBuf>>,
    pub(crate) accelerator: Setting<Wanted>,
    pub(crate) max_vms: Setting<usize>,
    pub(crate) vcpus: Setting<u32>,
    pub(crate) memory_mib: Setting<u64>,
    pub(crate) release_deadline: Setting<u64>,
    pub(crate) stop_time: Setting<u64>,
    pub(crate) job_hours: Setting<u64>,
    pub(crate) keep_days: Setting<u32>,
    pub(crate) collateral_refresh_hours: Setting<u32>,
    pub(crate) collateral_service: Setting<String>,
    pub(crate) snp_service: Setting<String>,
    pub(crate) rim_service: Setting<String>,
    pub(crate) ocsp_service: Setting<String>,
    pub(crate) content_dirs: Setting<Vec<PathBuf>>,
    pub(crate) content_urls: Setting<Vec<String>>,
}

/// Reads the file; one that nobody named may be missing.
pub(crate) fn read(named: Option<&Path>) -> Result<Given, ConfigError> {
    use std::io::Read as _;
    let path = named.unwrap_or(Path::new(DEFAULT_PATH));
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Given::default());
        }
        Err(error) => return Err(ConfigError::Read { path: path.to_owned(), error }),
    };
    let mut text = String::new();
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
    toml::from_str(&text).map_err(|error| ConfigError::Format { path: path.to_owned(), error })
}

impl Config {
    pub(crate) fn resolve(flags: Given, file: Given) -> Result<Self, ConfigError> {
        let state_dir = pick(flags.state_dir, file.state_dir, "/var/lib/sealtune".into());
        let config = Self {
            socket: pick(flags.socket, file.socket, "/run/sealtune/sealtune.sock".into()),
            listen: pick(flags.listen, file.listen, "127.0.0.1:3080".into()),
            proxies: pick(some(flags.proxies), some(file.proxies), Vec::new()),
            image: pick(flags.image, file.image, "/usr/lib/sealtune/image".into()),
            layers: pick(flags.layers, file.layers, "/usr/lib/sealtune/layers".into()),
            qemu: pick(flags.qemu, file.qemu, "qemu-system-x86_64".into()),
            vsock_helper: pick(flags.vsock_helper, file.vsock_helper, "vhost-device-vsock".into()),
            kvm_device: pick(flags.kvm_device, file.kvm_device, "/dev/kvm".into()),
            quote_service: pick(
                flags.quote_service,
                file.quote_service,
                QuoteService::default().to_string(),
            ),
            firmware: pick(flags.firmware.map(Some), file.firmware.map(Some), None),
            accelerator: pick(flags.accelerator, file.accelerator, Wanted::Auto),
            max_vms: pick(flags.max_vms, file.max_vms, 1),
            vcpus: pick(flags.vcpus, file.vcpus, 2),
            memory_mib: pick(flags.memory_mib, file.memory_mib, 2048),
            release_deadline: pick(flags.release_deadline, file.release_deadline, 600),
            stop_time: pick(flags.stop_time, file.stop_time, 30),
            job_hours: pick(flags.job_hours, file.job_hours, 168),
            keep_days: pick(flags.keep_days, file.keep_days, 14),
            collateral_refresh_hours: pick(
                flags.collateral_refresh_hours,
                file.collateral_refresh_hours,
                12,
            ),
            collateral_service: pick(
                flags.collateral_service,
                file.collateral_service,
                INTEL_PCS.into(),
            ),
            snp_service: pick(flags.snp_service, file.snp_service, AMD_KDS.into()),
            rim_service: pick(flags.rim_service, file.rim_service, NVIDIA_RIM.into()),
            ocsp_service: pick(flags.ocsp_service, file.ocsp_service, NVIDIA_OCSP.into()),
            content_dirs: pick(some(flags.content_dirs), some(file.content_dirs), Vec::new()),
            content_urls: pick(some(flags.content_urls), some(file.content_urls), Vec::new()),
            state_dir,
        };
        config.check()?;
        Ok(config)
    }

    pub(crate) fn quote_service(&self) -> QuoteService {
        // Checked when it was read.
        self.quote_service.value.parse().unwrap_or_default()
    }

    /// What the host asks for collateral, and how often.
    pub(crate) fn collateral(&self) -> CollateralSettings {
        CollateralSettings {
            // Checked when it was read.
            services: self.services().unwrap_or_default(),
            refresh: u64::from(self.collateral_refresh_hours.value).saturating_mul(3600),
        }
    }

    fn services(&self) -> Result<Services, ConfigError> {
        let base = |setting: &Setting<String>| {
            ServiceBase::parse(&setting.value)
                .map_err(|error| ConfigError::Value(error.to_string()))
        };
        Ok(Services {
            intel: base(&self.collateral_service)?,
            amd: base(&self.snp_service)?,
            rim: base(&self.rim_service)?,
            ocsp: base(&self.ocsp_service)?,
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refused = |text: &str| Err(ConfigError::Value(text.to_owned()));
        if self.listen.value.parse::<std::net::SocketAddr>().is_err() {
            return refused("listen must be an IP address and a port, such as 127.0.0.1:3080");
        }
        if self.max_vms.value == 0 {
            return refused("max-vms must be at least 1");
        }
        if self.memory_mib.value < 256 {
            return refused("memory-mib must be at least 256");
        }
        if self.vcpus.value == 0 {
            return refused("vcpus must be at least 1");
        }
        if self.job_hours.value == 0 || self.keep_days.value == 0 {
            return refused("job-hours and keep-days must be at least 1");
        }
        if self.collateral_refresh_hours.value > MAX_REFRESH_HOURS {
            return refused("collateral-refresh-hours must be at most 720");
        }
        if let Err(reason) = self.quote_service.value.parse::<QuoteService>() {
            return refused(&format!("quote-service: {reason}"));
        }
        self.services()?;
        let web = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if let Some(url) = self.content_urls.value.iter().find(|u| !web(u) || !u.contains("{id}")) {
            return refused(&format!("content-url {url:?} must be http(s) and contain {{id}}"));
        }
        Ok(())
    }
}

fn pick<T>(flag: Option<T>, file: Option<T>, default: T) -> Setting<T> {
    match (flag, file) {
        (Some(value), _) => Setting { value, origin: Origin::Flag },
        (None, Some(value)) => Setting { value, origin: Origin::File },
        (None, None) => Setting { value: default, origin: Origin::Default },
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file: Given = toml::from_str("vcpus = 4\nmax_vms = 3").expect("valid");
        let flags = Given { max_vms: Some(2), ..Given::default() };
        let config = Config::resolve(flags, file).expect("valid");
        assert_eq!((config.max_vms.value, config.max_vms.origin), (2, Origin::Flag));
        assert_eq!((config.vcpus.value, config.vcpus.origin), (4, Origin::File));
        assert_eq!(config.memory_mib.origin, Origin::Default);
    }

    #[test]
    fn collateral_may_be_fetched_as_seldom_as_it_lasts() {
        let file: Given = toml::from_str("collateral_refresh_hours = 720").expect("valid");
        let config = Config::resolve(Given::default(), file).expect("valid");
        assert_eq!(config.collateral().refresh, 30 * 86_400);
    }

    #[test]
    fn unknown_keys_and_impossible_values_are_refused() {
        assert!(toml::from_str::<Given>("vcpu = 4").is_err());
        for bad in [
            "listen = 'here'",
            "max_vms = 0",
            "memory_mib = 1",
            "keep_days = 0",
            "collateral_refresh_hours = 721",
            "quote_service = '4050'",
            "snp_service = 'http://kds.example'",
            "ocsp_service = 'ocsp.example'",
            "content_urls = ['ftp://x/{id}']",
        ] {
            let file: Given = toml::from_str(bad).expect(bad);
            let error = Config::resolve(Given::default(), file).expect_err(bad);
            assert_eq!(error.code(), "ST-CONFIG-03");
        }
    }
}
