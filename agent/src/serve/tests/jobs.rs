//! Whole jobs, from the release to the receipt. The container is a script that does what `run-container` reports.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_content::{ContentHasher, ContentId, Scheme};
use sealtune_evidence::{Claims, Purpose as EvidencePurpose, evidence_digest};
use sealtune_job::{
    DatasetInput, Disclosure, ExitClass, Hex, ImageReference, InputFormat, JobId, JobPhase,
    JobSpecification, JobTerms, Limits, ModelInput, Recipient, Script, TERMS_VERSION,
};
use sealtune_receipt::{Envelope, ReceiptOutcome};
use sealtune_seal::commitment::commit;
use sealtune_seal::frames::{FrameKind, FrameOpener};
use sealtune_seal::release::{seal_release, sign_specification, specification_digest};
use sealtune_seal::result_object::ResultOpener;
use sealtune_seal::stream::{ObjectKind, Sealer};
use sealtune_seal::{OwnerKey, RecipientKey, RecipientKeyPair, Secret, Suite};
use sealtune_wire::hello::{Answer, Purpose};
use sealtune_wire::stream::{
    RECEIVED, StreamDecoder, StreamItem, Trailer, chunk_header, encode_end,
};
use sealtune_wire::v1::{
    AgentEvent, AgentFailure, AgentReply, AgentRequest, FrameStream, OutsidePurpose, SealedRelease,
    ToAgent, Transfer,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::double::{Bench, IMAGE, Peer, TOKEN};

const MODEL: &[u8] = b"the model, which is public";
const DATASET: &[u8] = b"canary-5d1c: the dataset that nobody but the owner may read";

/// Reads the request, trains for no time, reports.
const TRAINS: &str = r#"#!/bin/sh
read -r request
work=$(printf '%s' "$request" | sed 's/.*"work_dir":"\([^"]*\)".*/\1/')
echo '{"started":{"pid":2}}'
cmp -s "$work/data" "$work/model" && exit 1
echo "epoch 1" >&3
echo "a warning" >&4
echo '{"step":1,"total_steps":2,"loss":0.5}' >&5
echo "Step: 1" >> "$work/progress.log"
printf '{"loss":0.25}' > "$work/output_model/metrics.json"
cat "$work/data" "$work/config.json" "$work/train.py" > "$work/output_model/adapter.bin"
echo '{"exit":{"code":0}}'
"#;

const FAILS: &str = r#"#!/bin/sh
read -r request
echo '{"started":{"pid":2}}'
echo "Traceback: canary-5d1c" >&4
echo '{"exit":{"code":1}}'
"#;

/// Until it is told to stop.
const WAITS: &str = r#"#!/bin/sh
trap 'echo "{\"exit\":\"cancelled\"}"; exit 0' TERM
read -r request
echo '{"started":{"pid":2}}'
echo waiting >&3
while true; do sleep 0.05; done
"#;

fn id_of(bytes: &[u8], scheme: Scheme) -> ContentId {
    let mut hasher = ContentHasher::new(scheme);
    hasher.update(bytes);
    hasher.finish().unwrap()
}

pub(super) struct Owner {
    key: OwnerKey,
    pair: RecipientKeyPair,
    pub(super) sealed_dataset: Vec<u8>,
    pub(super) job: JobId,
}

impl Owner {
    pub(super) fn new() -> Self {
        let pair = RecipientKeyPair::from_private(Suite::X25519, Secret::new([0x21; 32])).unwrap();
        let copy = RecipientKeyPair::from_private(Suite::X25519, Secret::new([0x21; 32])).unwrap();
        let key = OwnerKey::from_parts(&Secret::new([0x11; 32]), copy).unwrap();
        let job = JobId::from_bytes([1; 16]);
        let data_key = Secret::new([5; 32]);
        let (mut sealer, header) =
            Sealer::new(&data_key, ObjectKind::Dataset, job.as_bytes()).unwrap();
        let mut sealed_dataset = header.to_vec();
        sealer.push(DATASET, &mut sealed_dataset).unwrap();
        sealer.finish(&mut sealed_dataset).unwrap();
        Self { key, pair, sealed_dataset, job }
    }

    pub(super) fn terms(&self) -> JobTerms {
        let public = self.key.public();
        JobTerms {
            version: TERMS_VERSION,
            job: self.job,
            attempt: 1,
            owner: Hex(*public.signing.as_bytes()),
            recipient: Recipient {
                suite: public.recipient.suite().to_string(),
                key: public.recipient.to_hex(),
            },
            model: ModelInput { id: id_of(MODEL, Scheme::Zg), format: InputFormat::File },
            dataset: DatasetInput {
                id: id_of(DATASET, Scheme::Sha256),
                format: InputFormat::File,
                sealed: Some(id_of(&self.sealed_dataset, Scheme::Sha256)),
            },
            image: ImageReference { verity_root: Hex(IMAGE) },
            script: Script::Inline { name: "train.py".into(), text: "pass".into() },
            parameters: "{\"epochs\": 1}".into(),
            environment: BTreeMap::new(),
            limits: Limits::default(),
            disclosure: Disclosure::Owner,
            nonce: Hex([8; 32]),
            time: 1,
            offer: None,
        }
    }

    /// Accepts an offer and releases the job to it.
    pub(super) async fn release(&self, peer: &mut Peer) -> (AgentRequest, [u8; 32], [u8; 32]) {
        let asked = AgentRequest::Evidence { purpose: OutsidePurpose::Offer, nonce: Hex([2; 32]) };
        let Ok(AgentReply::Evidence(offer)) = peer.request(asked).await else {
            panic!("no offer");
        };
        let claims = Claims::parse(offer.claims.as_bytes()).unwrap();
        let digest = evidence_digest(&STANDARD.decode(&offer.quote).unwrap()).0;
        let mut terms = self.terms();
        terms.offer = Some(Hex(digest));
        let specification = JobSpecification {
            terms,
            data_key: Secret::new([5; 32]),
            commitment_key: Secret::new([6; 32]),
        };
        let bytes = specification.to_canonical().unwrap();
        let signature = sign_specification(&self.key, bytes.expose()).unwrap();
        let recipient = RecipientKey::new(Suite::XWing, &claims.hpke.key.0).unwrap();
        let sealed = seal_release(bytes.expose(), &signature, &digest, &recipient).unwrap();
        let release = SealedRelease {
            suite: sealed.suite.to_string(),
            enc: STANDARD.encode(sealed.enc),
            ciphertext: STANDARD.encode(sealed.ciphertext),
        };
        let request = AgentRequest::Release { job: self.job, attempt: 1, release };
        (request, specification_digest(bytes.expose()), claims.receipt_key.0)
    }
}

/// What the host holds, and what it got.
pub(super) struct Host<'b> {
    bench: &'b Bench,
    owner: &'b Owner,
    result: Vec<u8>,
    pub(super) events: Vec<AgentEvent>,
    unacknowledged: u64,
}

