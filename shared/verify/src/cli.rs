//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use sealtune_evidence::{
    FixedHex, Hex16, Hex32, Purpose,
    collateral::{
        ServiceBase, Services, Update,
        urls::{AMD_KDS, INTEL_PCS, NVIDIA_OCSP, NVIDIA_RIM},
    },
    time::parse_rfc3339,
};

const EXAMPLES: &str = "\
Examples:
  # An offer for your nonce, before you release a job to it:
  sealtune-verify evidence offer.json --purpose offer --nonce $NONCE --job $JOB --reference reference.json

  # The same, by a release that two holders of your key set signed:
  sealtune-verify evidence offer.json --purpose offer --nonce $NONCE --job $JOB --manifest release.json --release-keys keys.json

  # The same, with collateral that this program fetches from Intel:
  sealtune-verify evidence offer.json --purpose offer --nonce $NONCE --job $JOB --reference reference.json --collateral early

  # The receipt of your job, with its dataset and result opened:
  sealtune-verify receipt receipt.json --nonce $NONCE --job $JOB --reference reference.json \\
      --opening dataset.opening.json --result result.sealed

  # A dstack VM that runs a compose file of your list, on registers of your list:
  sealtune-verify dstack quote.json --report-data $DATA --policy dstack --compose-hash $COMPOSE --os-image $OS \\
      --reference registers.json --collateral fetch

  # Reference values for an image started with a firmware in a shape:
  sealtune-verify measure --image image/ --firmware OVMF.fd --vcpus 2 --memory-mib 2048 > reference.json

  # The same for TDX hardware, by a recorded recipe (the image's kernel and initramfs are read):
  sealtune-verify measure --image image/ --firmware OVMF.fd --recipe edk2-202502-qemu9 --vcpus 2 --memory-mib 2048

  # A recipe for a machine of yours that is in none, from evidence of a VM on it:
  sealtune attest --provider $PROVIDER --purpose identity --out evidence.json
  sealtune-verify record evidence.json --image image/ --firmware OVMF.fd --recipe debian-202608-qemu10.2 > recipe.toml

  # What a code means:
  sealtune-verify explain ST-EVID-43

Exit codes: 0 accepted, 1 rejected, 2 usage or a file of yours, 3 a file cannot be read.";

/// Judges Sealtune's attestation evidence and receipts, offline.
#[derive(Debug, Parser)]
#[command(name = "sealtune-verify", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// Print one JSON object on standard output, and errors as JSON on standard error
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Judge the evidence of a VM
    Evidence(EvidenceCommand),
    /// Judge the evidence of a dstack VM, as its guest agent answers a request for a quote
    Dstack(DstackCommand),
    /// Judge the receipt of a job, with the evidence in it
    Receipt(ReceiptCommand),
    /// Print the reference values of an image for a firmware and a shape
    Measure(MeasureCommand),
    /// Make a measurement recipe from evidence of a VM on a TDX machine, or add the machine's tables to one
    Record(RecordCommand),
    /// Say what a code means and what to do
    Explain(ExplainCommand),
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
}

/// Whose collateral to judge with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollateralSource {
    File(PathBuf),
    /// Asked for now; `Early` is the newest that Intel published.
    Fetch(Update),
}

/// What both judgements depend on.
#[derive(Debug, Args)]
pub struct JudgeOptions {
    /// Policy: strict, dstack, 0g, dev, or a file (TOML); without it: strict
    #[arg(long, value_name = "NAME|FILE")]
    pub policy: Option<PathBuf>,
    /// SHA-256 of a compose file that may run in dstack images, besides those that the policy lists
    #[arg(long, value_name = "HEX")]
    pub compose_hash: Vec<Hex32>,
    /// Digest of a dstack OS image that may run, besides those that the policy lists
    #[arg(long, value_name = "HEX")]
    pub os_image: Vec<Hex32>,
    /// Manifest of a release, signed by holders of --release-keys; may be given more than once
    #[arg(long, value_name = "FILE", requires = "release_keys")]
    pub manifest: Vec<PathBuf>,
    /// The keys that may release, and how many holders must have signed
    #[arg(long, value_name = "FILE", requires = "manifest")]
    pub release_keys: Option<PathBuf>,
    /// Reference values: those that a manifest names by digest, or of a release that you trust yourself; may be given more
    /// than once
    #[arg(long, value_name = "FILE", required_unless_present = "manifest")]
    pub reference: Vec<PathBuf>,
    /// Root certificate of a SIMULATED platform (DER or PEM); every verdict then says SIMULATED
    #[arg(long, value_name = "FILE")]
    pub simulated_root: Option<PathBuf>,
    /// Collateral: a file of yours for TDX; `fetch` or `early` asks Intel, AMD and NVIDIA now for what the evidence needs;
    /// without it, that of the sender is used
    #[arg(long, value_name = "FILE|fetch|early", value_parser = parse_collateral)]
    pub collateral: Option<CollateralSource>,
    /// Certificates and revocation list for SEV-SNP: a file of yours; without it, what was fetched or those of the sender
    #[arg(long, value_name = "FILE")]
    pub snp_collateral: Option<PathBuf>,
    /// RIM files and OCSP responses for GPUs: a file of yours; without it, what was fetched or those of the sender
    #[arg(long, value_name = "FILE")]
    pub gpu_collateral: Option<PathBuf>,
    #[command(flatten)]
    pub services: ServiceOptions,
    /// Where to remember how new collateral was; without it: sealtune/collateral-memory.json in your state directory. What
    /// manifests said is kept beside it, in release-memory.json
    #[arg(long, value_name = "FILE")]
    pub memory: Option<PathBuf>,
    /// Hold neither collateral nor manifests against what was seen before, and remember neither
    #[arg(long, conflicts_with = "memory")]
    pub no_memory: bool,
    /// Verity root of a layer that you trust besides the release's: your training image
    #[arg(long, value_name = "ROOT")]
    pub layer: Vec<Hex32>,
    /// Judge at this time, like 2026-11-22T10:00:00Z or in seconds since 1970; something of yours must prove it
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub at: Option<u64>,
}

