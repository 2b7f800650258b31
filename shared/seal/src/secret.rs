//! A value that cannot be printed, serialised or copied by accident, and is wiped when it goes.

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Holds a secret. It has no `Debug` that shows it, no `Display`, no `Serialize` and no `Clone`;
/// whoever needs the value says so with [`Secret::expose`].
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, at the place that needs it and nowhere else.
    pub fn expose(&self) -> &T {
        &self.0
    }

    pub fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// A copy is made only where this is written out.
impl<T: Zeroize + Clone> Secret<T> {
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Secret<[u8; 32]> {
    /// 32 bytes from the operating system's generator (in a guest: after it has seeded).
    pub fn random() -> Result<Self, getrandom::Error> {
        // Filled in place, so that no second copy stays on the stack.
        let mut secret = Self([0; 32]);
        getrandom::fill(&mut secret.0)?;
        Ok(secret)
    }
}

/// Compared in constant time; the only comparison there is.
impl<T: Zeroize + AsRef<[u8]>> Secret<T> {
    pub fn equals(&self, other: &Self) -> bool {
        self.0.as_ref().ct_eq(other.0.as_ref()).into()
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// So that structures holding secrets can derive `Debug`; it says that something is there and nothing else.
impl<T: Zeroize> std::fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_value() {
        let secret = Secret::new(String::from("canary-7e1f"));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(format!("{:#?}", Some(&secret)), "Some(\n    Secret(..),\n)");
    }

    #[test]
    fn dropping_wipes_the_value() {
        struct Watched<'a>(&'a std::cell::Cell<bool>);
        impl Zeroize for Watched<'_> {
            fn zeroize(&mut self) {
                self.0.set(true);
            }
        }
        let wiped = std::cell::Cell::new(false);
        drop(Secret::new(Watched(&wiped)));
        assert!(wiped.get());
    }

    #[test]
    fn random_secrets_differ_and_copies_are_equal() {
        let one = Secret::random().expect("random");
        let other = Secret::random().expect("random");
        assert!(!one.equals(&other));
        assert!(one.equals(&one.duplicate()));
    }
}
