//! Content from a web server, with ranges: a cut answer goes on where it stopped.

use std::{fmt, pin::Pin};

use bytes::Bytes;
use futures_util::Stream;
use reqwest::{StatusCode, header};
use sealtune_content::ContentId;

use super::{
    ContentError, digest_hex,
    source::{Rest, Source},
};

/// How often one read position is tried before the source is given up.
const TRIES: u32 = 4;

type Body = Pin<Box<dyn Stream<Item = Result<Bytes, reqwest::Error>> + Send + Sync>>;

pub(crate) struct HttpBody {
    client: reqwest::Client,
    address: String,
    length: u64,
    at: u64,
    tries: u32,
    rest: Rest,
    body: Option<Body>,
}

impl fmt::Debug for HttpBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpBody").field("at", &self.at).finish_non_exhaustive()
    }
}

/// Opens `id` at a source; `None` where the source does not have it.
pub(super) async fn open(
    client: &reqwest::Client,
    template: &str,
    id: &ContentId,
) -> Result<Option<Source>, ContentError> {
    let address = template.replace("{id}", &digest_hex(id));
    let failed = |error: reqwest::Error| ContentError::Http(error.without_url().to_string());
    let head = client.head(&address).send().await.map_err(failed)?;
    if head.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if !head.status().is_success() {
        return Err(ContentError::Http(format!("the source answered {}", head.status())));
    }
    let found = head
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(found) = found.filter(|found| *found != id.length()) {
        return Err(ContentError::Length { expected: id.length(), found });
    }
    Ok(Some(Source::Http(Box::new(HttpBody {
        client: client.clone(),
        address,
        length: id.length(),
        at: 0,
        tries: 0,
        rest: Rest::default(),
        body: None,
    }))))
}

impl HttpBody {
    pub(super) async fn seek(&mut self, offset: u64) -> Result<(), ContentError> {
        self.at = offset;
        self.body = None;
        self.rest.clear();
        Ok(())
    }

    pub(super) async fn next(&mut self, limit: usize) -> Result<Bytes, ContentError> {
        loop {
            if let Some(part) = self.rest.take(limit) {
                self.at += part.len() as u64;
                self.tries = 0;
                if self.at > self.length {
                    return Err(ContentError::Length { expected: self.length, found: self.at });
                }
                return Ok(part);
            }
            if self.at >= self.length {
                return Ok(Bytes::new());
            }
            let Some(body) = &mut self.body else {
                self.connect().await?;
                continue;
            };
            match self.rest.refill(body).await {
                Some(Ok(())) => {}
                // Ended or broke early: ask for the rest.
                Some(Err(_)) | None => self.body = None,
            }
        }
    }

    async fn connect(&mut self) -> Result<(), ContentError> {
        if self.tries >= TRIES {
            return Err(ContentError::Http("the source breaks off again and again".into()));
        }
        self.tries += 1;
        let request =
            self.client.get(&self.address).header(header::RANGE, format!("bytes={}-", self.at));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if self.tries < TRIES => {
                tracing::debug!("content source: {}", error.without_url());
                return Ok(());
            }
            Err(error) => return Err(ContentError::Http(error.without_url().to_string())),
        };
        let range = answer.headers().get(header::CONTENT_RANGE);
        let starts_here = range
            .and_then(|range| range.to_str().ok())
            .is_some_and(|range| range.starts_with(&format!("bytes {}-", self.at)));
        let usable = match answer.status() {
            StatusCode::PARTIAL_CONTENT => starts_here,
            StatusCode::OK => self.at == 0,
            _ => false,
        };
        if !usable {
            return Err(ContentError::Http(format!(
                "the source answered {} to a range request",
                answer.status()
            )));
        }
        self.body = Some(Box::pin(answer.bytes_stream()));
        Ok(())
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
