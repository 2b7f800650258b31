//! Every code of init, device and container is used once and stands in the README with its fix.

use std::collections::BTreeSet;

use super::{InitError, console};
use crate::container::protocol::StartStage;
use crate::device::DeviceError;
use crate::device::knobs::KnobError;

#[test]
fn codes_are_unique_and_in_the_readme() {
    let readme = include_str!("../../README.md");
    let mut codes: Vec<(&str, &str)> = Vec::new();
    codes.extend(InitError::samples().iter().map(|error| (error.code(), error.fix())));
    codes.extend(DeviceError::samples().iter().map(|error| (error.code(), error.fix())));
    codes.extend(KnobError::samples().iter().map(|error| (error.code(), error.fix())));
    codes.extend(StartStage::ALL.iter().map(|stage| (stage.code(), stage.fix())));
    codes.push((console::PANIC_CODE, "report this as a bug"));
    let unique: BTreeSet<_> = codes.iter().map(|(code, _)| code).collect();
    assert_eq!(unique.len(), codes.len());
    for (code, fix) in codes {
        let row = readme.lines().find(|line| line.starts_with(&format!("| {code} |")));
        let row = row.unwrap_or_else(|| panic!("{code} is not in the README"));
        assert!(row.contains(fix), "{code}: the README's fix is not \"{fix}\"");
    }
}
