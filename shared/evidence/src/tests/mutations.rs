//! Whole verdicts on evidence of each kind with a byte flipped or the rest cut off: never a panic, never accepted.
//!
//! Bytes that a signature or a digest covers may not change at all. Elsewhere (the sender's own text, spaces in XML, parts
//! that nothing reads) a change may leave everything as it was: then the verdict is the same to the letter.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{hardware, scene::Scene};
use crate::{
    Anchors, Collateral, Context, EvidenceBundle, FileDigests, FixedHex, ImageFacts, JudgeTime,
    Policy, Profile, Purpose, ReferenceValues, Shape, TdxQuote, Tee, Verdict,
    appraise::{DstackReport, appraise_dstack},
    layout1::BootRegisters,
    logs::{DstackIdentity, DstackLog},
    nvidia::tests::bundle::Whole as GpuVm,
    policy::ListedImages,
    quote::without_padding,
    reference::RegisterRow,
    snp::tests::bundle::Whole as SnpVm,
};

/// Where a change can be: a name and the bytes there.
type Part = (&'static str, fn(&mut EvidenceBundle) -> &mut Vec<u8>);
type Judge<'a> = Box<dyn Fn(&EvidenceBundle) -> Verdict + 'a>;

/// How much of the work is done.
#[derive(Clone, Copy, PartialEq)]
enum Extent {
    /// Some of the bytes, for every run.
    Sample,
    /// Each byte, for `cargo xtask soak`.
    Whole,
}

/// Positions that look random, from a seed that is printed; another one with `SEALTUNE_SEED`.
struct Positions(u64);

impl Positions {
    fn new(extent: Extent) -> Self {
        let given = std::env::var("SEALTUNE_SEED").ok().and_then(|text| text.parse().ok());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let seed = match extent {
            Extent::Sample => given.unwrap_or(0x5ea1_7a3e),
            Extent::Whole => given.unwrap_or_else(clock),
        };
        println!("seed: SEALTUNE_SEED={seed}");
        Self(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A position below `length`, and a bit.
    fn next(&mut self, length: usize) -> (usize, u8) {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let at = usize::try_from(self.0 % length as u64).expect("a position");
        (at, 1 << (self.0 >> 60 & 7))
    }
}

/// Every `step`th byte of what is covered flipped, and everything cut there.
fn covered(what: &str, good: &EvidenceBundle, judge: &Judge<'_>, parts: &[Part], step: usize) {
    for (name, part) in parts {
        let length = part(&mut good.clone()).len();
        assert!(length > 0, "{what}: {name} is empty");
        for at in (0..length).step_by(step).chain([length - 1]) {
            let mut flipped = good.clone();
            part(&mut flipped)[at] ^= 1 << (at % 8);
            let verdict = judge(&flipped);
            assert!(!verdict.is_accepted(), "{what}: byte {at} of {name}\n{}", verdict.render());
            // A cut ends somewhere; that is often the first thing that is noticed, so fewer will do.
            if at % (step * 4) == 0 {
                let mut cut = good.clone();
                part(&mut cut).truncate(at);
                assert!(!judge(&cut).is_accepted(), "{what}: {name} cut at {at}");
            }
        }
        let mut longer = good.clone();
        part(&mut longer).push(0);
        assert!(!judge(&longer).is_accepted(), "{what}: a byte after {name}");
    }
}

/// Seeded positions of the whole file, flipped and cut.
fn elsewhere(what: &str, good: &EvidenceBundle, judge: &Judge<'_>, extent: Extent, count: usize) {
    let text = good.to_bytes().expect("writes");
    let expected = judge(good);
    let mut positions = Positions::new(extent);
    for _ in 0..count {
        let (at, bit) = positions.next(text.len());
        let mut flipped = text.clone();
        flipped[at] ^= bit;
        if let Ok(read) = EvidenceBundle::parse(&flipped) {
            let verdict = judge(&read);
            assert!(
                !verdict.is_accepted() || verdict == expected,
                "{what}: byte {at} ^ {bit:#x} of the file\n{}",
                verdict.render()
            );
        }
        assert!(EvidenceBundle::parse(&text[..at]).is_err(), "{what}: cut at {at}");
    }
}

const BOUND: [Part; 3] = [
    ("quote", |b| &mut b.quote.0),
    ("claims", |b| &mut b.claims.0),
    ("launch", |b| &mut b.launch.0),
];

/// How far into a quote its own signature reaches (header and body), and what follows it.
fn quotes(what: &str, good: &EvidenceBundle, judge: &Judge<'_>, extent: Extent) {
    let signed: [Part; 1] = [("quote", |b| &mut b.quote.0)];
    let others: [Part; 2] = [BOUND[1], BOUND[2]];
    match extent {
        Extent::Whole => covered(what, good, judge, &BOUND, 1),
        Extent::Sample => {
            covered(what, good, judge, &signed, 29);
            covered(what, good, judge, &others, 7);
            // What stands between the parts that somebody signed: lengths and kinds.
            let fields = (632..636).chain(764..770).chain(1218..1220).chain(1252..1258);
            for at in fields.filter(|at| *at < good.quote.0.len() && good.tee == Tee::Tdx) {
                for bit in 0..8 {
                    let mut flipped = good.clone();
                    flipped.quote.0[at] ^= 1 << bit;
                    assert!(!judge(&flipped).is_accepted(), "{what}: bit {bit} of byte {at}");
                }
            }
        }
    }
}

fn accepted(what: &str, good: &EvidenceBundle, judge: &Judge<'_>) {
    let verdict = judge(good);
    assert!(verdict.is_accepted(), "{what}\n{}", verdict.render());
}

fn tdx(extent: Extent, count: usize) {
    for purpose in [Purpose::Offer, Purpose::Receipt] {
        let mut scene = Scene::new();
        let good = scene.evidence(purpose);
        let judge: Judge<'_> = Box::new(|bundle| scene.appraise(bundle, purpose).verdict);
        accepted("TDX", &good, &judge);
        quotes("TDX", &good, &judge, extent);
        elsewhere("TDX", &good, &judge, extent, count);
    }
}

fn snp(extent: Extent, count: usize) {
    let mut vm = SnpVm::new();
    let good = vm.bundle(Purpose::Offer);
    let judge: Judge<'_> = Box::new(|bundle| vm.appraise(bundle, Purpose::Offer).verdict);
    accepted("SNP", &good, &judge);
    quotes("SNP", &good, &judge, extent);
    elsewhere("SNP", &good, &judge, extent, count);
}

fn gpu(extent: Extent, count: usize) {
    let vm = GpuVm::new(2);
    let good = vm.bundle.clone();
    let judge: Judge<'_> = Box::new(|bundle| vm.judge(bundle));
    accepted("GPU", &good, &judge);
    let devices: [Part; 2] = [
        ("evidence of GPU 0", |b| &mut b.gpu[0].evidence.0),
        ("evidence of GPU 1", |b| &mut b.gpu[1].evidence.0),
    ];
    let step = if extent == Extent::Whole { 1 } else { 97 };
    covered("GPU", &good, &judge, &devices, step);
    elsewhere("GPU", &good, &judge, extent, count);
}

/// A real VM of dstack with everything in the verifier's lists that it shows.
struct DstackVm {
    file: serde_json::Value,
    collateral: Collateral,
    references: Vec<ReferenceValues>,
    policy: Policy,
    report_data: [u8; 64],
}

impl DstackVm {
    fn new() -> Option<Self> {
        let bytes = hardware::vector("tdx/gpu-vm-local-sgx.quote-report.json")?;
        let collateral = hardware::vector("tdx/gpu-vm-local-sgx.collateral.json")?;
        let padded = hardware::quote_of(&bytes, "quote");
        let quote = TdxQuote::parse(without_padding(&padded).expect("padding")).expect("a quote");
        let file: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        let log = file["event_log"].as_str().expect("text");
        let identity = DstackIdentity::read(&DstackLog::parse(log.as_bytes()).expect("a log"));
        let registers = BootRegisters {
            mrtd: quote.mrtd,
            rtmr0: quote.rtmr[0],
            rtmr1: quote.rtmr[1],
            rtmr2: quote.rtmr[2],
        };
        let shape = Shape { vcpus: 1, memory_mib: 1024 };
        let row = RegisterRow::recorded(FixedHex([7; 48]), shape, &registers);
        let facts = ImageFacts {
            release: "dstack".into(),
            profile: Profile::Prod,
            cmdline: String::new(),
            kernel: FileDigests::of(b"kernel"),
            initramfs: FileDigests::of(b"initramfs"),
            layers: vec![],
        };
        let listed = ListedImages {
            compose_hashes: vec![identity.expect("an identity").compose_hash],
            os_images: vec![FixedHex([1; 32])],
        };
        Some(Self {
            file,
            collateral: Collateral::parse(&collateral).expect("collateral"),
            references: vec![ReferenceValues::from_rows(facts, vec![row], vec![]).expect("rows")],
            policy: Policy::by_name("dstack", &listed).expect("exists").expect("parses"),
            report_data: quote.report_data,
        })
    }

    fn judge(&self, file: &[u8]) -> Option<Verdict> {
        let anchors = Anchors::default();
        let context = Context {
            policy: &self.policy,
            references: &self.references,
            anchors: &anchors,
            collateral: Some(&self.collateral),
            snp_collateral: None,
            gpu_collateral: None,
            time: JudgeTime::At(hardware::UP_TO_DATE_AT),
        };
        let report = DstackReport::parse(file).ok()?;
        Some(appraise_dstack(&report, Some(&self.report_data), &context))
    }
}

fn dstack(extent: Extent, count: usize) {
    let Some(vm) = DstackVm::new() else { return };
    let text = vm.file.to_string();
    let expected = vm.judge(text.as_bytes()).expect("a report");
    assert!(expected.is_accepted(), "{}", expected.render());
    let quote = vm.file["quote"].as_str().expect("hex").to_owned();
    let end = 2 * without_padding(&hex::decode(&quote).expect("hex")).expect("a quote").len();
    let step = if extent == Extent::Whole { 1 } else { 29 };
    for at in (0..end).step_by(step) {
        let mut flipped = quote.clone();
        let digit = if &quote[at..=at] == "0" { "1" } else { "0" };
        flipped.replace_range(at..=at, digit);
        let mut file = vm.file.clone();
        file["quote"] = flipped.into();
        let verdict = vm.judge(file.to_string().as_bytes());
        assert!(!verdict.is_some_and(|verdict| verdict.is_accepted()), "digit {at} of the quote");
    }
    let mut positions = Positions::new(extent);
    for _ in 0..count {
        let (at, bit) = positions.next(text.len());
        let mut flipped = text.clone().into_bytes();
        flipped[at] ^= bit;
        if let Some(verdict) = vm.judge(&flipped) {
            assert!(!verdict.is_accepted() || verdict == expected, "byte {at} ^ {bit:#x}");
        }
        assert!(vm.judge(&text.as_bytes()[..at]).is_none(), "cut at {at}");
    }
}

#[test]
fn a_changed_tdx_bundle_is_never_accepted() {
    tdx(Extent::Sample, 500);
}

#[test]
fn a_changed_snp_bundle_is_never_accepted() {
    snp(Extent::Sample, 500);
}

#[test]
fn a_changed_gpu_bundle_is_never_accepted() {
    gpu(Extent::Sample, 500);
}

#[test]
fn a_changed_dstack_report_is_never_accepted() {
    dstack(Extent::Sample, 500);
}

#[test]
#[ignore = "soak: every byte of quote, report, claims, launch and GPU evidence of each kind, and 5000 positions of each file"]
fn every_byte_of_every_kind_counts() {
    tdx(Extent::Whole, 5000);
    snp(Extent::Whole, 5000);
    gpu(Extent::Whole, 5000);
    dstack(Extent::Whole, 5000);
}

/// Two genuine VMs of one platform: whatever is taken from the other, even with all that belongs to it.
#[test]
fn no_part_of_another_vm_fits() {
    let mut first = Scene::new();
    let mut second = Scene::with(|launch| launch.token_hash = FixedHex([0x5a; 32]));
    second.instance = FixedHex([0x99; 32]);
    let good = first.evidence(Purpose::Start);
    let other = second.evidence(Purpose::Start);
    type Splice = (&'static str, fn(&mut EvidenceBundle, &EvidenceBundle));
    let parts: [Splice; 8] = [
        ("quote", |b, o| b.quote = o.quote.clone()),
        ("claims", |b, o| b.claims = o.claims.clone()),
        ("launch", |b, o| b.launch = o.launch.clone()),
        ("event log", |b, o| b.event_log = o.event_log.clone()),
        ("claims and quote", |b, o| {
            b.claims = o.claims.clone();
            b.quote = o.quote.clone();
        }),
        ("claims and launch", |b, o| {
            b.claims = o.claims.clone();
            b.launch = o.launch.clone();
        }),
        ("log and quote", |b, o| {
            b.event_log = o.event_log.clone();
            b.quote = o.quote.clone();
        }),
        ("launch, log and quote", |b, o| {
            b.launch = o.launch.clone();
            b.event_log = o.event_log.clone();
            b.quote = o.quote.clone();
        }),
    ];
    assert!(first.appraise(&good, Purpose::Start).verdict.is_accepted());
    for (what, splice) in parts {
        let mut mixed = good.clone();
        splice(&mut mixed, &other);
        let verdict = first.appraise(&mixed, Purpose::Start).verdict;
        assert!(!verdict.is_accepted(), "{what}\n{}", verdict.render());
    }
    // Halves of the quote: the header and body of one, the signature of the other.
    for at in [48, 184, 232, 376, 520, 568, 632, 636, 700, 770] {
        let mut mixed = good.clone();
        mixed.quote.0[at..].copy_from_slice(&other.quote.0[at..]);
        if mixed.quote != good.quote {
            assert!(!first.appraise(&mixed, Purpose::Start).verdict.is_accepted(), "from {at}");
        }
    }
}

#[test]
fn gpu_evidence_is_of_this_request_in_the_order_of_the_claims() {
    let vm = GpuVm::new(2);
    let good = vm.bundle.clone();
    // Another request of the same VM and GPUs, and another VM's GPUs.
    let elsewhere = GpuVm::new(2).bundle;
    type Change<'a> = Box<dyn Fn(&mut EvidenceBundle) + 'a>;
    let cases: [(&str, &str, Change<'_>); 8] = [
        ("all removed", "ST-EVID-85", Box::new(|b| b.gpu.clear())),
        ("one removed", "ST-EVID-85", Box::new(|b| drop(b.gpu.pop()))),
        ("reordered", "ST-EVID-86", Box::new(|b| b.gpu.swap(0, 1))),
        (
            "names exchanged",
            "ST-EVID-86",
            Box::new(|b| {
                let name = b.gpu[0].device.clone();
                b.gpu[0].device = std::mem::replace(&mut b.gpu[1].device, name);
            }),
        ),
        ("duplicated", "ST-EVID-85", Box::new(|b| b.gpu.push(b.gpu[0].clone()))),
        ("one twice", "ST-EVID-86", Box::new(|b| b.gpu[1] = b.gpu[0].clone())),
        (
            "one twice by its name",
            "ST-EVID-86",
            Box::new(|b| {
                b.gpu[1].evidence = b.gpu[0].evidence.clone();
            }),
        ),
        ("of other GPUs", "ST-EVID-86", Box::new(|b| b.gpu = elsewhere.gpu.clone())),
    ];
    for (what, code, change) in cases {
        let mut bundle = good.clone();
        change(&mut bundle);
        let verdict = vm.judge(&bundle);
        assert!(!verdict.is_accepted(), "{what}");
        let found = verdict.finding("gpu").and_then(|finding| finding.code);
        assert_eq!(found, Some(code), "{what}\n{}", verdict.render());
    }
}
