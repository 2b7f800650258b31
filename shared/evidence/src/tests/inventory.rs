//! Every file of evidence beside the checkout, and every sample of the package that verifies quotes, with the verdict that it
//! must get. A file that nobody stated anything about fails.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{hardware::UP_TO_DATE_AT, scene::Scene};
use crate::{
    Anchor, Anchors, Collateral, JudgeTime, Purpose, TdxQuote,
    anchor::verify_quote,
    base64_bytes::Base64Bytes,
    codes::Code,
    logs::{CcelLog, DstackLog},
    nvidia::{
        NvidiaRoots,
        chain::{DeviceChain, read_pem},
        transcript::{Transcript, without_padding as without_zeros},
    },
    quote::without_padding,
};

/// 2026-11-22.
const TODAY: u64 = 1_795_333_794;

/// What must come of a file.
enum Expected {
    /// This check holds.
    Checked(fn(&Path, &[u8])),
    /// It is judged by this test of this file of the workspace, which names it.
    By(&'static str, &'static str),
    /// A text for people.
    NoEvidence,
}

use Expected::{By, Checked, NoEvidence};

const SNP_VECTORS: &str = "shared/evidence/src/snp/tests/vectors.rs";
const GPU_VECTORS: &str = "shared/evidence/src/nvidia/tests/vectors.rs";

const VECTORS: &[(&str, Expected)] = &[
    ("README.md", NoEvidence),
    ("storage.json", By("shared/content/tests/zg_vectors.rs", "storage.json")),
    ("pci/lspci-8xh100-nvswitch.snap", By("agent/src/gpu/pci.rs", "lspci-8xh100-nvswitch.snap")),
    (
        "tdx/gpu-vm-local-sgx.quote-report.json",
        Checked(|folder, file| {
            let collateral = read(folder, "gpu-vm-local-sgx.collateral.json");
            let quote = report_with_log(file);
            status(&quote, &collateral, UP_TO_DATE_AT, "UpToDate", &[]);
            refused(&quote, &collateral, TODAY, Code::CollateralTime);
        }),
    ),
    ("tdx/gpu-vm-local-sgx.collateral.json", Checked(is_collateral)),
    (
        "tdx/gpu-vm-kms.llm-attestation-report.json",
        Checked(|folder, file| {
            let collateral = read(folder, "gpu-vm-local-sgx.collateral.json");
            let quote = report_with_log(file);
            let advisories =
                ["INTEL-SA-01036", "INTEL-SA-01079", "INTEL-SA-01099", "INTEL-SA-01103"];
            status(&quote, &collateral, UP_TO_DATE_AT, "OutOfDate", &advisories);
            refused(&quote, &collateral, TODAY, Code::CollateralTime);
            gpu_of_the_quote(&quote, file);
        }),
    ),
    (
        "tdx/debug-td.quote.bin",
        Checked(|_, file| {
            let quote = TdxQuote::parse(file).expect("parses, no padding");
            assert_eq!(quote.check_attributes().expect_err("debug").entry(), Code::QuoteDebug);
            never_accepted(file, None, TODAY);
        }),
    ),
    (
        "tdx/tdreport.bin",
        By("agent/src/tee/tdreport.rs", "a_real_report_is_read_and_a_changed_one_refused"),
    ),
    (
        "tdx/ccel.bin",
        Checked(|_, file| {
            let log = CcelLog::parse(file).expect("parses");
            assert!(log.check_replay(&log.replay()).is_ok() && log.check_payloads().is_ok());
            assert!(log.check_separators().is_ok());
        }),
    ),
    (
        "snp/report_milan.hex",
        By(SNP_VECTORS, "a_milan_report_of_version_2_verifies_and_is_of_a_vm_without_host_data"),
    ),
    (
        "snp/vcek_milan.der",
        By(SNP_VECTORS, "a_milan_report_of_version_2_verifies_and_is_of_a_vm_without_host_data"),
    ),
    (
        "snp/cert_chain_milan",
        By(SNP_VECTORS, "dstacks_report_of_version_3_is_accepted_with_what_it_says"),
    ),
    (
        "snp/test-report.bin",
        By(SNP_VECTORS, "a_report_with_an_identity_block_verifies_under_its_own_certificate_only"),
    ),
    (
        "snp/test-vcek.der",
        By(SNP_VECTORS, "a_report_with_an_identity_block_verifies_under_its_own_certificate_only"),
    ),
    (
        "snp/test-vcek-invalid-legacy.der",
        By(SNP_VECTORS, "a_report_with_an_identity_block_verifies_under_its_own_certificate_only"),
    ),
    (
        "snp/dstack-sev-snp-attestation.json",
        By(SNP_VECTORS, "dstacks_report_of_version_3_is_accepted_with_what_it_says"),
    ),
    (
        "snp/sev_snp_ask.pem",
        By(SNP_VECTORS, "dstacks_report_of_version_3_is_accepted_with_what_it_says"),
    ),
    (
        "snp/sev_snp_vcek.pem",
        By(SNP_VECTORS, "dstacks_report_of_version_3_is_accepted_with_what_it_says"),
    ),
    ("snp/vcek_turin.der", By(SNP_VECTORS, "turins_chain_verifies_and_fits_no_milan_report")),
    ("snp/cert_chain_turin", By(SNP_VECTORS, "turins_chain_verifies_and_fits_no_milan_report")),
    (
        "gpu/hopperAttestationReport.txt",
        By(GPU_VECTORS, "an_h100_report_reads_and_its_signature_verifies"),
    ),
    ("gpu/hopperCertChain.txt", By(GPU_VECTORS, "an_h100_report_reads_and_its_signature_verifies")),
    (
        "gpu/1010_0200_882_96005E0001_PROD.swidtag",
        By(GPU_VECTORS, "rim_files_of_nvidia_verify_at_their_time_and_not_today"),
    ),
    (
        "gpu/Driver_RIM_test_no_gpu.swidtag",
        By(GPU_VECTORS, "rim_files_of_nvidia_verify_at_their_time_and_not_today"),
    ),
    ("gpu/hopper_cert_chain_case2.txt", By(GPU_VECTORS, "incomplete_chains_are_refused")),
    ("gpu/hopper_cert_chain_case3.txt", By(GPU_VECTORS, "incomplete_chains_are_refused")),
    ("gpu/verifier_device_root.pem", By(GPU_VECTORS, "incomplete_chains_are_refused")),
    ("gpu/nvattest-h100.json", By(GPU_VECTORS, "a_verdict_of_nvidias_tool_is_no_evidence")),
];

