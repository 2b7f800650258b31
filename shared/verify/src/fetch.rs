//! The program's client for collateral services: HTTPS through rustls with ring and the system's roots, one request at a
//! time, bounded, no redirections.

use std::time::Duration;

use sealtune_evidence::collateral::{Answer, ServiceBase, answers::MAX_BODY};
use sealtune_verify::{Get, GetError};
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig},
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Caches write the root's list as hex.
const MOST: u64 = 2 * MAX_BODY as u64;

pub(crate) struct Client {
    through_proxy: Agent,
    direct: Agent,
}

impl Client {
    pub(crate) fn new() -> Self {
        // Fails only if it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = || {
            let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
            Agent::config_builder()
                .tls_config(tls)
                .timeout_global(Some(PATIENCE))
                .max_redirects(0)
                .max_redirects_will_error(false)
                .http_status_as_error(false)
                .user_agent(concat!("sealtune-verify/", env!("CARGO_PKG_VERSION")))
        };
        let through_proxy = config().https_only(true).build().new_agent();
        // For this machine itself: plain, and past any proxy.
        let direct = config().proxy(None).build().new_agent();
        Self { through_proxy, direct }
    }
}

impl Get for Client {
    fn get(&self, url: &str) -> Result<Answer, GetError> {
        let failed = |error: ureq::Error| GetError(error.to_string());
        let agent = if is_local(url) { &self.direct } else { &self.through_proxy };
        let mut response = agent.get(url).call().map_err(failed)?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(GetError(format!("status {status}")));
        }
        let headers = response
            .headers()
            .iter()
            .filter_map(|(name, value)| {
                Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
            })
            .collect();
        let body = response.body_mut().with_config().limit(MOST).read_to_vec().map_err(failed)?;
        Ok(Answer { headers, body })
    }
}

/// Plain http to a loopback address; the rule is that of [`ServiceBase`].
fn is_local(url: &str) -> bool {
    let end = url.match_indices('/').nth(2).map_or(url.len(), |(place, _)| place);
    url.get(..end)
        .and_then(|base| ServiceBase::parse(base).ok())
        .is_some_and(|base| base.is_plain())
}
