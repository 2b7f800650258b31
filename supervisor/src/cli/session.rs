//! Options that many commands share, and what follows from them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use sealtune_evidence::{
    Hex32,
    collateral::{ServiceBase, Services},
    policy::ListedImages,
};
use sealtune_job::JobId;
use sealtune_seal::OwnerKey;

use crate::client::{
    Address, CliError, ClientError, Connection, JobRecord, Records, keys, records,
    trust::{Trust, TrustFiles},
};

pub(crate) const DEFAULT_SOCKET: &str = "/run/sealtune/sealtune.sock";

#[derive(Debug, Args)]
pub(crate) struct ProviderOption {
    /// The provider: http://HOST:PORT, https://HOST or unix:/PATH
    #[arg(long, env = "SEALTUNE_PROVIDER", value_name = "URL")]
    pub(crate) provider: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KeyOption {
    /// The owner's key file [default: ~/.config/sealtune/owner.key]
    #[arg(long, env = "SEALTUNE_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct StateOption {
    /// Where job records are kept [default: ~/.local/share/sealtune]
    #[arg(long, env = "SEALTUNE_RECORDS_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SocketOption {
    /// The operator's socket of `sealtune serve`
    #[arg(long, env = "SEALTUNE_SOCKET", value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TrustOptions {
    /// What evidence must show: strict, dstack, 0g, dev, or a file [default: strict]
    #[arg(long, env = "SEALTUNE_POLICY", value_name = "NAME|FILE", help_heading = "Trust")]
    pub(crate) policy: Option<PathBuf>,

    /// SHA-256 of a compose file that may run in dstack images, besides those that the policy lists (repeatable)
    #[arg(long, value_name = "HEX", help_heading = "Trust")]
    pub(crate) compose_hash: Vec<Hex32>,

    /// Digest of a dstack OS image that may run, besides those that the policy lists (repeatable)
    #[arg(long, value_name = "HEX", help_heading = "Trust")]
    pub(crate) os_image: Vec<Hex32>,

    /// Reference values of a release that you trust (repeatable); without them or a manifest nothing is accepted
    #[arg(long, env = "SEALTUNE_REFERENCE", value_name = "FILE", help_heading = "Trust")]
    pub(crate) reference: Vec<PathBuf>,

    /// Manifest of a release, signed by holders of --release-keys (repeatable)
    #[arg(
        long,
        env = "SEALTUNE_MANIFEST",
        value_name = "FILE",
        requires = "release_keys",
        help_heading = "Trust"
    )]
    pub(crate) manifest: Vec<PathBuf>,

    /// The keys that may release, and how many holders must have signed
    #[arg(long, env = "SEALTUNE_RELEASE_KEYS", value_name = "FILE", help_heading = "Trust")]
    pub(crate) release_keys: Option<PathBuf>,

    /// Collateral that you fetched yourself [default: what Intel says now; if nobody answers, what the evidence brings]
    #[arg(long, value_name = "FILE", help_heading = "Trust")]
    pub(crate) collateral: Option<PathBuf>,

    /// The same for SEV-SNP: AMD's certificates and revocation list
    #[arg(long, value_name = "FILE", help_heading = "Trust")]
    pub(crate) snp_collateral: Option<PathBuf>,

    /// The same for GPUs: NVIDIA's RIM files and OCSP responses
    #[arg(long, value_name = "FILE", help_heading = "Trust")]
    pub(crate) gpu_collateral: Option<PathBuf>,

    /// Ask nobody for collateral: judge with what you and the evidence bring
    #[arg(long, help_heading = "Trust")]
    pub(crate) offline: bool,

    /// Whom to ask about TDX [default: Intel]
    #[arg(long, env = "SEALTUNE_COLLATERAL_SERVICE", value_name = "URL", help_heading = "Trust",
          value_parser = service)]
    pub(crate) collateral_service: Option<ServiceBase>,

    /// Whom to ask about SEV-SNP [default: AMD]
    #[arg(long, env = "SEALTUNE_SNP_SERVICE", value_name = "URL", help_heading = "Trust",
          value_parser = service)]
    pub(crate) snp_service: Option<ServiceBase>,

    /// Whom to ask for the RIM files of GPUs [default: NVIDIA]
    #[arg(long, env = "SEALTUNE_RIM_SERVICE", value_name = "URL", help_heading = "Trust",
          value_parser = service)]
    pub(crate) rim_service: Option<ServiceBase>,

    /// Whom to ask whether certificates of GPUs are revoked [default: NVIDIA]
    #[arg(long, env = "SEALTUNE_OCSP_SERVICE", value_name = "URL", help_heading = "Trust",
          value_parser = service)]
    pub(crate) ocsp_service: Option<ServiceBase>,

    /// Accept SIMULATED evidence under this root certificate: for tests, protects nothing
    #[arg(long, value_name = "FILE", help_heading = "Trust")]
    pub(crate) simulated_root: Option<PathBuf>,
}

fn service(text: &str) -> Result<ServiceBase, String> {
    ServiceBase::parse(text).map_err(|error| error.to_string())
}

impl TrustOptions {
    pub(crate) fn load(&self, state: &StateOption) -> Result<Trust, CliError> {
        Trust::load(&TrustFiles {
            manifests: self.manifest.clone(),
            release_keys: self.release_keys.clone(),
            collateral_memory: Some(state.records()?.collateral_memory_path()),
            policy: self.policy.clone(),
            listed: ListedImages {
                compose_hashes: self.compose_hash.clone(),
                os_images: self.os_image.clone(),
            },
            references: self.reference.clone(),
            simulated_root: self.simulated_root.clone(),
            collateral: self.collateral.clone(),
            snp_collateral: self.snp_collateral.clone(),
            gpu_collateral: self.gpu_collateral.clone(),
            services: (!self.offline).then(|| self.services()),
        })
    }

