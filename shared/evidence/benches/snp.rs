//! One thread: a whole SNP judgement of a real Milan report, its parts, and launch digests.
//! `SEALTUNE_VECTORS=… cargo bench -p sealtune-evidence --bench snp`

use std::{hint::black_box, path::PathBuf};

use divan::Bencher;
use sealtune_evidence::{
    Purpose,
    snp::{
        CpuSignature, Firmware, KernelHashes, LaunchShape, Report, Roots, SnpCollateral,
        SnpContext, SnpExpectation, SnpRules, judge,
        ovmf::{Section, SectionKind},
        verify_chain,
    },
    verdict::Findings,
};

const AT: u64 = 1_788_220_800;

fn main() {
    divan::main();
}

fn vector(name: &str) -> Option<Vec<u8>> {
    let root = std::env::var_os("SEALTUNE_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    std::fs::read(root.join("snp").join(name)).ok()
}

/// The report and its chain, where the vectors are.
fn milan() -> Option<(Vec<u8>, SnpCollateral)> {
    let text = String::from_utf8(vector("report_milan.hex")?).ok()?;
    let report = hex::decode(text.trim()).ok()?;
    let (chain, vek) = (vector("cert_chain_milan")?, vector("vcek_milan.der")?);
    Some((report, SnpCollateral::from_service(&chain, &vek, None).ok()?))
}

#[divan::bench]
fn whole_judgement(bencher: Bencher<'_, '_>) {
    let Some((bytes, collateral)) = milan() else { return println!("skipped: no vectors") };
    let Ok(report) = Report::parse(&bytes) else { return };
    let (rules, roots) = (SnpRules::default(), Roots::amd());
    let measurements = [report.measurement];
    let expectation = SnpExpectation {
        purpose: Purpose::Identity,
        report_data: report.report_data,
        host_data: report.host_data,
        measurements: &measurements,
    };
    let context = SnpContext { rules: &rules, roots: &roots, now: AT };
    bencher.bench(|| {
        let mut findings = Findings::default();
        let collateral = Some(black_box(&collateral));
        let judged = judge(black_box(&bytes), collateral, &expectation, &context, &mut findings);
        assert!(judged.is_some());
        findings
    });
}

#[divan::bench]
fn chain(bencher: Bencher<'_, '_>) {
    let Some((_, collateral)) = milan() else { return println!("skipped: no vectors") };
    bencher.bench(|| verify_chain(black_box(&collateral), &Roots::amd(), AT).is_ok());
}

#[divan::bench]
fn report_signature(bencher: Bencher<'_, '_>) {
    let Some((bytes, collateral)) = milan() else { return println!("skipped: no vectors") };
    let Ok(chain) = verify_chain(&collateral, &Roots::amd(), AT) else { return };
    bencher.bench(|| chain.vek().verify_report(black_box(&bytes)).is_ok());
}

/// Sections and save areas; the firmware's own pages are measured once a file.
#[divan::bench(args = [1, 64])]
fn launch_digest(bencher: Bencher<'_, '_>, vcpus: u32) {
    let page = |address, length, kind| Section { address, length, kind };
    let firmware = Firmware {
        pages: [7; 48].into(),
        sections: vec![
            page(0x80_0000, 0x1_0000, SectionKind::Memory),
            page(0x81_0000, 0x1000, SectionKind::KernelHashes),
        ],
        hashes_table: Some(0x81_0c00),
        reset_vector: Some(0x80_b004),
    };
    let shape = LaunchShape { vcpus, cpu: CpuSignature(0x00a0_0f11), guest_features: 1 };
    let hashes = KernelHashes::of(b"kernel", b"initramfs", "panic=-1");
    bencher.bench(|| firmware.launch_digest(black_box(&shape), Some(&hashes)).is_ok());
}