/// The samples of `dcap-qvl` 0.7.1.
const SAMPLES: &[(&str, Expected)] = &[
    (
        "tdx_quote",
        Checked(|folder, file| {
            let quote = of_version(file, 4);
            let own = read(folder, "tdx_quote_collateral.json");
            status(&quote, &own, 1_751_624_163, "UpToDate", &[]);
            refused(&quote, &own, 1_751_624_163 - 60 * 86_400, Code::CollateralTime);
            refused(&quote, &own, TODAY, Code::CollateralTime);
            // Later collateral of the same kind of machine knows more.
            let later = read(folder, "tdx_quote_td15ex_collateral.json");
            let advisories =
                ["INTEL-SA-01192", "INTEL-SA-01245", "INTEL-SA-01312", "INTEL-SA-01313"];
            status(&quote, &later, 1_792_714_186, "OutOfDate", &advisories);
            // Of another kind of machine.
            let foreign = read(folder, "tdx_quote_outdated_collateral.json");
            refused(&quote, &foreign, UP_TO_DATE_AT, Code::QuoteSignature);
        }),
    ),
    ("tdx_quote_collateral.json", Checked(is_collateral)),
    (
        "tdx_quote_td15ex",
        Checked(|folder, file| {
            let quote = of_version(file, 5);
            let own = read(folder, "tdx_quote_td15ex_collateral.json");
            status(&quote, &own, 1_792_714_186, "UpToDate", &[]);
            refused(&quote, &own, TODAY, Code::CollateralTime);
        }),
    ),
    ("tdx_quote_td15ex_collateral.json", Checked(is_collateral)),
    (
        "tdx_quote_outdated",
        Checked(|folder, file| {
            let quote = of_version(file, 5);
            // Older than every level that its collateral lists.
            let own = read(folder, "tdx_quote_outdated_collateral.json");
            refused(&quote, &own, UP_TO_DATE_AT, Code::TcbStatus);
        }),
    ),
    ("tdx_quote_outdated_collateral.json", Checked(is_collateral)),
    ("tdx-quote.hex", Checked(without_collateral)),
    ("quote-from-tappd.hex", Checked(without_collateral)),
    (
        "sgx_quote",
        Checked(|folder, file| {
            assert_eq!(TdxQuote::parse(file).expect_err("SGX").entry(), Code::QuoteNotTdx);
            let own = Collateral::parse(&read(folder, "sgx_quote_collateral.json")).expect("reads");
            let quote = without_padding(file).unwrap_or(file);
            // Genuine, up to signatures and dates; and not of a VM.
            verify_quote(quote, &own, &Anchors::default(), 1_751_626_571).expect("verifies");
            let code = never_accepted(quote, Some(own), 1_751_626_571);
            assert!(code.contains(&Code::QuoteNotTdx.as_str()), "{code:?}");
        }),
    ),
    ("sgx_quote_collateral.json", Checked(is_collateral)),
];

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn of_version(padded: &[u8], version: u16) -> Vec<u8> {
    let quote = without_padding(padded).expect("zero padding").to_vec();
    let parsed = TdxQuote::parse(&quote).expect("parses");
    assert_eq!(parsed.version, version);
    assert_eq!(parsed.check_attributes(), Ok(()));
    quote
}

