//! What the role says of its work, as one line. It comes from a process that hostile bytes may have
//! taken over: closed, bounded, and a code counts only if it is one of ours.

use sealtune_content::archive::{ArchiveCode, ArchiveError};
use serde::{Deserialize, Serialize};

pub(super) const MAX_LINE_BYTES: usize = 1024;
const MAX_TEXT: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum UnpackReport {
    Unpacked,
    /// The disk is full, or the archive is larger than what is free.
    NoSpace,
    Refused {
        code: String,
        detail: String,
    },
    NotConfined {
        reason: String,
    },
}

/// Why there is nothing unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackFailure {
    #[error("{detail}")]
    Archive { code: ArchiveCode, detail: String },
    #[error("hold the unpacked archive")]
    NoSpace,
    /// Not the archive's doing, as far as can be told.
    #[error("unpack an archive: {0}")]
    Role(String),
}

impl UnpackReport {
    pub(super) fn of(result: Result<(), ArchiveError>) -> Self {
        let Err(error) = result else { return Self::Unpacked };
        if is_about_space(&error) {
            return Self::NoSpace;
        }
        Self::Refused { code: error.code().to_owned(), detail: error.to_string() }
    }

    pub(super) fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }

    pub(super) fn into_result(self) -> Result<(), UnpackFailure> {
        match self {
            Self::Unpacked => Ok(()),
            Self::NoSpace => Err(UnpackFailure::NoSpace),
            Self::Refused { code, detail } => Err(refusal(&code, detail)),
            Self::NotConfined { reason } => Err(UnpackFailure::Role(shown(reason))),
        }
    }

    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        (line.len() <= MAX_LINE_BYTES).then(|| serde_json::from_slice(line).ok()).flatten()
    }
}

fn is_about_space(error: &ArchiveError) -> bool {
    match error {
        ArchiveError::TooBig { .. } => true,
        ArchiveError::Write { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
        _ => false,
    }
}

fn refusal(code: &str, detail: String) -> UnpackFailure {
    match ArchiveCode::ALL.iter().find(|known| known.code() == code) {
        Some(known) => UnpackFailure::Archive { code: *known, detail: shown(detail) },
        None => UnpackFailure::Role("it reports a code that no archive has".into()),
    }
}

fn shown(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text.retain(|c| !c.is_control());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(line: &str) -> Option<Result<(), String>> {
        let report = UnpackReport::parse(line.as_bytes())?;
        Some(report.into_result().map_err(|failure| match failure {
            UnpackFailure::Archive { code, .. } => code.code().to_owned(),
            UnpackFailure::NoSpace => "space".to_owned(),
            UnpackFailure::Role(reason) => reason,
        }))
    }

    #[test]
    fn reports_come_back() {
        let refused = UnpackReport::of(Err(ArchiveError::TopLevel));
        for report in [UnpackReport::Unpacked, UnpackReport::NoSpace, refused] {
            assert_eq!(UnpackReport::parse(&report.to_line()), Some(report));
        }
    }

    #[test]
    fn space_is_told_apart_from_bad_archives() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let write = |source| UnpackReport::of(Err(ArchiveError::Write { index: 0, source }));
        assert_eq!(write(full), UnpackReport::NoSpace);
        assert!(matches!(write(std::io::Error::other("x")), UnpackReport::Refused { .. }));
        assert_eq!(UnpackReport::of(Err(ArchiveError::TooBig { limit: 1 })), UnpackReport::NoSpace);
    }

    #[test]
    fn a_taken_over_process_cannot_say_what_it_likes() {
        assert_eq!(judged("\"unpacked\""), Some(Ok(())));
        let other = r#"{"refused":{"code":"ST-AGENT-01","detail":"x"}}"#;
        assert!(
            judged(other).is_some_and(|told| told.is_err_and(|code| code.contains("no archive")))
        );
        assert_eq!(judged(r#"{"refused":{"code":"ST-CONTENT-52","detail":"x","more":1}}"#), None);
        assert_eq!(judged(&format!("\"{}\"", "x".repeat(MAX_LINE_BYTES))), None);
        assert_eq!(judged(""), None);
        let long = format!(r#"{{"not_confined":{{"reason":"\u001b{}"}}}}"#, "y".repeat(900));
        let reason = judged(&long).and_then(Result::err).unwrap();
        assert!(reason.len() <= MAX_TEXT && !reason.contains('\u{1b}'));
    }
}
