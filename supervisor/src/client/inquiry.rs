//! Asking the services of Intel, AMD and NVIDIA, for the customer's commands and for the daemon.

use std::time::Duration;

use sealtune_evidence::collateral::{Answer, Ask, CollateralError, Inquiry, Method, Next};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("fetch {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{0}")]
    Collateral(#[from] CollateralError),
}

/// Makes every request of an inquiry, one after the other.
pub(crate) async fn all<I: Inquiry>(mut inquiry: I) -> Result<I::Document, AskError> {
    let mut answer = None;
    loop {
        match inquiry.go_on(answer)? {
            Next::Done(document) => return Ok(document),
            Next::Ask(ask) => {
                let failed = |reason| AskError::Unreachable { url: ask.url.clone(), reason };
                answer = Some(make(&ask).await.map_err(failed)?);
            }
        }
    }
}

async fn make(ask: &Ask) -> Result<Answer, String> {
    let failed = |error: reqwest::Error| error.without_url().to_string();
    let mut builder = reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("sealtune/", env!("CARGO_PKG_VERSION")));
    // Plain http is for this machine itself: past any proxy.
    builder = if ask.is_plain() { builder.no_proxy() } else { builder.https_only(true) };
    let client = builder.build().map_err(failed)?;
    let request = match &ask.method {
        Method::Get => client.get(&ask.url),
        Method::Post { content_type, body } => client
            .post(&ask.url)
            .header(reqwest::header::CONTENT_TYPE, *content_type)
            .body(body.clone()),
    };
    let mut response = request.send().await.map_err(failed)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let headers = response
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        if body.len() + piece.len() > ask.most {
            return Err(format!("more than {} bytes", ask.most));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Answer { headers, body })
}
