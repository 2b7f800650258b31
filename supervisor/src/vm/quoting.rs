//! Where the host's quote generation service (QGS) is for QEMU, which hands it the TDREPORTs of TDX VMs. Quotes are signed by
//! Intel's enclave, so this is the operator's own affair: nothing measures it.
//!
//! Intel's service listens on vsock port 4050 if its `qgs.conf` names that port, else on a unix socket.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use sealtune_evidence::qgs;
use serde::{Deserialize, Serialize};

/// Unix socket paths have at most this many bytes.
const MAX_PATH: usize = 107;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum QuoteService {
    /// Of this host.
    Vsock {
        port: u32,
    },
    Unix {
        path: PathBuf,
    },
}

impl Default for QuoteService {
    fn default() -> Self {
        Self::Vsock { port: qgs::PORT }
    }
}

/// `vsock:PORT` or `unix:/PATH`.
impl FromStr for QuoteService {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = Err("expected vsock:PORT or unix:/PATH");
        match text.split_once(':') {
            Some(("vsock", port)) => match port.parse() {
                // The highest one means any.
                Ok(port) if (1..u32::MAX).contains(&port) => Ok(Self::Vsock { port }),
                _ => refused,
            },
            Some(("unix", path)) if path.starts_with('/') && path.len() <= MAX_PATH => {
                Ok(Self::Unix { path: path.into() })
            }
            _ => refused,
        }
    }
}

impl std::fmt::Display for QuoteService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vsock { port } => write!(f, "vsock:{port}"),
            Self::Unix { path } => write!(f, "unix:{}", path.display()),
        }
    }
}

impl QuoteService {
    /// QEMU's `SocketAddress`, as JSON.
    pub(crate) fn socket_address(&self) -> String {
        let address = match self {
            Self::Vsock { port } => SocketAddress::Vsock { cid: "2", port: port.to_string() },
            Self::Unix { path } => SocketAddress::Unix { path },
        };
        // Numbers and text: nothing of it cannot be written.
        serde_json::to_string(&address).unwrap_or_default()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
enum SocketAddress<'a> {
    Vsock { cid: &'static str, port: String },
    Unix { path: &'a Path },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_or_a_path_and_nothing_else() {
        let read = |text: &str| text.parse::<QuoteService>();
        for text in ["vsock:4050", "vsock:1", "unix:/var/run/tdx-qgs/qgs.socket"] {
            assert_eq!(read(text).expect(text).to_string(), text);
        }
        assert_eq!(QuoteService::default().to_string(), "vsock:4050");
        let long = format!("unix:/{}", "x".repeat(MAX_PATH));
        for text in [
            "",
            "4050",
            "vsock:",
            "vsock:0",
            "vsock:-1",
            "vsock:4294967295",
            "unix:qgs",
            "tcp:1",
            &long,
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
        let address = read("unix:/a\"b,c").expect("a path").socket_address();
        assert_eq!(address, r#"{"type":"unix","path":"/a\"b,c"}"#);
    }
}