/// Events that this host has not stored yet when the next one comes.
const UNACKNOWLEDGED: u64 = 3;

impl<'b> Host<'b> {
    pub(super) fn new(bench: &'b Bench, owner: &'b Owner) -> Self {
        let unacknowledged = UNACKNOWLEDGED;
        Self { bench, owner, result: Vec::new(), events: Vec::new(), unacknowledged }
    }

    /// One that stores every event at once: evidence of GPUs is longer than what the agent sends unacknowledged.
    pub(super) fn prompt(bench: &'b Bench, owner: &'b Owner) -> Self {
        Self { unacknowledged: 0, ..Self::new(bench, owner) }
    }

    /// Serves every transfer until the event that `last` names has come.
    pub(super) async fn serve(
        &mut self,
        peer: &mut Peer,
        last: impl Fn(&AgentEvent) -> bool,
    ) -> u64 {
        loop {
            let (sequence, event) = peer.event().await;
            if let AgentEvent::StreamWanted { stream, what, .. } = &event {
                self.transfer(*stream, what).await;
            }
            // All but the last few: those have to come again on another connection.
            let safe = sequence.saturating_sub(self.unacknowledged);
            peer.send(&ToAgent::Acknowledge { sequence: safe }).await;
            let is_last = last(&event);
            self.events.push(event);
            if is_last {
                return sequence;
            }
        }
    }

