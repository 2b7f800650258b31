//! The program's client for collateral services: HTTPS through rustls with ring and the system's roots, one request at a
//! time, bounded, no redirections.

use std::time::Duration;

use sealtune_evidence::collateral::{Answer, Ask, Method};
use sealtune_verify::{Http, HttpError};
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig},
};

const PATIENCE: Duration = Duration::from_secs(30);

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

impl Http for Client {
    fn ask(&self, ask: &Ask) -> Result<Answer, HttpError> {
        let failed = |error: ureq::Error| HttpError(error.to_string());
        let agent = if ask.is_plain() { &self.direct } else { &self.through_proxy };
        let response = match &ask.method {
            Method::Get => agent.get(&ask.url).call(),
            Method::Post { content_type, body } => {
                agent.post(&ask.url).content_type(*content_type).send(body.as_slice())
            }
        };
        let mut response = response.map_err(failed)?;
        let status = response.status().as_u16();
        if status == 404 && ask.may_be_absent {
            return Ok(Answer { headers: vec![], body: vec![] });
        }
        if status != 200 {
            return Err(HttpError(format!("status {status}")));
        }
        let headers = response
            .headers()
            .iter()
            .filter_map(|(name, value)| {
                Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
            })
            .collect();
        let limit = u64::try_from(ask.most).unwrap_or(u64::MAX);
        let body = response.body_mut().with_config().limit(limit).read_to_vec().map_err(failed)?;
        Ok(Answer { headers, body })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn what_may_be_absent_is_an_empty_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a request");
                    request.push(byte[0]);
                }
                let answer =
                    "HTTP/1.1 404 Gone\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
                stream.write_all(answer.as_bytes()).expect("an answer");
            }
        });
        let ask = |may_be_absent| {
            let ask = Ask { url: url.clone(), method: Method::Get, most: 9, may_be_absent };
            Client::new().ask(&ask)
        };
        assert_eq!(ask(true).expect("an answer").body, b"");
        assert_eq!(ask(false).expect_err("refused").0, "status 404");
    }
}
