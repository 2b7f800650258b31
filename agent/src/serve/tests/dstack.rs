//! The launch check and evidence in a dstack guest, whose guest agent is played.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_evidence::dstack::Generation;
use sealtune_evidence::logs::DstackLog;
use sealtune_evidence::{Event, FixedHex, JobBinding, LaunchDigest, report_data};
use sealtune_wire::v1::{OutsidePurpose, Rtmr3};

use super::double::{Bench, TOKEN, configuration};
use crate::serve::launch::{Launched, check};
use crate::tee::Tee;
use crate::tee::dstack::tests::{Server, good};
use crate::tee::tdreport::quoted_report_data;

fn events(log: &str) -> Vec<(String, Vec<u8>)> {
    let log = DstackLog::parse(&STANDARD.decode(log).unwrap()).unwrap();
    let behind = log.events.iter().skip_while(|event| event.name != "system-ready").skip(1);
    behind.map(|event| (event.name.clone(), event.logged.payload.clone())).collect()
}

async fn launched(generation: Generation) -> (Server, Launched, Vec<u8>) {
    let server = Server::start(good());
    let bytes = configuration().canonical_bytes().unwrap();
    let tee = Tee::Dstack(server.client(generation));
    let bench = Bench::new(None);
    let mut places = bench.places();
    // A disk of dstack's image, and no init of ours that would load modules.
    std::fs::create_dir_all(places.sysfs.join("block/vda")).unwrap();
    places.modules = "/nowhere".into();
    let token = configuration().token_hash.0;
    assert_ne!(token, TOKEN);
    let launched = check(bytes.clone(), token, tee, &places).await;
    (server, launched.map_err(|(_, error)| error).unwrap(), bytes)
}

#[tokio::test]
async fn claims_and_events_bind_the_launch_configuration() {
    let (_server, launched, bytes) = launched(Generation::Current).await;
    let digest = LaunchDigest::of(&bytes);
    let attester = &launched.machine.attester;
    assert_eq!(launched.machine.rtmr3, Rtmr3::Available);
    assert!(!launched.machine.has_own_image, "no job starts here");
    let made = attester.outside(OutsidePurpose::Offer, FixedHex([1; 32])).await.unwrap();
    let evidence = made.evidence;
    assert_eq!((evidence.tee.as_str(), evidence.event_log.as_str()), ("dstack", "[]"));
    let quote = STANDARD.decode(&evidence.quote).unwrap();
    assert_eq!(quoted_report_data(&quote), Some(&report_data(evidence.claims.as_bytes())));
    assert!(evidence.claims.contains(&format!("\"launch\":\"{}\"", digest.0)));
    let launch = ("sealtune-launch".to_owned(), digest.0.0.to_vec());
    assert_eq!(events(evidence.dstack_log.as_deref().unwrap()), std::slice::from_ref(&launch));

    let spec = FixedHex([9; 32]);
    assert_eq!(attester.extend(Event::job_start(&spec)).await.unwrap(), Rtmr3::Available);
    let binding = JobBinding { job: FixedHex([3; 16]), attempt: 1, spec };
    let start = attester.start(FixedHex([1; 32]), binding, made.digest, BTreeMap::new()).await;
    let found = events(start.unwrap().0.evidence.dstack_log.as_deref().unwrap());
    assert_eq!(found, [launch, ("job-start".to_owned(), vec![9; 32])]);
}

#[tokio::test]
async fn without_events_evidence_is_made_all_the_same() {
    let (_server, launched, _) = launched(Generation::Tappd).await;
    assert_eq!(launched.machine.rtmr3, Rtmr3::Unavailable);
    let attester = &launched.machine.attester;
    let event = Event::job_start(&FixedHex([9; 32]));
    assert_eq!(attester.extend(event).await.unwrap(), Rtmr3::Unavailable);
    let made = attester.outside(OutsidePurpose::Identity, FixedHex([1; 32])).await.unwrap();
    assert_eq!(events(made.evidence.dstack_log.as_deref().unwrap()), []);
}