    async fn transfer(&mut self, stream: Hex<16>, what: &Transfer) {
        let bytes = match what {
            Transfer::SegmentRoots { .. } => {
                let mut hasher = sealtune_content::ZgHasher::new();
                hasher.update(MODEL);
                hasher.finish().unwrap().to_bytes()
            }
            Transfer::Content { id } if *id == id_of(MODEL, Scheme::Zg) => MODEL.to_vec(),
            Transfer::Content { .. } => DATASET.to_vec(),
            Transfer::SealedDataset { .. } => self.owner.sealed_dataset.clone(),
            Transfer::Result => return self.fetch_result(stream).await,
        };
        let purpose = Purpose::Stream { stream, offset: 0 };
        let (answer, mut io) = self.bench.meet(purpose, TOKEN).await;
        let Answer::Welcome { offset, .. } = answer else { panic!("{answer:?}") };
        let rest = &bytes[usize::try_from(offset).unwrap()..];
        io.write_all(&chunk_header(rest.len()).unwrap()).await.unwrap();
        io.write_all(rest).await.unwrap();
        let end = encode_end(&Trailer::Complete { length: bytes.len() as u64 }).unwrap();
        io.write_all(&end).await.unwrap();
        // The agent closes when it has read everything.
        assert_eq!(io.read(&mut [0; 1]).await.unwrap(), 0);
    }

    async fn fetch_result(&mut self, stream: Hex<16>) {
        let offset = self.result.len() as u64;
        let purpose = Purpose::Stream { stream, offset };
        let (answer, mut io) = self.bench.meet(purpose, TOKEN).await;
        assert_eq!(answer, Answer::Welcome { protocol: 1, offset });
        let mut decoder = StreamDecoder::default();
        let mut buffer = vec![0; 65_536];
        loop {
            let count = io.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "the result was cut");
            decoder.push(&buffer[..count]);
            while let Some(item) = decoder.next_item().unwrap() {
                match item {
                    StreamItem::Bytes(bytes) => {
                        self.result.extend(bytes);
                        io.write_all(&[RECEIVED]).await.unwrap();
                    }
                    StreamItem::End(trailer) => {
                        let length = self.result.len() as u64;
                        assert_eq!(trailer, Trailer::Complete { length });
                        return;
                    }
                }
            }
        }
    }

    fn phases(&self) -> Vec<JobPhase> {
        self.events
            .iter()
            .filter_map(|event| match event {
                AgentEvent::Phase { phase, .. } => Some(*phase),
                _ => None,
            })
            .collect()
    }

    fn frames(&self, kind: FrameStream) -> Vec<Vec<u8>> {
        self.events
            .iter()
            .filter_map(|event| match event {
                AgentEvent::OwnerFrame { stream, frame, .. } if *stream == kind => {
                    Some(STANDARD.decode(frame).unwrap())
                }
                _ => None,
            })
            .collect()
    }

    fn receipt(&self) -> (Envelope, Option<Claims>) {
        self.events
            .iter()
            .find_map(|event| match event {
                AgentEvent::Receipt { envelope, evidence, .. } => {
                    let claims = evidence
                        .as_ref()
                        .map(|evidence| Claims::parse(evidence.claims.as_bytes()).unwrap());
                    Some((serde_json::from_str(envelope).unwrap(), claims))
                }
                _ => None,
            })
            .expect("a receipt")
    }

    /// Nothing that the host could read holds the canary.
    fn knows_nothing(&self) {
        let text = serde_json::to_string(&self.events).unwrap();
        assert!(!text.contains("canary-5d1c"));
        assert!(!self.result.windows(11).any(|window| window == b"canary-5d1c"));
    }
}

pub(super) fn is_done(event: &AgentEvent) -> bool {
    matches!(event, AgentEvent::Done { .. })
}

