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
    let (mut answer, mut clients) = (None, Clients::default());
    loop {
        match inquiry.go_on(answer)? {
            Next::Done(document) => return Ok(document),
            Next::Ask(ask) => {
                let failed = |reason| AskError::Unreachable { url: ask.url.clone(), reason };
                answer = Some(clients.make(&ask).await.map_err(failed)?);
            }
        }
    }
}

/// One for each kind of address: making one reads the system's roots, and each keeps its connections.
#[derive(Default)]
pub(crate) struct Clients {
    plain: Option<reqwest::Client>,
    secure: Option<reqwest::Client>,
}

impl Clients {
    fn of(&mut self, ask: &Ask) -> Result<&reqwest::Client, reqwest::Error> {
        let builder = || {
            reqwest::Client::builder()
                .timeout(PATIENCE)
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("sealtune/", env!("CARGO_PKG_VERSION")))
        };
        // Plain http is for this machine itself: past any proxy.
        let (place, builder) = match ask.is_plain() {
            true => (&mut self.plain, builder().no_proxy()),
            false => (&mut self.secure, builder().https_only(true)),
        };
        match place {
            Some(client) => Ok(client),
            None => Ok(place.insert(builder.build()?)),
        }
    }

    pub(crate) async fn make(&mut self, ask: &Ask) -> Result<Answer, String> {
        let failed = |error: reqwest::Error| error.without_url().to_string();
        let client = self.of(ask).map_err(failed)?;
        let request = match &ask.method {
            Method::Get => client.get(&ask.url),
            Method::Post { content_type, body } => client
                .post(&ask.url)
                .header(reqwest::header::CONTENT_TYPE, *content_type)
                .body(body.clone()),
        };
        let mut response = request.send().await.map_err(failed)?;
        if ask.may_be_absent && response.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(Answer { headers: vec![], body: vec![] });
        }
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
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Asks for each, and says what came.
    struct Series {
        left: Vec<Ask>,
        got: Vec<Vec<u8>>,
    }

    impl Inquiry for Series {
        type Document = Vec<Vec<u8>>;

        fn go_on(&mut self, answer: Option<Answer>) -> Result<Next<Vec<Vec<u8>>>, CollateralError> {
            self.got.extend(answer.map(|answer| answer.body));
            let next = self.left.pop().map(Next::Ask);
            Ok(next.unwrap_or_else(|| Next::Done(std::mem::take(&mut self.got))))
        }
    }

    /// Has `/here` alone, and keeps connections open.
    async fn service(connections: Arc<AtomicUsize>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while let Ok(byte) = stream.read_u8().await {
                        request.push(byte);
                        if request.ends_with(b"\r\n\r\n") {
                            let here = request.starts_with(b"GET /here ");
                            let status = if here { "200 OK" } else { "404 Not Found" };
                            let text = format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\n\r\nabc");
                            let _ = stream.write_all(text.as_bytes()).await;
                            request.clear();
                        }
                    }
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn one_client_asks_all_and_takes_what_may_be_absent_as_empty() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connections = Arc::new(AtomicUsize::new(0));
        let base = service(Arc::clone(&connections)).await;
        let ask = |path: &str, may_be_absent| Ask {
            url: format!("{base}/{path}"),
            method: Method::Get,
            most: 3,
            may_be_absent,
        };
        let series = |left| all(Series { left, got: vec![] });
        let got = series(vec![ask("here", true), ask("here", false)]).await.expect("answers");
        assert_eq!(got, [b"abc", b"abc"]);
        assert_eq!(connections.load(Ordering::SeqCst), 1);
        let got = series(vec![ask("here", false), ask("gone", true)]).await.expect("answers");
        assert_eq!(got, [&b""[..], b"abc"]);
        let error = series(vec![ask("gone", false)]).await.expect_err("refused").to_string();
        assert!(error.ends_with("status 404"), "{error}");
    }
}