/// Whom to ask with `--collateral fetch`.
#[derive(Debug, Args)]
pub struct ServiceOptions {
    /// Whom to ask about TDX: Intel, or a cache (PCCS)
    #[arg(long, value_name = "URL", env = "SEALTUNE_COLLATERAL_SERVICE", default_value = INTEL_PCS,
          value_parser = parse_service)]
    pub collateral_service: ServiceBase,
    /// Whom to ask about SEV-SNP: AMD, or a cache of its key service (KDS)
    #[arg(long, value_name = "URL", env = "SEALTUNE_SNP_SERVICE", default_value = AMD_KDS,
          value_parser = parse_service)]
    pub snp_service: ServiceBase,
    /// Whom to ask for the RIM files of GPUs
    #[arg(long, value_name = "URL", env = "SEALTUNE_RIM_SERVICE", default_value = NVIDIA_RIM,
          value_parser = parse_service)]
    pub rim_service: ServiceBase,
    /// Whom to ask whether certificates of GPUs and RIM files are revoked
    #[arg(long, value_name = "URL", env = "SEALTUNE_OCSP_SERVICE", default_value = NVIDIA_OCSP,
          value_parser = parse_service)]
    pub ocsp_service: ServiceBase,
}

impl ServiceOptions {
    pub(crate) fn services(&self) -> Services {
        Services {
            intel: self.collateral_service.clone(),
            amd: self.snp_service.clone(),
            rim: self.rim_service.clone(),
            ocsp: self.ocsp_service.clone(),
        }
    }
}

#[derive(Debug, Args)]
pub struct EvidenceCommand {
    /// The evidence, as the provider sent it
    pub file: PathBuf,
    /// The nonce that you asked with; for start and receipt evidence, the owner's
    #[arg(long, value_name = "HEX")]
    pub nonce: Hex32,
    /// What you asked for: identity, offer, start or receipt
    #[arg(long, value_name = "PURPOSE")]
    pub purpose: Purpose,
    /// The job that it must be of
    #[arg(long, value_name = "ID", required_if_eq_any([("purpose", "start"), ("purpose", "receipt")]))]
    pub job: Option<Hex16>,
    /// Digest of the job specification
    #[arg(long, value_name = "HEX")]
    pub spec: Option<Hex32>,
    /// Digest of the evidence that it must follow
    #[arg(long, value_name = "HEX")]
    pub previous: Option<Hex32>,
    /// When you made the nonce; an offer is good for 10 minutes from then
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub asked_at: Option<u64>,
    /// The VM must be a signer, not a worker
    #[arg(long)]
    pub signer: bool,
    #[command(flatten)]
    pub judge: JudgeOptions,
}

#[derive(Debug, Args)]
pub struct DstackCommand {
    /// The answer of the guest agent, or a file with its `quote` and `event_log` among other fields
    pub file: PathBuf,
    /// The 64 bytes that the quote must carry: what you asked with
    #[arg(long, value_name = "HEX")]
    pub report_data: FixedHex<64>,
    #[command(flatten)]
    pub judge: JudgeOptions,
}

#[derive(Debug, Args)]
pub struct ReceiptCommand {
    /// The receipt, as the provider sent it
    pub file: PathBuf,
    /// The owner's nonce from the job specification
    #[arg(long, value_name = "HEX")]
    pub nonce: Option<Hex32>,
    /// The job that it must be of
    #[arg(long, value_name = "ID")]
    pub job: Option<Hex16>,
    /// Digest of the job specification
    #[arg(long, value_name = "HEX")]
    pub spec: Option<Hex32>,
    /// An opening of one of the receipt's commitments; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub opening: Vec<PathBuf>,
    /// The result as it was delivered (ciphertext), to hold against the receipt
    #[arg(long, value_name = "FILE")]
    pub result: Option<PathBuf>,
    #[command(flatten)]
    pub judge: JudgeOptions,
}