#[tokio::test]
async fn a_sealed_job_ends_with_a_result_and_a_receipt_that_only_the_owner_opens() {
    let (bench, mut peer) = Bench::launched(Some(TRAINS)).await;
    let owner = Owner::new();
    let (request, digest, receipt_key) = owner.release(&mut peer).await;
    let mut host = Host::new(&bench, &owner);
    assert_eq!(peer.request(request.clone()).await, Ok(AgentReply::Accepted { job: owner.job }));
    assert_eq!(peer.request(request).await, Err("ST-AGENT-71".into()));
    let offer = AgentRequest::Evidence { purpose: OutsidePurpose::Offer, nonce: Hex([2; 32]) };
    assert_eq!(peer.request(offer).await, Err("ST-AGENT-70".into()));
    let last = host.serve(&mut peer, is_done).await;

    assert_eq!(
        host.phases(),
        [
            JobPhase::Fetching,
            JobPhase::Preparing,
            JobPhase::Training,
            JobPhase::Sealing,
            JobPhase::Delivering
        ]
    );
    assert_eq!(peer.extended, ["sealtune-launch", "job-start"]);
    host.knows_nothing();

    let mut opener = ResultOpener::new(&owner.pair, &digest);
    let mut archive = Vec::new();
    opener.push(&host.result, &mut archive).unwrap();
    opener.finish(&mut archive).unwrap();
    let text = String::from_utf8_lossy(&archive).into_owned();
    assert!(text.contains("canary-5d1c") && text.contains("{\"epochs\": 1}pass"));

    let envelope = opener.envelope().unwrap();
    let key = sealtune_seal::envelope::unwrap_object_key(&owner.pair, &digest, envelope).unwrap();
    let mut log = FrameOpener::new(&key, FrameKind::Log, &digest).unwrap();
    let frames = host.frames(FrameStream::Log);
    let lines: Vec<u8> = frames.iter().flat_map(|frame| log.open(frame).unwrap()).collect();
    let lines = String::from_utf8(lines).unwrap();
    for line in ["epoch 1\n", "a warning\n", "Step: 1\n"] {
        assert!(lines.contains(line), "{lines}");
    }

    let (signed, claims) = host.receipt();
    let statement = signed.verify(&receipt_key.into()).unwrap();
    let predicate = &statement.predicate;
    assert_eq!(predicate.spec.0, digest);
    assert_eq!(
        predicate.outcome,
        ReceiptOutcome::Completed { result: id_of(&host.result, Scheme::Zg) }
    );
    assert_eq!(statement.result_sha256().unwrap().0, *id_of(&host.result, Scheme::Sha256).hash());
    assert_eq!(predicate.streams.log.count, frames.len() as u64);
    assert_eq!(predicate.streams.log.last.0, log.chain().digest);
    let commitment = |name: &str, value: &[u8]| {
        let expected = commit(&Secret::new([6; 32]), name, value);
        assert_eq!(predicate.commitments[name].0, expected, "{name}");
    };
    commitment("metrics", b"{\"loss\":0.25}");
    commitment("parameters", b"{\"epochs\": 1}");
    commitment("dataset", id_of(DATASET, Scheme::Sha256).to_string().as_bytes());
    commitment("result", hex::encode(id_of(&archive, Scheme::Sha256).hash()).as_bytes());
    let claims = claims.expect("evidence");
    assert_eq!(claims.purpose, EvidencePurpose::Receipt);
    assert_eq!(claims.payload, Some(signed.payload_digest()));
    assert_eq!(claims.previous, Some(predicate.previous));

    // The last events were not acknowledged: they come again, with the same numbers.
    let mut again = bench.control(2, 3).await;
    let mut sequences = Vec::new();
    loop {
        let (sequence, event) = again.event().await;
        sequences.push(sequence);
        if is_done(&event) {
            break;
        }
    }
    assert_eq!(sequences, (last - UNACKNOWLEDGED + 1..=last).collect::<Vec<_>>());
    // And the result is still there for a host that lost it.
    let wanted = host.events.iter().find_map(|event| match event {
        AgentEvent::StreamWanted { stream, what: Transfer::Result, .. } => Some(*stream),
        _ => None,
    });
    let whole = std::mem::take(&mut host.result);
    host.result = whole[..100].to_vec();
    host.fetch_result(wanted.unwrap()).await;
    assert_eq!(host.result, whole);
    assert!(again.request(AgentRequest::Shutdown).await.is_ok());
}

#[tokio::test]
async fn a_failed_sealed_job_has_a_signed_record_and_tells_the_host_a_class() {
    let (bench, mut peer) = Bench::launched(Some(FAILS)).await;
    let owner = Owner::new();
    let (request, digest, receipt_key) = owner.release(&mut peer).await;
    let mut host = Host::new(&bench, &owner);
    peer.request(request).await.unwrap();
    host.serve(&mut peer, is_done).await;
    host.knows_nothing();
    let job = owner.job;
    let failure = AgentFailure::Training { exit: ExitClass::Failed };
    let ends: Vec<_> = host.events.iter().rev().take(3).rev().cloned().collect();
    assert_eq!(
        ends,
        [
            AgentEvent::Exited { job, exit: ExitClass::Failed },
            AgentEvent::Failed { job, failure },
            AgentEvent::Done { job }
        ]
    );
    assert_eq!(host.frames(FrameStream::Failure).len(), 1);
    let (signed, claims) = host.receipt();
    let statement = signed.verify(&receipt_key.into()).unwrap();
    assert!(matches!(statement.predicate.outcome, ReceiptOutcome::Failed { .. }));
    assert_eq!(statement.predicate.spec.0, digest);
    assert!(claims.is_some());
    let scratch = bench.folder.path().join("scratch");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0, "nothing of the job is left");
}

