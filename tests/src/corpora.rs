//! Replays the committed corpus of every fuzz target under plain `cargo test`.

use std::{collections::BTreeSet, fs, path::Path};

type Decoder = fn(&[u8]);

/// Every decoder of hostile bytes, by the name of its fuzz target.
const DECODERS: &[(&str, Decoder)] = &[
    ("wire_frames", sealtune_wire::frame::fuzz_frames),
    ("wire_stream", sealtune_wire::stream::fuzz_stream),
    ("job_specification", sealtune_job::fuzz_specification),
    ("content_id", sealtune_content::fuzz_content_id),
    ("content_segment_proof", sealtune_content::merkle::fuzz_segment_proof),
    ("content_segment_roots", sealtune_content::merkle::fuzz_segment_roots),
    ("content_archive", sealtune_content::archive::fuzz_archive),
    ("seal_canonical", sealtune_seal::canonical::fuzz_canonical),
    ("seal_opening", sealtune_seal::commitment::fuzz_opening),
    ("seal_envelope", sealtune_seal::envelope::fuzz_envelope),
    ("seal_frames", sealtune_seal::frames::fuzz_frames),
    ("seal_key_file", sealtune_seal::key_file::fuzz_key_file),
    ("seal_owner_public", sealtune_seal::owner::fuzz_owner_public),
    ("seal_owner_call", sealtune_seal::owner_call::fuzz_owner_call),
    ("seal_release", sealtune_seal::release::fuzz_release),
    ("seal_result_object", sealtune_seal::result_object::fuzz_result_object),
    ("seal_stream_header", sealtune_seal::stream::fuzz_stream_header),
    ("seal_stream_opener", sealtune_seal::stream::fuzz_stream_opener),
    ("evidence_bundle", sealtune_evidence::bundle::fuzz_bundle),
    ("evidence_claims", sealtune_evidence::claims::fuzz_claims),
    ("evidence_collateral", sealtune_evidence::collateral::fuzz_collateral),
    ("evidence_collateral_answers", sealtune_evidence::collateral::answers::fuzz_answers),
    ("evidence_collateral_gpu", sealtune_evidence::collateral::nvidia::fuzz_gpu_answers),
    ("evidence_collateral_memory", sealtune_evidence::collateral::memory::fuzz_collateral_memory),
    ("evidence_event_log", sealtune_evidence::event_log::fuzz_event_log),
    ("evidence_launch", sealtune_evidence::launch::fuzz_launch),
    ("evidence_policy", sealtune_evidence::policy::fuzz_policy),
    ("evidence_quote", sealtune_evidence::quote::fuzz_quote),
    ("evidence_reference_values", sealtune_evidence::reference::fuzz_reference_values),
    (
        "evidence_snp_certificate_table",
        sealtune_evidence::snp::key_service::fuzz_snp_certificate_table,
    ),
    ("evidence_snp_certificates", sealtune_evidence::snp::certificates::fuzz_snp_certificates),
    ("evidence_snp_ovmf", sealtune_evidence::snp::ovmf::fuzz_snp_ovmf),
    ("evidence_snp_report", sealtune_evidence::snp::report::fuzz_snp_report),
    ("evidence_ccel", sealtune_evidence::logs::ccel::fuzz_ccel),
    ("evidence_dstack_report", sealtune_evidence::appraise::fuzz_dstack_report),
    (
        "evidence_guest_agent_answer",
        sealtune_evidence::dstack::guest_agent::fuzz_guest_agent_answer,
    ),
    ("evidence_qgs_response", sealtune_evidence::qgs::fuzz_qgs_response),
    ("evidence_dstack_log", sealtune_evidence::logs::dstack::fuzz_dstack_log),
    ("evidence_tdvf", sealtune_evidence::measure::tdvf::fuzz_tdvf),
    ("evidence_authenticode", sealtune_evidence::measure::authenticode::fuzz_authenticode),
    ("evidence_acpi_tables", sealtune_evidence::measure::acpi::fuzz_acpi_tables),
    ("evidence_recipe", sealtune_evidence::measure::recipe::fuzz_recipe),
    ("nvidia_chain", sealtune_evidence::nvidia::fuzz_nvidia_chain),
    ("nvidia_collateral", sealtune_evidence::nvidia::collateral::fuzz_nvidia_collateral),
    ("nvidia_evidence", sealtune_evidence::nvidia::evidence::fuzz_nvidia_evidence),
    ("nvidia_ocsp", sealtune_evidence::nvidia::ocsp::fuzz_nvidia_ocsp),
    ("nvidia_rim", sealtune_evidence::nvidia::rim::fuzz_nvidia_rim),
    ("nvidia_transcript", sealtune_evidence::nvidia::transcript::fuzz_nvidia_transcript),
    ("evidence_release_manifest", sealtune_evidence::release::fuzz_manifest),
    ("evidence_release_memory", sealtune_evidence::release::fuzz_release_memory),
    ("evidence_trusted_keys", sealtune_evidence::release::fuzz_trusted_keys),
    ("receipt_envelope", sealtune_receipt::envelope::fuzz_envelope),
    ("receipt_package", sealtune_receipt::package::fuzz_package),
    ("receipt_statement", sealtune_receipt::statement::fuzz_statement),
    ("image_inst_lines", sealtune_image::apt::fuzz_inst_lines),
    ("image_modinfo", sealtune_image::modinfo::fuzz_modinfo),
    ("image_sources", sealtune_image::sources::fuzz_sources),
    ("image_sums", sealtune_image::metadata::fuzz_sums),
    ("image_verity_tree", sealtune_image::verity::fuzz_tree),
];

