//! What is not asked about for a while, because asking failed. By machine and by GPUs: one VM's made-up quote keeps nobody
//! from asking about the others.

use std::collections::BTreeMap;

use super::kept::{Dated, REST, put};

/// The newest stay.
const MAX_RESTS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Rests(BTreeMap<String, Dated<()>>);

impl Rests {
    pub(super) fn has(&self, key: &str, now: u64) -> bool {
        self.0.get(key).is_some_and(|it| it.is_younger(REST, now))
    }

    /// Whether it is the first failure in a row.
    pub(super) fn begin(&mut self, key: &str, now: u64) -> bool {
        let first = !self.0.contains_key(key);
        put(&mut self.0, key.to_owned(), (), now, MAX_RESTS);
        first
    }

    /// Whether there was a failure before.
    pub(super) fn end(&mut self, key: &str) -> bool {
        self.0.remove(key).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rests_for_itself_and_not_for_ever() {
        let mut rests = Rests::default();
        assert!(rests.begin("a", 1000) && !rests.begin("a", 1000));
        assert!(rests.has("a", 1000 + REST - 1) && !rests.has("a", 1000 + REST));
        assert!(!rests.has("b", 1000) && !rests.has("a", 999), "the clock was set back");
        assert!(rests.end("a") && !rests.end("a") && !rests.has("a", 1000));
        for at in 0..200 {
            rests.begin(&at.to_string(), at);
        }
        assert_eq!(rests.0.len(), MAX_RESTS);
        assert!(rests.has("199", 199) && !rests.has("1", 199));
    }
}
