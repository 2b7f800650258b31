//! `PITFALLS.md` names what exists.

use std::{collections::BTreeSet, fs, path::Path};

const TABLE: &str = include_str!("../../PITFALLS.md");
/// Where the tables of codes are.
const CODES: [&str; 11] = [
    "shared/evidence/README.md",
    "shared/evidence/src/collateral/README.md",
    "shared/evidence/src/dstack/README.md",
    "shared/evidence/src/logs/README.md",
    "shared/evidence/src/measure/README.md",
    "shared/evidence/src/nvidia/README.md",
    "shared/evidence/src/snp/README.md",
    "shared/evidence/src/release/README.md",
    "shared/receipt/README.md",
    "shared/verify/README.md",
    "agent/README.md",
];

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(path)).expect(path)
}

#[test]
fn every_row_has_codes_and_tests_that_exist() {
    let known: String = CODES.into_iter().map(read).collect();
    let mut numbers = BTreeSet::new();
    let mut rows = 0;
    for line in TABLE.lines().filter(|line| line.starts_with("| ") && !line.contains("| tests |")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [.., codes, tests] = cells.as_slice() else { panic!("{line}") };
        assert!(codes.contains('-'), "no code: {line}");
        for code in codes.split(", ") {
            assert!(known.contains(&format!("\n| ST-{code} | ")), "there is no ST-{code}: {line}");
        }
        let mut named = 0;
        for test in tests.split(", ") {
            let test = test.trim_matches('`');
            let (file, name) = test.split_once(' ').expect(line);
            assert!(read(file).contains(&format!("fn {name}(")), "there is no {test}");
            named += 1;
        }
        assert!(named > 0, "no test: {line}");
        if cells.len() == 5 {
            assert!(numbers.insert(cells[0].parse::<u32>().expect("a number")), "twice: {line}");
        }
        rows += 1;
    }
    assert_eq!(numbers, (1..=85).collect());
    assert!(rows > 95, "{rows} rows");
}
