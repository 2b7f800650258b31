use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sealtune_evidence::{Purpose, Verdict};
use sealtune_job::Hex;
use sealtune_verify::Part;
use serde::Serialize;

use super::{
    Output,
    session::{ProviderOption, StateOption, TrustOptions},
};
use crate::client::{
    CliError, ClientError, Exit, collateral::Fresh, files, now, random_nonce, trust,
};

#[derive(Debug, Args)]
#[command(after_help = "\
The evidence is saved whatever the verdict; `sealtune-verify evidence` judges it again, without a network.
Exit code 1 if the evidence is rejected.

Examples:
  sealtune attest --provider https://provider.example --reference reference-values.json
  sealtune attest --purpose offer --reference reference-values.json
  sealtune attest --nonce $(openssl rand -hex 32) --out evidence.json --json")]
pub(crate) struct AttestArgs {
    #[command(flatten)]
    provider: ProviderOption,
    /// Your nonce, 64 hex digits [default: a random one]
    #[arg(long, value_name = "HEX")]
    nonce: Option<Hex<32>>,
    /// What the evidence shall be for: to know the VM, or what a release would be sealed to
    #[arg(long, value_enum, default_value_t = Asked::Identity)]
    purpose: Asked,
    /// Where the evidence is saved; an existing file is replaced
    #[arg(long, value_name = "FILE", default_value = "evidence.json")]
    out: PathBuf,
    /// Verity root of a training image that you trust besides the release (repeatable)
    #[arg(long, value_name = "ROOT")]
    image: Vec<Hex<32>>,
    #[command(flatten)]
    state: StateOption,
    #[command(flatten)]
    trust: TrustOptions,
}

/// What anybody may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Asked {
    Identity,
    Offer,
}

impl From<Asked> for Purpose {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Identity => Self::Identity,
            Asked::Offer => Self::Offer,
        }
    }
}

#[derive(Debug, Serialize)]
struct Attested<'a> {
    nonce: Hex<32>,
    purpose: Purpose,
    evidence: &'a std::path::Path,
    verdict: &'a Verdict,
}

pub(crate) async fn run(args: AttestArgs, output: &Output) -> Result<(), CliError> {
    let trust = args.trust.load(&args.state)?;
    let nonce = match args.nonce {
        Some(nonce) => nonce,
        None => random_nonce()?,
    };
    let purpose = Purpose::from(args.purpose);
    let asked_at = now();
    let bytes = args.provider.connect(None, None)?.attestation(nonce, purpose).await?;
    files::replace_private(&args.out, &bytes)?;
    let bundle = trust::parse(&bytes)?;
    let fresh = Fresh::newest(&trust, &[&bundle], now()).await;
    fresh.note(output.progress());
    // One time for verdict and memory: after all of it was issued.
    let judged_at = now();
    let question = trust::Challenged { purpose, nonce, asked_at };
    let mut judged =
        trust::judge_answer(&trust, &bundle, &fresh, &question, &args.image, judged_at);
    let memory = args.state.records()?.collateral_memory_path();
    let parts = [Part { name: "", bundle: &bundle }];
    let verdict = &mut judged.appraisal.verdict;
    trust.remember(&memory, &parts, &fresh, judged_at, verdict)?;
    let verdict = &judged.appraisal.verdict;
    let attested = Attested { nonce, purpose, evidence: &args.out, verdict };
    output.answer(&attested, || {
        format!("nonce {nonce}\nevidence in {}\n{}", args.out.display(), verdict.render())
    })?;
    if judged.is_accepted() {
        return Ok(());
    }
    // Nothing was at stake: the answer is no, and that is all.
    let rejected = ClientError::EvidenceRejected { codes: judged.codes() };
    Err(CliError::from(rejected).with_exit(Exit::No))
}
