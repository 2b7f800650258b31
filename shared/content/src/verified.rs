//! A value that carries the proof that it was checked.

use std::ops::Deref;

/// `T` that passed its check. Only the checking functions of this crate make one, so a
/// function that takes `Verified<T>` cannot be reached with unchecked input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub(crate) fn vouch(checked: T) -> Self {
        Self(checked)
    }

    pub fn get(&self) -> &T {
        &self.0
    }

    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
