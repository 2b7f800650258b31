//! Decoders under hostile input: documents with bytes changed, cut or made up.

use proptest::prelude::*;

use super::scene::{NOW, Scene, platform};
use crate::{Profile, Purpose, policy, reference};

type Fuzz = fn(&[u8]);

/// Each decoder with a document that it accepts.
fn decoders() -> Vec<(Fuzz, Vec<u8>)> {
    let mut scene = Scene::new();
    let bundle = scene.evidence(Purpose::Receipt);
    let collateral = platform(1).collateral(NOW).expect("collateral");
    let json = |value: Result<Vec<u8>, serde_json::Error>| value.expect("JSON");
    vec![
        (crate::bundle::fuzz_bundle, bundle.to_bytes().expect("writes")),
        (crate::launch::fuzz_launch, bundle.launch.0.clone()),
        (crate::claims::fuzz_claims, bundle.claims.0.clone()),
        (crate::event_log::fuzz_event_log, json(serde_json::to_vec(&bundle.event_log))),
        (crate::quote::fuzz_quote, bundle.quote.0.clone()),
        (crate::collateral::fuzz_collateral, json(serde_json::to_vec(&collateral))),
        (
            reference::fuzz_reference_values,
            reference::tests::values(Profile::Prod).to_bytes().expect("writes"),
        ),
        (
            crate::dstack::guest_agent::fuzz_guest_agent_answer,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n21\r\n{\"quote\":\"0400\",\"event_log\":\"[]\"}\r\n0\r\n\r\n".to_vec(),
        ),
        (
            crate::qgs::fuzz_qgs_response,
            [&[1, 0, 0, 0, 1, 0, 0, 0, 27, 0, 0, 0][..], &[0; 8], &[3, 0, 0, 0, 4, 0, 2]].concat(),
        ),
        (policy::fuzz_policy, policy::STRICT.as_bytes().to_vec()),
    ]
}

#[test]
fn decoders_hold_their_invariants_on_good_documents_and_their_parts() {
    for (fuzz, document) in decoders() {
        fuzz(&document);
        for end in (0..document.len()).step_by(document.len() / 40 + 1) {
            fuzz(&document[..end]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn decoders_hold_their_invariants_on_changed_documents(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        noise in proptest::collection::vec(any::<u8>(), 0..256),
    ) {
        for (fuzz, mut document) in decoders() {
            for (index, byte) in &changes {
                let at = index.index(document.len());
                document[at] = *byte;
            }
            fuzz(&document);
            fuzz(&noise);
        }
    }
}
