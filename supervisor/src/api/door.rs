//! Where customers and verifiers come in: HTTP/1.1 on TCP, a bounded number of connections, no client slower than it has to be.
//!
//! ```text
//! connection ─► is there a place (all, this peer's)? ─► head within 75 s ─► body at 16 KiB/s ─► handler ─► answer is read
//!                    └─ no: closed, or waits in the kernel's queue
//! ```
//! A proxy that the operator named speaks for others: its connections are not counted, and the last address of its
//! `X-Forwarded-For` is the peer. Of anybody else that header means nothing.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, BodyDataStream},
    http::Request,
};
use futures_util::{StreamExt as _, stream};
use hyper::{body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::peers::{Counted, Peer, Seats};

const MOST_HEAD: usize = 64 << 10;
/// Bytes of a body for which it has one second more.
const BODY_RATE: u64 = 16 << 10;
/// What handlers see of a body at once, at least.
const PIECE: usize = 16 << 10;
/// An answer that nobody reads, and a peer that is gone.
const UNREAD: u32 = 60_000;
/// Where there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections at once; who comes then waits in the kernel's queue.
    connections: usize,
    /// Of these, for this machine and the named proxies alone: others cannot keep them out.
    reserved: usize,
    /// From accepting to the end of the first head, and from one answer to the end of the next head.
    head: Duration,
    /// For a body, besides what its length adds.
    body: Duration,
}

const LIMITS: Limits = Limits {
    connections: 512,
    reserved: 64,
    // Longer than proxies keep a connection that they do not use.
    head: Duration::from_secs(75),
    body: Duration::from_secs(30),
};

/// Accepts for ever.
pub(crate) async fn serve(listener: TcpListener, router: Router, proxies: Vec<IpAddr>) {
    serve_within(LIMITS, listener, router, proxies).await;
}

async fn serve_within(limits: Limits, listener: TcpListener, router: Router, proxies: Vec<IpAddr>) {
    let (places, seats) = (Arc::new(Semaphore::new(limits.connections)), Seats::default());
    let others = Arc::new(Semaphore::new(limits.connections.saturating_sub(limits.reserved)));
    let service = TowerToHyperService::new(router);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("accept a connection: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let is_proxy = proxies.contains(&address.ip().to_canonical());
        let seat = match Peer::of(address.ip()).filter(|_| !is_proxy) {
            None => None,
            Some(peer) => {
                match seats.take(peer).zip(Arc::clone(&others).try_acquire_owned().ok()) {
                    Some(seat) => Some(seat),
                    // Closed without a word: it has enough of them open to be told there, or nobody has any left.
                    None => continue,
                }
            }
        };
        let service = service.clone();
        tokio::spawn(async move {
            let _held = (place, seat);
            if let Err(error) = connection(limits, stream, address, is_proxy, service).await {
                tracing::debug!("a connection ended: {error}");
            }
        });
    }
}

async fn connection(
    limits: Limits,
    stream: TcpStream,
    address: SocketAddr,
    is_proxy: bool,
    service: TowerToHyperService<Router>,
) -> Result<(), hyper::Error> {
    let _ = stream.set_nodelay(true);
    // A proxy keeps what its customer has not read yet, a gigabyte and more, and reads on when that is gone.
    if !is_proxy && Peer::of(address.ip()).is_some() {
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, UNREAD);
    }
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let peer =
            if is_proxy { forwarded(&request).and_then(Peer::of) } else { Peer::of(address.ip()) };
        let mut request = request.map(|body| in_time(limits.body, Body::new(body)));
        request.extensions_mut().insert(Counted(peer));
        service.call(request)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MOST_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