fn status(quote: &[u8], collateral: &[u8], at: u64, expected: &str, advisories: &[&str]) {
    let collateral = Collateral::parse(collateral).expect("collateral");
    let verified = verify_quote(quote, &collateral, &Anchors::default(), at).expect("verifies");
    assert_eq!(verified.anchor, Anchor::Intel);
    let tcb = &verified.platform.tcb;
    assert_eq!(tcb.status.to_string(), expected);
    for advisory in advisories {
        assert!(tcb.advisory_ids.iter().any(|found| found == advisory), "{:?}", tcb.advisory_ids);
    }
    assert_eq!(advisories.is_empty(), tcb.advisory_ids.is_empty());
    let codes = never_accepted(quote, Some(collateral), at);
    let refused = codes.contains(&Code::TcbStatus.as_str());
    assert_eq!(refused, expected != "UpToDate", "{codes:?}");
}

fn refused(quote: &[u8], collateral: &[u8], at: u64, code: Code) {
    let collateral = Collateral::parse(collateral).expect("collateral");
    let error = verify_quote(quote, &collateral, &Anchors::default(), at).expect_err("refused");
    assert_eq!(error.entry(), code, "{error}");
    let codes = never_accepted(quote, Some(collateral), at);
    assert!(codes.contains(&code.as_str()), "{codes:?}");
}

/// Evidence around a quote of somebody else's VM: whatever the quote is worth, this is no evidence of ours. Its codes.
fn never_accepted(quote: &[u8], collateral: Option<Collateral>, at: u64) -> Vec<&'static str> {
    let mut scene = Scene::new();
    let mut bundle = scene.evidence(Purpose::Identity);
    bundle.quote = Base64Bytes(quote.to_vec());
    bundle.collateral = collateral;
    scene.time = JudgeTime::At(at);
    let verdict = scene.appraise(&bundle, Purpose::Identity).verdict;
    assert!(!verdict.is_accepted(), "{}", verdict.render());
    verdict.codes().collect()
}

/// A quote whose log replays to its registers.
fn report_with_log(file: &[u8]) -> Vec<u8> {
    let report: Value = serde_json::from_slice(file).expect("JSON");
    let padded = hex::decode(report["quote"].as_str().expect("hex")).expect("hex");
    let quote = of_version(&padded, 4);
    let parsed = TdxQuote::parse(&quote).expect("parses");
    let log = DstackLog::parse(report["event_log"].as_str().expect("text").as_bytes());
    assert_eq!(log.expect("a log").check_replay(&parsed.rtmr), Ok(()));
    quote
}