#[tokio::test]
async fn an_input_that_fails_ends_the_job_before_anything_starts() {
    let (bench, mut peer) = Bench::launched(Some(TRAINS)).await;
    let mut owner = Owner::new();
    let (request, ..) = owner.release(&mut peer).await;
    let byte = owner.sealed_dataset.len() - 1;
    owner.sealed_dataset[byte] ^= 1;
    let mut host = Host::new(&bench, &owner);
    peer.request(request).await.unwrap();
    host.serve(&mut peer, |event| {
        matches!(event, AgentEvent::StreamWanted { what: Transfer::SealedDataset { .. }, .. })
    })
    .await;
    // The same wrong bytes again and again, as long as they are asked for.
    host.serve(&mut peer, is_done).await;
    let failed = host.events.iter().find_map(|event| match event {
        AgentEvent::Failed { failure, .. } => Some(failure.clone()),
        _ => None,
    });
    assert_eq!(failed, Some(AgentFailure::Input { code: "ST-SEAL-62".into() }));
    assert_eq!(peer.extended, ["sealtune-launch"]);
    let (_, claims) = host.receipt();
    assert!(claims.is_none(), "there was no job-start");
}

#[tokio::test]
async fn a_plain_job_is_read_by_the_host_and_has_no_receipt() {
    let (bench, mut peer) = Bench::launched(Some(TRAINS)).await;
    let owner = Owner::new();
    let mut terms = owner.terms();
    terms.dataset.sealed = None;
    let mut host = Host::new(&bench, &owner);
    let request = AgentRequest::Start { terms: Box::new(terms) };
    assert_eq!(peer.request(request).await, Ok(AgentReply::Accepted { job: owner.job }));
    host.serve(&mut peer, is_done).await;
    let has = |found: fn(&AgentEvent) -> bool| host.events.iter().any(found);
    assert!(has(
        |event| matches!(event, AgentEvent::PlainLog { text, .. } if text.contains("epoch 1"))
    ));
    assert!(has(|event| matches!(event, AgentEvent::PlainMetric { .. })));
    assert!(has(|event| matches!(event, AgentEvent::Started { .. })));
    assert!(!has(|event| matches!(
        event,
        AgentEvent::Receipt { .. } | AgentEvent::OwnerFrame { .. }
    )));
    assert!(host.result.starts_with(b"PK"));
}

#[tokio::test]
async fn a_cancelled_training_stops_and_says_so() {
    let (bench, mut peer) = Bench::launched(Some(WAITS)).await;
    let owner = Owner::new();
    let (request, ..) = owner.release(&mut peer).await;
    let mut host = Host::new(&bench, &owner);
    peer.request(request).await.unwrap();
    let other = AgentRequest::Cancel { job: JobId::from_bytes([9; 16]) };
    assert_eq!(peer.request(other).await, Err("ST-AGENT-72".into()));
    // A frame of the running training: the script is there and listens.
    host.serve(&mut peer, |event| matches!(event, AgentEvent::OwnerFrame { .. })).await;
    let cancel = AgentRequest::Cancel { job: owner.job };
    assert_eq!(peer.request(cancel).await, Ok(AgentReply::Done));
    let ended = tokio::time::timeout(Duration::from_secs(20), host.serve(&mut peer, is_done)).await;
    assert!(ended.is_ok());
    let job = owner.job;
    let exit = AgentEvent::Exited { job, exit: ExitClass::Cancelled };
    assert!(host.events.contains(&exit));
}

#[tokio::test]
async fn a_damaged_acknowledgement_changes_nothing() {
    let (_bench, mut peer) = Bench::launched(None).await;
    peer.send(&ToAgent::Acknowledge { sequence: u64::MAX }).await;
    assert!(peer.request(AgentRequest::Status).await.is_ok());
}
