//! The shipped recipe against the boots of two real VMs.

use crate::{
    fixed_hex::Hex48,
    logs::{DstackLog, tests::hardware::report},
    measure::{Code, DigestSource, Recipe, SHIPPED, Strictness, compare, registers},
    reference::Rtmr0Layout,
};

/// SHA-384 of the blank variable store of this firmware; Debian's firmware without its keys has the same.
const BLANK_STORE: &str = "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790";

fn digest(text: &str) -> Option<Hex48> {
    Some(text.parse().expect("a digest"))
}

#[test]
fn two_real_boots_are_the_shipped_recipe() {
    let recipe = Recipe::parse(SHIPPED[1].1.as_bytes()).expect("reads");
    for (name, memory, kernel, command_line) in [
        (
            "tdx/gpu-vm-local-sgx.quote-report.json",
            64_u64 << 30,
            "0761fbfa317a42d8edbe9e404178d102adc059cface98c5e07d1d535371c145c3497fd2a19b8398568b8c8a6f95e0a86",
            "4027cb4ec64dbc24b6d98d9470daeefc749bbb6a9b011762d215f6ed3eb833d58fd72d9ad850958f72878182e6f61924",
        ),
        (
            "tdx/gpu-vm-kms.llm-attestation-report.json",
            200 << 30,
            "ab4e4faca918c5faeebe3a64f39f68a0bd4c77bc08b2bacbf8a2af5eb90ac20124d151b9ad611cfa8f7fb46b7cd0ca9a",
            "a4ec3ed5827bca501d0d0525ddb3875b5048b8f56413dc8baf4ee539c525c279716bcf408550e5a2ae0dc2d54d9957b4",
        ),
    ] {
        let Some((quote, json)) = report(name) else { return };
        assert_eq!(quote.mrtd, recipe.mrtd);
        let log = DstackLog::parse(&json).expect("parses");
        assert_eq!(log.check_replay(&quote.rtmr), Ok(()));
        let known = |source| {
            Ok(match source {
                DigestSource::TdHob => Some(recipe.memory.digest(memory)?),
                DigestSource::VariableStore => digest(BLANK_STORE),
                DigestSource::Kernel => digest(kernel),
                DigestSource::CommandLine => digest(command_line),
                DigestSource::Initramfs => digest(
                    "63e06e29cf98f2fce71abd3a9629dff48457b47c010b64e11f7a2b42dd99bfa14ee35660b3f5d3fc376261d6ba9a6d6b",
                ),
                _ => None,
            })
        };
        let mut expected = recipe.expect(known).expect("events");
        let logged = log.logged();
        let error = compare(&expected, &logged, Strictness::Full).expect_err("not recorded");
        assert_eq!(error.entry(), Code::NotRecorded);
        let free = compare(&expected, &logged, Strictness::LayoutFree).expect("the same boot").free;
        let sources: Vec<_> = free.iter().map(|free| free.source).collect();
        use DigestSource::{AcpiLoader, AcpiRsdp, AcpiTables};
        assert_eq!(sources, [AcpiLoader, AcpiRsdp, AcpiTables]);
        // The form in which reference values carry it: the memory list is free there too.
        let layout = Rtmr0Layout::of(Hex48::ZERO, 1, &expected).expect("nothing else is unknown");
        assert_eq!(layout.compare(&logged).expect("the same boot").free.len(), 4);

        // With the free digests taken for recorded ones the registers are the quote's.
        for event in &mut expected {
            if let Some(free) = free.iter().find(|free| free.source == event.source) {
                event.digest = Some(free.found);
            }
        }
        assert!(compare(&expected, &logged, Strictness::Full).expect("equal").free.is_empty());
        let found = registers(recipe.mrtd, &expected).expect("all known");
        assert_eq!([found.rtmr0, found.rtmr1, found.rtmr2], quote.rtmr[..3]);
    }
}
