//! What judging one simulated GPU costs: certificates and signature alone, with both RIMs, and with OCSP as well.
//! `cargo bench -p sealtune-evidence --features sealtune-evidence/simulated-tee --bench nvidia`

use divan::{Bencher, black_box};
use sealtune_evidence::{
    nvidia::{
        GpuQuestion, Guest, NvidiaCollateral, NvidiaRoots, NvidiaRules, Readiness, judge,
        rules::Presence,
        simulated::{Report, SimulatedNvidia},
    },
    verdict::Findings,
};

const NOW: u64 = 1_795_000_000;
const NONCE: [u8; 32] = [7; 32];

fn main() {
    divan::main();
}

/// What is given besides the evidence.
#[derive(Debug, Clone, Copy)]
enum Given {
    Nothing,
    Rims,
    RimsAndOcsp,
}

#[divan::bench(args = [Given::Nothing, Given::Rims, Given::RimsAndOcsp], sample_count = 30)]
fn one_gpu(bencher: Bencher<'_, '_>, given: Given) {
    let Some((evidence, collateral, roots)) = scene(given) else { return };
    let rules =
        NvidiaRules { rim: Presence::Optional, ocsp: Presence::Optional, ..NvidiaRules::default() };
    let devices = [("gpu-0", evidence.as_slice())];
    let question = GpuQuestion {
        devices: &devices,
        expected: 1,
        nonce: Some(NONCE),
        collateral: &collateral,
        rules: &rules,
        roots: &roots,
        guest: Guest::Verified,
        readiness: Readiness::NotYet,
        time: NOW,
    };
    bencher.bench(|| judge(black_box(&question), &mut Findings::default()));
}

fn scene(given: Given) -> Option<(Vec<u8>, NvidiaCollateral, NvidiaRoots)> {
    let maker = SimulatedNvidia::create(NOW).ok()?;
    let gpu = maker.gpu(1).ok()?;
    let evidence = gpu.evidence("gpu-0", &Report::new(NONCE)).ok()?.to_bytes().ok()?;
    let mut collateral = maker.collateral(&[&gpu]).ok()?;
    match given {
        Given::Nothing => collateral = NvidiaCollateral::default(),
        Given::Rims => collateral.ocsp.clear(),
        Given::RimsAndOcsp => {}
    }
    Some((evidence, collateral, maker.roots()))
}