/// The GPU was asked with the nonce that the quote carries, and is one of NVIDIA's.
fn gpu_of_the_quote(quote: &[u8], file: &[u8]) {
    let report: Value = serde_json::from_slice(file).expect("JSON");
    let payload = report["nvidia_payload"].as_str().expect("text");
    let payload: Value = serde_json::from_str(payload).expect("JSON");
    let base64 = |name: &str| {
        let text = payload["evidence_list"][0][name].as_str().expect(name);
        STANDARD.decode(text).expect("base64")
    };
    let (padded, pem) = (base64("evidence"), base64("certificate"));
    let transcript = Transcript::parse(without_zeros(&padded).expect("padding")).expect("parses");
    let quoted = TdxQuote::parse(quote).expect("parses").report_data;
    assert_eq!(transcript.nonce, quoted[32..]);
    let certificates = read_pem(&String::from_utf8(pem).expect("PEM")).expect("PEM");
    let root = NvidiaRoots::nvidia().device;
    let chain = DeviceChain::verify(&certificates, &root, TODAY).expect("leads to NVIDIA's root");
    assert!(transcript.is_signed_by(chain.leaf_point().expect("a leaf")));
    assert_eq!(transcript.opaque.fwid(), Some(chain.fwid));
}

fn without_collateral(_: &Path, file: &[u8]) {
    let text = String::from_utf8(file.to_vec()).expect("hex");
    let padded = hex::decode(text.trim().trim_start_matches("0x")).expect("hex");
    let codes = never_accepted(&of_version(&padded, 4), None, TODAY);
    assert!(codes.contains(&Code::CollateralMissing.as_str()), "{codes:?}");
}

fn is_collateral(_: &Path, file: &[u8]) {
    let collateral = Collateral::parse(file).expect("collateral");
    assert!(collateral.is_within_bounds() && collateral.digest().is_ok());
}

fn files_below(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below it");
                found.insert(name.to_str().expect("a name").to_owned());
            }
        }
    }
    found
}

fn check(folder: &Path, stated: &[(&str, Expected)]) {
    let names: BTreeSet<String> = stated.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names.len(), stated.len(), "a file is stated twice");
    let found = files_below(folder);
    let new: Vec<_> = found.difference(&names).collect();
    assert!(new.is_empty(), "nobody says what must come of {new:?}");
    let gone: Vec<_> = names.difference(&found).collect();
    assert!(gone.is_empty(), "stated, and not there: {gone:?}");
    for (name, expected) in stated {
        println!("{name}");
        let path = folder.join(name);
        match expected {
            Checked(check) => {
                check(path.parent().expect("a folder"), &fs::read(&path).expect("reads"));
            }
            By(source, test) => named_by(source, test, name),
            NoEvidence => {}
        }
    }
}

/// That the test is there, and that its file reads the vector.
fn named_by(source: &str, test: &str, vector: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = fs::read_to_string(root.join(source)).expect(source);
    assert!(text.contains(test), "{source} has no {test}");
    let name = vector.rsplit('/').next().unwrap_or(vector);
    assert!(text.contains(name), "{source} does not read {name}");
}

#[test]
fn every_vector_has_its_verdict() {
    let folder = std::env::var_os("SEALTUNE_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors")),
        PathBuf::from,
    );
    if !folder.is_dir() {
        println!("skipped: no vectors in {}", folder.display());
        return;
    }
    check(&folder, VECTORS);
}

/// Where cargo unpacked the package that is compiled in.
fn samples() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))?;
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).ok()?;
    let (_, rest) = lock.split_once("name = \"dcap-qvl\"\nversion = \"")?;
    let (version, _) = rest.split_once('"')?;
    let indices = fs::read_dir(home.join("registry/src")).ok()?;
    let folder = |index: fs::DirEntry| index.path().join(format!("dcap-qvl-{version}/sample"));
    indices.flatten().map(folder).find(|folder| folder.is_dir())
}

#[test]
fn every_sample_of_dcap_qvl_has_its_verdict() {
    match samples() {
        Some(folder) => check(&folder, SAMPLES),
        None => println!("skipped: cargo has not unpacked the samples of dcap-qvl here"),
    }
}
