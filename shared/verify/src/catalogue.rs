//! Every stable code of Sealtune, with its cause and what to do about it.
//!
//! The tables are those of the README files, which the tests of each area hold equal to its errors: read here when the
//! program is built, so that a code explains itself wherever a user meets it.

use sealtune_evidence::codes::CodeEntry;

const PAGES: &[&str] = &[
    include_str!("../../seal/README.md"),
    include_str!("../../content/README.md"),
    include_str!("../../job/README.md"),
    include_str!("../../wire/README.md"),
    include_str!("../../evidence/README.md"),
    include_str!("../../evidence/src/release/README.md"),
    include_str!("../../evidence/src/collateral/README.md"),
    include_str!("../../evidence/src/snp/README.md"),
    include_str!("../../evidence/src/nvidia/README.md"),
    include_str!("../../evidence/src/dstack/README.md"),
    include_str!("../../evidence/src/logs/README.md"),
    include_str!("../../evidence/src/measure/README.md"),
    include_str!("../../receipt/README.md"),
    include_str!("../README.md"),
    include_str!("../../../agent/README.md"),
    include_str!("../../../agent/gpu-evidence/README.md"),
    include_str!("../../../image-layer/README.md"),
    include_str!("../../../supervisor/README.md"),
];

/// All codes, area by area.
pub fn all_codes() -> impl Iterator<Item = CodeEntry> {
    PAGES.iter().flat_map(|page| page.lines()).filter_map(row)
}

/// The row for `code`, as a user typed it.
pub fn explain(code: &str) -> Option<CodeEntry> {
    all_codes().find(|entry| entry.code.eq_ignore_ascii_case(code.trim()))
}

/// `| ST-AREA-nn | cause | fix |`
fn row(line: &'static str) -> Option<CodeEntry> {
    let mut cells = line.strip_prefix("| ST-")?.strip_suffix(" |")?.split(" | ");
    let number = cells.next()?;
    let (cause, fix) = (cells.next()?, cells.next()?);
    let code = line.get(2..2 + "ST-".len() + number.len())?;
    cells.next().is_none().then_some(CodeEntry { code, cause, fix })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_table_row_is_read_and_no_code_has_two() {
        let rows: usize = PAGES.iter().map(|page| page.matches("\n| ST-").count()).sum();
        let mut seen = BTreeSet::new();
        for entry in all_codes() {
            assert!(seen.insert(entry.code), "{} is used twice", entry.code);
            assert!(!entry.cause.is_empty() && !entry.fix.is_empty(), "{}", entry.code);
        }
        assert_eq!(seen.len(), rows);
        assert!(rows > 400, "{rows} codes: a page lost its table");
    }

    #[test]
    fn codes_of_every_area_explain_themselves() {
        for code in ["ST-SEAL-01", "st-agent-65 ", "ST-CLI-01", "ST-EVID-43", "ST-JOB-23"] {
            assert!(explain(code).is_some(), "{code}");
        }
        assert_eq!(explain("ST-AGENT-00"), None);
        assert_eq!(explain(""), None);
    }
}