#[derive(Debug, Args)]
pub struct MeasureCommand {
    /// The image's directory, or its reference-values.json
    #[arg(long, value_name = "DIR")]
    pub image: PathBuf,
    /// A firmware file that hosts start it with; may be given more than once
    #[arg(long, value_name = "FILE", required = true)]
    pub firmware: Vec<PathBuf>,
    /// Compute what TDX measures, by a recipe that was recorded for the firmware and QEMU: a shipped one's name, or a file
    /// (TOML). Without it: the simulated TEE's layout
    #[arg(long, value_name = "NAME|FILE")]
    pub recipe: Option<PathBuf>,
    /// GPUs of the VM, on which its tables depend; with --recipe
    #[arg(long, value_name = "N", default_value_t = 0, requires = "recipe")]
    pub gpus: u32,
    /// Virtual processors; may be given more than once
    #[arg(long, value_name = "N", required = true)]
    pub vcpus: Vec<u32>,
    /// Memory in MiB; may be given more than once
    #[arg(long, value_name = "MIB", required = true)]
    pub memory_mib: Vec<u64>,
    /// Description of a layer that belongs to the release (NAME.layer.json); may be given more than once
    #[arg(long, value_name = "FILE")]
    pub layer: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct RecordCommand {
    /// Evidence of a VM on TDX hardware, as `sealtune attest` writes it
    pub file: PathBuf,
    /// The directory of the image that the VM was started with
    #[arg(long, value_name = "DIR")]
    pub image: PathBuf,
    /// The firmware file that it was started with
    #[arg(long, value_name = "FILE")]
    pub firmware: PathBuf,
    /// Add the VM's shape to this recipe, from which nothing else may differ: a shipped one's name, or a file (TOML).
    /// Without it: a recipe of its own
    #[arg(long, value_name = "NAME|FILE", required_unless_present = "name")]
    pub recipe: Option<PathBuf>,
    /// Name of the new recipe
    #[arg(long, value_name = "NAME", conflicts_with = "recipe")]
    pub name: Option<String>,
    /// Collateral to verify the quote with: a file of yours; `fetch` or `early` asks Intel now; without it, the sender's
    #[arg(long, value_name = "FILE|fetch|early", value_parser = parse_collateral)]
    pub collateral: Option<CollateralSource>,
    #[command(flatten)]
    pub services: ServiceOptions,
    /// Verify it at this time, like 2026-11-22T10:00:00Z or in seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub at: Option<u64>,
}

#[derive(Debug, Args)]
pub struct ExplainCommand {
    /// A code like ST-EVID-43; without one, all
    pub code: Option<String>,
}

/// A file of one of these names is `./fetch`.
fn parse_collateral(text: &str) -> Result<CollateralSource, String> {
    Ok(match text {
        "fetch" => CollateralSource::Fetch(Update::Standard),
        "early" => CollateralSource::Fetch(Update::Early),
        "" => return Err("expected a file, `fetch` or `early`".to_owned()),
        file => CollateralSource::File(file.into()),
    })
}

fn parse_service(text: &str) -> Result<ServiceBase, String> {
    ServiceBase::parse(text).map_err(|error| error.to_string())
}

fn parse_time(text: &str) -> Result<u64, String> {
    parse_rfc3339(text)
        .or_else(|| text.parse().ok())
        .ok_or_else(|| "expected a time like 2026-11-22T10:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn evidence_of_a_job_needs_the_job() {
        let nonce = "11".repeat(32);
        let line = |purpose: &str, extra: &[&str]| {
            let mut words = vec!["v", "evidence", "f", "--reference", "r", "--nonce", &nonce];
            words.extend(["--purpose", purpose]);
            words.extend(extra);
            Arguments::try_parse_from(words).is_ok()
        };
        assert!(line("identity", &[]) && line("offer", &[]));
        assert!(!line("start", &[]) && !line("receipt", &[]) && !line("any", &[]));
        assert!(line("start", &["--job", &"33".repeat(16)]));
        assert!(!line("start", &["--job", "33"]));
        assert!(line("offer", &["--collateral-service", "https://pccs.example:8081"]));
        assert!(!line("offer", &["--collateral-service", "http://pccs.example"]));
        for option in ["--snp-service", "--rim-service", "--ocsp-service"] {
            assert!(line("offer", &[option, "http://127.0.0.1:4000"]), "{option}");
            assert!(!line("offer", &[option, "http://cache.example"]), "{option}");
        }
        assert!(!line("offer", &["--memory", "m", "--no-memory"]));
        assert!(!line("offer", &["--manifest", "m"]) && !line("offer", &["--release-keys", "k"]));
        assert!(line("offer", &["--manifest", "m", "--manifest", "n", "--release-keys", "k"]));
        assert!(line("offer", &["--at", "2026-11-22T10:00:00Z"]));
        assert!(line("offer", &["--at", "1795333794"]));
        assert!(!line("offer", &["--at", "yesterday"]));
    }
}
