//! Before data is released, the customer asks Intel himself how the provider's machine stands, and remembers how new the
//! answer was: a provider could bring collateral that is valid and from before the hole that he uses.
//!
//! Only for machines that are real: what does not verify, or leads to a simulated root, is asked about nowhere and leaves
//! no trace. Where the service cannot be reached the provider's collateral serves, which must be younger than 24 hours.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use sealtune_evidence::{
    Collateral, EvidenceBundle, Verdict,
    anchor::verify_quote,
    collateral::{
        Answer, Answers, CollateralError, CollateralFacts, CollateralMemory, IntelUrls,
        QuoteSubject, ServiceBase, Update, answers::MAX_BODY, memory::MAX_MEMORY_BYTES,
    },
};

use super::{CliError, ClientError, Exit, files, trust::Trust};

const PATIENCE: Duration = Duration::from_secs(30);
/// Caches write the root's list as hex.
const MOST: usize = 2 * MAX_BODY;

/// Newer collateral than the sender's, or why there is none. `None`: nothing is to be asked.
pub(crate) async fn newest(
    trust: &Trust,
    bundle: &EvidenceBundle,
    now: u64,
) -> Option<Result<Collateral, String>> {
    if trust.collateral.is_some() || !is_worth_asking(trust, bundle, now) {
        return None;
    }
    Some(fetch(&trust.service, &bundle.quote.0).await)
}

/// Whether the quote is of a real machine, as far as the sender's own collateral says; without any, nobody can know yet.
fn is_worth_asking(trust: &Trust, bundle: &EvidenceBundle, now: u64) -> bool {
    let Some(collateral) = &bundle.collateral else { return true };
    verify_quote(&bundle.quote.0, collateral, &trust.anchors, now)
        .is_ok_and(|verified| !verified.anchor.is_simulated())
}

/// The newest that Intel published for the machine of this quote.
pub(crate) async fn fetch(service: &ServiceBase, quote: &[u8]) -> Result<Collateral, String> {
    let subject = QuoteSubject::of(quote).map_err(|error| error.to_string())?;
    let urls = IntelUrls::new(service, &subject, Update::Early);
    let mut builder = reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("sealtune/", env!("CARGO_PKG_VERSION")));
    // Plain http is for this machine itself: past any proxy.
    builder = if service.is_plain() { builder.no_proxy() } else { builder.https_only(true) };
    let client = builder.build().map_err(|error| error.to_string())?;
    let answers = Answers {
        pck_crl: get(&client, &urls.pck_crl).await?,
        tcb_info: get(&client, &urls.tcb_info).await?,
        qe_identity: get(&client, &urls.qe_identity).await?,
        root_crl: get(&client, &urls.root_crl).await?,
        root_crl_form: urls.root_crl_form,
    };
    answers.into_collateral().map_err(|error| error.to_string())
}

async fn get(client: &reqwest::Client, url: &str) -> Result<Answer, String> {
    let failed = |error: reqwest::Error| format!("fetch {url}: {}", error.without_url());
    let mut response = client.get(url).send().await.map_err(failed)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("fetch {url}: status {}", response.status().as_u16()));
    }
    let headers = response
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        if body.len() + piece.len() > MOST {
            return Err(format!("fetch {url}: more than {MOST} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer { headers, body })
}

/// Holds what a verdict rests on against the memory at `path`, adds what comes of it to the verdict, and keeps what is newer.
pub(crate) fn remember(
    path: &Path,
    trust: &Trust,
    bundle: &EvidenceBundle,
    collateral: Option<&Collateral>,
    now: u64,
    verdict: &mut Verdict,
) -> Result<(), CliError> {
    let Some(used) = collateral.or(trust.collateral.as_ref()).or(bundle.collateral.as_ref()) else {
        return Ok(());
    };
    let facts = CollateralFacts::of_hardware(&bundle.quote.0, used, &trust.anchors, now);
    let Some(facts) = facts else { return Ok(()) };
    files::make_parent(path)?;
    let lock_path = path.with_extension("lock");
    let _lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|source| ClientError::Write { path: lock_path, source })?;
    let shown =
        |error: CollateralError| CliError::new(Exit::Usage, error.code(), error.fix(), &error);
    let known = if path.exists() {
        let bytes = files::read(path, MAX_MEMORY_BYTES as u64)?;
        CollateralMemory::parse(&bytes).map_err(shown)?
    } else {
        CollateralMemory::default()
    };
    let (findings, newest) = known.hold(vec![("", facts)]);
    if newest != known {
        files::replace_private(path, &newest.to_bytes().map_err(shown)?)?;
    }
    verdict.add(findings);
    Ok(())
}

#[cfg(test)]
mod tests;
