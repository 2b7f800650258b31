//! An error as it is shown: code, message, fix, exit code.

use serde::Serialize;

use super::{ClientError, Exit};

#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) fix: String,
    pub(crate) exit: Exit,
    passing: Passing,
}

/// Whether the same thing may succeed a moment later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing {
    Never,
    /// The connection failed.
    Connection,
    /// The job or its VM was in another state than the call needs.
    State,
}

#[derive(Serialize)]
struct Shown<'a> {
    error: ShownError<'a>,
}

#[derive(Serialize)]
struct ShownError<'a> {
    code: &'a str,
    message: &'a str,
    fix: &'a str,
}

impl CliError {
    pub(crate) fn new(
        exit: Exit,
        code: impl Into<String>,
        fix: impl Into<String>,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        let message = format!("failed to {}", with_sources(error));
        Self { code: code.into(), message, fix: fix.into(), exit, passing: Passing::Never }
    }

    pub(crate) fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The connection failed, not the call.
    pub(crate) fn is_transient(&self) -> bool {
        self.passing == Passing::Connection
    }

    /// It may be otherwise when the job is looked at again.
    pub(crate) fn may_pass(&self) -> bool {
        self.passing != Passing::Never
    }

    /// What goes to stderr, without the last newline.
    pub(crate) fn text(&self, json: bool) -> String {
        if json {
            let shown = ShownError { code: &self.code, message: &self.message, fix: &self.fix };
            // Three strings always serialise.
            return serde_json::to_string(&Shown { error: shown }).unwrap_or_default();
        }
        if self.fix.is_empty() {
            format!("error[{}]: {}", self.code, self.message)
        } else {
            format!("error[{}]: {}\nfix: {}", self.code, self.message, self.fix)
        }
    }
}

/// The message and what caused it, where the message does not say so already.
fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let mut shown = Self::new(error.exit(), error.code(), error.fix(), &error);
        shown.passing = match &error {
            _ if error.is_transient() => Passing::Connection,
            ClientError::Provider { status: 409 | 410, .. } => Passing::State,
            _ => Passing::Never,
        };
        // These are whole sentences by themselves.
        if let ClientError::Provider { message, .. }
        | ClientError::Interrupted(message)
        | ClientError::Bug(message) = &error
        {
            shown.message.clone_from(message);
        }
        shown
    }
}

/// Errors of the shared crates carry a code and a fix of their own; here they only get an exit code.
macro_rules! shown_as {
    ($exit:expr => $($error:ty),+ $(,)?) => {$(
        impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                Self::new($exit, error.code(), error.fix(), &error)
            }
        }
    )+};
}

shown_as!(Exit::Usage =>
    sealtune_content::HashError,
    sealtune_content::IdError,
    sealtune_job::SpecificationError,
    sealtune_job::TermsError,
    sealtune_seal::hpke::HpkeError,
    sealtune_seal::key_file::KeyFileError,
    sealtune_seal::owner::OwnerError,
);
shown_as!(Exit::No =>
    sealtune_content::archive::ArchiveError,
    sealtune_seal::envelope::EnvelopeError,
    sealtune_seal::frames::FrameError,
    sealtune_seal::result_object::ResultError,
    sealtune_seal::stream::StreamError,
);

impl From<sealtune_seal::canonical::CanonicalError> for CliError {
    fn from(error: sealtune_seal::canonical::CanonicalError) -> Self {
        Self::new(Exit::Bug, error.code(), error.fix(), &error)
    }
}

impl From<sealtune_verify::Failure> for CliError {
    fn from(error: sealtune_verify::Failure) -> Self {
        let exit = match (&error, error.exit_code()) {
            (sealtune_verify::Failure::Read { source, .. }, _)
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Exit::Usage
            }
            (_, 1) => Exit::No,
            (_, 2) => Exit::Usage,
            (_, 3) => Exit::Environment,
            _ => Exit::Bug,
        };
        Self::new(exit, error.code(), error.fix(), &error)
    }
}

impl From<sealtune_seal::release::ReleaseError> for CliError {
    fn from(error: sealtune_seal::release::ReleaseError) -> Self {
        Self::new(Exit::Usage, error.code(), error.fix(), &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_json_or_two_for_people() {
        let error = CliError::from(ClientError::NoProvider);
        assert_eq!(
            error.text(false),
            "error[ST-CLI-02]: failed to know which provider to ask\nfix: give --provider URL or set SEALTUNE_PROVIDER"
        );
        let json: serde_json::Value = serde_json::from_str(&error.text(true)).expect("json");
        assert_eq!(json["error"]["code"], "ST-CLI-02");
        assert_eq!(json["error"].as_object().expect("object").len(), 3);
        assert!(!error.text(true).contains('\n'));
    }

    #[test]
    fn a_providers_refusal_keeps_its_code_and_says_refused() {
        let error = CliError::from(ClientError::Provider {
            status: 403,
            code: "ST-API-04".into(),
            message: "the job belongs to somebody else".into(),
            fix: "use the owner's key".into(),
            retry_after: None,
        });
        assert_eq!((error.code.as_str(), error.exit), ("ST-API-04", Exit::Refused));
        assert_eq!(error.message, "the job belongs to somebody else");
    }
}
