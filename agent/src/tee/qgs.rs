//! A quote from the host's quote generation service, over vsock: for kernels without configfs-tsm.
//!
//! Written from the protocol's documentation; it has not run on hardware yet. A VM that may reach no socket of its host,
//! like those of Sealtune's own image, gets no quote this way.

use std::time::Duration;

use sealtune_evidence::qgs::{self, TDREPORT_BYTES};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_vsock::{VMADDR_CID_HOST, VsockAddr, VsockStream};

const DEADLINE: Duration = sealtune_wire::patience::QUOTE;

/// What the service makes of a report. Whether the quote is over the right data is for the caller to see.
pub(super) async fn quote(report: &[u8; TDREPORT_BYTES]) -> Result<Vec<u8>, String> {
    let talk = async {
        let service = VsockAddr::new(VMADDR_CID_HOST, qgs::PORT);
        let mut stream = VsockStream::connect(service).await.map_err(|error| error.to_string())?;
        ask(&mut stream, report).await
    };
    match timeout(DEADLINE, talk).await {
        Ok(outcome) => outcome.map_err(|error| format!("quote generation service: {error}")),
        Err(_) => Err("quote generation service: no answer within 30 seconds".into()),
    }
}

async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    report: &[u8; TDREPORT_BYTES],
) -> Result<Vec<u8>, String> {
    let broken = |error: std::io::Error| error.to_string();
    stream.write_all(&qgs::request(report)).await.map_err(broken)?;
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await.map_err(broken)?;
    let length = qgs::response_length(prefix).map_err(|error| error.to_string())?;
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.map_err(broken)?;
    qgs::quote(&message).map(<[u8]>::to_vec).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(answer: &[u8]) -> Result<Vec<u8>, String> {
        let (mut guest, mut host) = tokio::io::duplex(4096);
        host.write_all(answer).await.unwrap();
        let outcome = ask(&mut guest, &[5; TDREPORT_BYTES]);
        let service = async move {
            let mut request = vec![0; 4 + 1048];
            host.read_exact(&mut request).await.unwrap();
            assert_eq!(request, qgs::request(&[5; TDREPORT_BYTES]));
        };
        let (outcome, ()) = tokio::join!(outcome, service);
        outcome
    }

    #[tokio::test]
    async fn the_service_gets_the_report_and_its_quote_comes_back() {
        let mut message = vec![1, 0, 0, 0, 1, 0, 0, 0, 27, 0, 0, 0, 0, 0, 0, 0];
        message.extend([0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 2]);
        let framed = [&[0, 0, 0, 27], &message[..]].concat();
        assert_eq!(asked(&framed).await.unwrap(), [4, 0, 2]);
        assert!(asked(&framed[..20]).await.is_err());
        let mut refused = framed;
        refused[4 + 12] = 1;
        assert!(asked(&refused).await.unwrap_err().contains("refuses with 0x1"));
        assert!(asked(&[0xff; 4]).await.unwrap_err().contains("none of the quote"));
    }
}