    fn services(&self) -> Services {
        let usual = Services::default();
        Services {
            intel: self.collateral_service.clone().unwrap_or(usual.intel),
            amd: self.snp_service.clone().unwrap_or(usual.amd),
            rim: self.rim_service.clone().unwrap_or(usual.rim),
            ocsp: self.ocsp_service.clone().unwrap_or(usual.ocsp),
        }
    }
}

impl KeyOption {
    pub(crate) fn path(&self) -> Result<PathBuf, CliError> {
        match &self.key {
            Some(path) => Ok(path.clone()),
            None => Ok(keys::default_path()?),
        }
    }

    pub(crate) fn load(&self) -> Result<Arc<OwnerKey>, CliError> {
        Ok(Arc::new(keys::load(&self.path()?)?))
    }
}

impl StateOption {
    pub(crate) fn records(&self) -> Result<Records, CliError> {
        Ok(Records::open(self.state_dir.as_deref())?)
    }
}

impl SocketOption {
    pub(crate) fn connect(&self) -> Result<Connection, CliError> {
        Connection::new(Address::Unix(self.socket.clone()), None)
    }
}

impl ProviderOption {
    /// The given provider, or the one that the job was submitted to.
    pub(crate) fn address(&self, record: Option<&JobRecord>) -> Result<Address, CliError> {
        let text = self.provider.as_deref().or(record.map(|record| record.provider.as_str()));
        Ok(text.ok_or(ClientError::NoProvider)?.parse()?)
    }

    pub(crate) fn connect(
        &self,
        record: Option<&JobRecord>,
        owner: Option<Arc<OwnerKey>>,
    ) -> Result<Connection, CliError> {
        Connection::new(self.address(record)?, owner)
    }
}

/// Either the provider with the owner's key, or the operator's socket without one.
#[derive(Debug, Args)]
pub(crate) struct WhereOptions {
    #[command(flatten)]
    pub(crate) provider: ProviderOption,
    #[command(flatten)]
    pub(crate) key: KeyOption,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// Ask as the operator, over this socket, without a key [default without a provider: SEALTUNE_SOCKET]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

/// A customer's or an operator's connection to the provider of one job.
#[derive(Debug)]
pub(crate) struct JobSession {
    pub(crate) connection: Connection,
    pub(crate) owner: Option<Arc<OwnerKey>>,
    pub(crate) records: Records,
    pub(crate) record: Option<JobRecord>,
}

impl WhereOptions {
    pub(crate) fn open(&self, job: Option<JobId>) -> Result<JobSession, CliError> {
        let records = self.state.records()?;
        let record = match job.map(|job| records.load(job)) {
            None | Some(Err(ClientError::NoRecord { .. })) => None,
            Some(Ok(record)) => Some(record),
            Some(Err(error)) => return Err(error.into()),
        };
        if let Some(socket) = self.operator_socket(record.as_ref()) {
            let connection = Connection::new(Address::Unix(socket), None)?;
            return Ok(JobSession { connection, owner: None, records, record: None });
        }
        let owner = self.key.load()?;
        let connection = self.provider.connect(record.as_ref(), Some(Arc::clone(&owner)))?;
        Ok(JobSession { connection, owner: Some(owner), records, record })
    }

    /// The socket that was named; or the usual one, if nothing says that a customer asks.
    fn operator_socket(&self, record: Option<&JobRecord>) -> Option<PathBuf> {
        let is_customer = record.is_some() || self.provider.provider.is_some();
        let usual = || {
            let named = std::env::var_os("SEALTUNE_SOCKET").map(PathBuf::from);
            let exists = || Path::new(DEFAULT_SOCKET).exists();
            named.or_else(|| exists().then(|| DEFAULT_SOCKET.into())).filter(|_| !is_customer)
        };
        self.socket.clone().or_else(usual)
    }
}

/// The owner's view of one job that was submitted from here.
#[derive(Debug, Args)]
pub(crate) struct OwnedJob {
    /// The job's id
    #[arg(value_name = "JOB", required_unless_present = "job_record")]
    pub(crate) job: Option<JobId>,
    #[command(flatten)]
    pub(crate) key: KeyOption,
    #[command(flatten)]
    pub(crate) state: StateOption,
    /// The job's record, if it is not in the state directory
    #[arg(long, value_name = "FILE")]
    pub(crate) job_record: Option<PathBuf>,
}

impl OwnedJob {
    pub(crate) fn record(&self) -> Result<JobRecord, CliError> {
        let record = match (&self.job_record, self.job) {
            (Some(path), _) => records::load_file(path)?,
            (None, Some(job)) => self.state.records()?.load(job)?,
            (None, None) => {
                let reason = "name a job, or give its record".to_owned();
                return Err(ClientError::Usage { option: "JOB", reason }.into());
            }
        };
        match self.job {
            Some(job) if job != record.job() => {
                let reason = format!("the record is of job {}", record.job());
                Err(ClientError::WrongJob { job: job.to_string(), reason }.into())
            }
            _ => Ok(record),
        }
    }

    /// Record and key, which must belong together.
    pub(crate) fn open(&self) -> Result<(JobRecord, Arc<OwnerKey>), CliError> {
        let record = self.record()?;
        let owner = self.key.load()?;
        crate::client::release::check_owner(&record, &owner)?;
        Ok((record, owner))
    }
}
