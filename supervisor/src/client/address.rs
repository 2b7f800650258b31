//! Where a provider is: `http://HOST:PORT`, `https://HOST` or `unix:/PATH`.

use std::{fmt, path::PathBuf, str::FromStr};

use super::ClientError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// Scheme and authority, without a slash behind.
    Tcp(String),
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::BadAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(bad()) };
        }
        let url = reqwest::Url::parse(text).map_err(|_| bad())?;
        // Owner calls sign the request target: a prefix that a proxy strips would break every signature.
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !plain {
            return Err(bad());
        }
        Ok(Self::Tcp(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(base) => f.write_str(base),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_each_address() {
        for (text, shown) in [
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://localhost:8080/", "http://localhost:8080"),
            ("HTTPS://Provider.Example", "https://provider.example"),
            ("unix:/run/sealtune/sealtune.sock", "unix:/run/sealtune/sealtune.sock"),
            ("unix:///run/s.sock", "unix:/run/s.sock"),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse::<Address>().expect("again"), address);
        }
    }

    #[test]
    fn refuses_what_cannot_be_signed_or_reached() {
        for text in [
            "",
            "localhost:8080",
            "ftp://host",
            "unix:relative.sock",
            "http://host/prefix",
            "http://user:password@host",
            "http://host/?a=b",
        ] {
            assert_eq!(text.parse::<Address>().expect_err(text).code(), "ST-CLI-03");
        }
    }
}