/// The address that a proxy of the operator's wrote behind all others.
fn forwarded<B>(request: &Request<B>) -> Option<IpAddr> {
    let last = request.headers().get_all("x-forwarded-for").iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// The body as long as it comes as fast as it must; then it ends with [`io::ErrorKind::TimedOut`]. Small pieces are put
/// together: each of them, however small, would cost whoever collects them a hundred bytes.
fn in_time(least: Duration, body: Body) -> Body {
    let read = move |(body, started, mut length): (Option<BodyDataStream>, Instant, u64)| async move {
        let mut body = body?;
        let mut gathered = Vec::new();
        while gathered.len() < PIECE {
            let allowed = least + Duration::from_secs(length / BODY_RATE);
            let ended = match timeout_at(started + allowed, body.next()).await {
                Ok(Some(Ok(piece))) => {
                    length = length.saturating_add(piece.len() as u64);
                    gathered.extend_from_slice(&piece);
                    continue;
                }
                Ok(None) if gathered.is_empty() => return None,
                Ok(None) => Ok(gathered),
                Ok(Some(Err(error))) => Err(io::Error::other(error)),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it comes too slowly")),
            };
            return Some((ended, (None, started, length)));
        }
        Some((Ok(gathered), (Some(body), started, length)))
    };
    let body = Some(body.into_data_stream());
    Body::from_stream(stream::unfold((body, Instant::now(), 0), read))
}

#[cfg(test)]
mod tests {
    use axum::{body::Bytes, extract::rejection::BytesRejection, routing::post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::api::error::ApiError;

    #[test]
    fn a_proxy_is_believed_its_last_word_alone() {
        let of = |values: &[&str]| {
            let mut request = Request::builder();
            for value in values {
                request = request.header("X-Forwarded-For", *value);
            }
            forwarded(&request.body(()).expect("a request"))
        };
        let address = |text: &str| text.parse::<IpAddr>().ok();
        assert_eq!(of(&["192.0.2.1"]), address("192.0.2.1"));
        assert_eq!(of(&["10.0.0.1, 192.0.2.1"]), address("192.0.2.1"));
        assert_eq!(of(&["192.0.2.9", "1.1.1.1,2001:db8::1"]), address("2001:db8::1"));
        for none in [&[][..], &[""], &["x"], &["192.0.2.1,"], &["192.0.2.1", "unknown"]] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    /// Says back what it is sent.
    async fn echo(limits: Limits) -> SocketAddr {
        let handler = |body: Result<Bytes, BytesRejection>| async move {
            body.map_err(|error| ApiError::unread(&error))
        };
        let router = Router::new().route("/", post(handler));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(serve_within(limits, listener, router, vec![]));
        address
    }

    async fn rest(client: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        let reading = client.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("it ends");
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn slow_heads_and_bodies_have_an_end() {
        let soon = Duration::from_millis(200);
        let address = echo(Limits { connections: 2, reserved: 2, head: soon, body: soon }).await;
        let mut clients = Vec::new();
        for text in ["", "POST / HTTP/1.1\r\nhost: a\r\n"] {
            let mut client = TcpStream::connect(address).await.expect("connects");
            client.write_all(text.as_bytes()).await.expect("writes");
            clients.push(client);
        }
        // Both places are taken until their time is over; then the third one's turn comes.
        let mut third = TcpStream::connect(address).await.expect("the kernel's queue");
        let request = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc";
        third.write_all(request.as_bytes()).await.expect("writes");
        let answer = rest(&mut third).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("ST-API-12"), "{answer}");
        for mut client in clients {
            assert_eq!(rest(&mut client).await.matches("200 OK").count(), 0);
        }
    }

    #[tokio::test]
    async fn it_answers_and_keeps_the_connection() {
        let address = echo(LIMITS).await;
        let mut client = TcpStream::connect(address).await.expect("connects");
        for body in ["one", "two"] {
            let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n{body}");
            client.write_all(request.as_bytes()).await.expect("writes");
            let mut answer = vec![0; 4096];
            let count = client.read(&mut answer).await.expect("reads");
            let text = String::from_utf8_lossy(&answer[..count]).into_owned();
            assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with(body), "{text}");
        }
        // A head without end is refused before it fills the memory.
        let endless = [&b"GET / HTTP/1.1\r\nx: "[..], &vec![b'x'; MOST_HEAD + 4096]].concat();
        let _ = client.write_all(&endless).await;
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[tokio::test]
    async fn a_body_in_many_pieces_costs_no_more_than_one_in_few() {
        let pieces = (0..100_000).map(|_| Ok::<_, io::Error>(Bytes::from_static(b"x")));
        let body = Body::from_stream(stream::iter(pieces));
        let mut seen = in_time(Duration::from_secs(60), body).into_data_stream();
        let mut lengths = Vec::new();
        while let Some(piece) = seen.next().await {
            lengths.push(piece.expect("a piece").len());
        }
        assert_eq!(lengths.iter().sum::<usize>(), 100_000);
        assert_eq!(lengths.len(), 100_000_usize.div_ceil(PIECE));
        let broken = stream::iter([Ok(Bytes::from_static(b"x")), Err(io::Error::other("gone"))]);
        let mut seen =
            in_time(Duration::from_secs(60), Body::from_stream(broken)).into_data_stream();
        assert!(
            seen.next().await.is_some_and(|piece| piece.is_err()) && seen.next().await.is_none()
        );
    }
}