const MOST_FILES: usize = 64;
const MOST_BYTES: u64 = 1 << 20;

fn fuzz_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

/// File names without their extension.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("entry"));
    entries.filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned())).collect()
}

#[test]
fn every_decoder_has_a_target_and_a_corpus_and_nothing_else_has() {
    let decoders: BTreeSet<String> = DECODERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&fuzz_folder().join("fuzz_targets")), decoders);
    assert_eq!(names(&fuzz_folder().join("corpus")), decoders);
}

/// A `fuzz_` function that no target calls is found here.
#[test]
fn every_fuzz_function_is_called() {
    let root = fuzz_folder().ancestors().nth(2).expect("the workspace");
    let mut functions = 0;
    for folder in ["shared", "image-layer/src", "agent/src", "supervisor/src"] {
        functions += count_fuzz_functions(&root.join(folder));
    }
    assert_eq!(functions, DECODERS.len());
}

fn count_fuzz_functions(path: &Path) -> usize {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a folder").map(|entry| entry.expect("entry"));
        return entries.map(|entry| count_fuzz_functions(&entry.path())).sum();
    }
    if path.extension().is_none_or(|extension| extension != "rs") {
        return 0;
    }
    let text = fs::read_to_string(path).expect("a source file");
    text.lines().filter(|line| line.trim_start().starts_with("pub fn fuzz_")).count()
}

#[test]
fn corpora_are_replayed() {
    for (name, decode) in DECODERS {
        let folder = fuzz_folder().join("corpus").join(name);
        let mut files = 0;
        for entry in fs::read_dir(&folder).expect("a corpus").map(|entry| entry.expect("entry")) {
            let size = entry.metadata().expect("metadata").len();
            assert!(size <= MOST_BYTES, "{} is too big", entry.path().display());
            let bytes = fs::read(entry.path()).expect("an input");
            // libtest shows this when the decoder panics.
            println!("{}", entry.path().display());
            decode(&bytes);
            // What is cut short or has one bit wrong is hostile input too.
            for length in [0, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                decode(bytes.get(..length).unwrap_or_default());
            }
            let mut flipped = bytes;
            if let Some(byte) = flipped.get_mut(7) {
                *byte ^= 1;
                decode(&flipped);
            }
            files += 1;
        }
        assert!((1..=MOST_FILES).contains(&files), "{name} has {files} files");
    }
}
