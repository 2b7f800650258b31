//! Names that cannot leave the tree they are unpacked into.

pub const MAX_NAME_BYTES: usize = 1024;

/// The limit of common file systems.
const MAX_COMPONENT_BYTES: usize = 255;
const MAX_DEPTH: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("not UTF-8")]
    NotUtf8,
    #[error("empty")]
    Empty,
    #[error("too long or too deep")]
    TooLong,
    #[error("absolute path")]
    Absolute,
    #[error("leads out of the archive")]
    Parent,
    #[error("holds a backslash or control character")]
    ForbiddenCharacter,
    #[error("starts with a drive letter")]
    DriveLetter,
}

/// A relative path of normal components joined by `/`, without a trailing one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntryName(String);

impl EntryName {
    /// Drops `.` and empty components; refuses what a reader could take for another place.
    pub fn parse(raw: &[u8]) -> Result<Self, NameError> {
        if raw.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong);
        }
        let text = std::str::from_utf8(raw).map_err(|_| NameError::NotUtf8)?;
        if text.starts_with('/') {
            return Err(NameError::Absolute);
        }
        if text.chars().any(|c| c == '\\' || c.is_control()) {
            return Err(NameError::ForbiddenCharacter);
        }
        let mut components = Vec::new();
        for component in text.split('/') {
            match component {
                "" | "." => continue,
                ".." => return Err(NameError::Parent),
                _ if component.len() > MAX_COMPONENT_BYTES => return Err(NameError::TooLong),
                _ => components.push(component),
            }
        }
        if components.len() > MAX_DEPTH {
            return Err(NameError::TooLong);
        }
        let Some(first) = components.first() else { return Err(NameError::Empty) };
        if let [letter, b':', ..] = first.as_bytes()
            && letter.is_ascii_alphabetic()
        {
            return Err(NameError::DriveLetter);
        }
        Ok(Self(components.join("/")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The directories above, topmost first.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').filter_map(|(end, _)| self.0.get(..end))
    }

    pub(super) fn split_top(&self) -> (&str, Option<&str>) {
        match self.0.split_once('/') {
            Some((top, rest)) => (top, Some(rest)),
            None => (&self.0, None),
        }
    }

    /// Whether `other` is inside this name, taken as a directory.
    pub(super) fn contains(&self, other: &Self) -> bool {
        other.0.strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('/'))
    }
}
