//! Fetching what GPUs' evidence needs, with a service that has what the simulated maker made.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::scene::{NONCE, NOW, Scene};
use crate::{
    collateral::{
        Answer, Ask, Code, CollateralError, GpuInquiry, Inquiry as _, Method, Next, Services,
    },
    nvidia::{
        NvidiaCollateral,
        nonce::ocsp_nonce,
        ocsp::MAX_OCSP_BYTES,
        simulated::{DRIVER_RIM, OcspDraft, VBIOS_RIM, certificate_digest},
        wanted,
    },
};

/// Answers from what it has, by the request's own bytes.
struct Service {
    has: NvidiaCollateral,
    /// OCSP requests with the certificate that each is about.
    requests: Vec<(crate::Hex32, Vec<u8>)>,
    asked: Vec<String>,
}

impl Service {
    fn new(scene: &Scene, evidence: &[Vec<u8>]) -> Self {
        let has = scene.collateral.clone();
        let mut known = has.clone();
        known.ocsp.clear();
        let requests = evidence
            .iter()
            .flat_map(|one| wanted(one, &known, &scene.roots, Some(&NONCE)).ocsp)
            .collect();
        Self { has, requests, asked: vec![] }
    }

    fn answer(&mut self, ask: &Ask) -> Answer {
        self.asked.push(ask.url.clone());
        let body = match &ask.method {
            Method::Get => {
                let id = ask.url.rsplit('/').next().expect("an id");
                assert!(ask.may_be_absent);
                let file = self.has.rim(id).map(|file| STANDARD.encode(file));
                let answer = |file| format!(r#"{{"id":"{id}","rim":"{file}","sha256":"00"}}"#);
                file.map(answer).unwrap_or_default().into_bytes()
            }
            Method::Post { content_type, body } => {
                assert_eq!(*content_type, "application/ocsp-request");
                assert!(!ask.may_be_absent);
                let about = self.requests.iter().find(|(_, request)| request == body);
                let (certificate, _) = about.expect("a request with its nonce");
                self.has.response(certificate).expect("a response").to_vec()
            }
        };
        assert!(body.len() <= ask.most, "{} bytes", body.len());
        Answer { headers: vec![], body }
    }

    fn fetch(
        &mut self,
        scene: &Scene,
        evidence: &[Vec<u8>],
    ) -> Result<NvidiaCollateral, CollateralError> {
        let services = Services::default();
        let devices = evidence.iter().map(Vec::as_slice).collect();
        let mut inquiry =
            GpuInquiry::new(&services.rim, &services.ocsp, devices, Some(NONCE), &scene.roots);
        let mut answer = None;
        loop {
            match inquiry.go_on(answer)? {
                Next::Done(document) => return Ok(document),
                Next::Ask(ask) => answer = Some(self.answer(&ask)),
            }
        }
    }
}

/// Everything that these documents need, of a service that has it.
pub(super) fn fetch(scene: &Scene, evidence: &[Vec<u8>]) -> NvidiaCollateral {
    Service::new(scene, evidence).fetch(scene, evidence).expect("fetched")
}

fn bytes(scene: &Scene, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|at| serde_json::to_vec(&scene.evidence(at)).expect("JSON")).collect()
}

#[test]
fn everything_is_fetched_once_and_the_evidence_holds_with_it() {
    let mut scene = Scene::new(2);
    let evidence = bytes(&scene, 2);
    let mut service = Service::new(&scene, &evidence);
    let fetched = service.fetch(&scene, &evidence).expect("fetched");
    // Two files, three certificates above both GPUs' own, one of each GPU, two of the files.
    let rim = |id: &str| format!("https://rim.attestation.nvidia.com/v1/rim/{id}");
    assert_eq!(service.asked[..2], [rim(DRIVER_RIM), rim(VBIOS_RIM)]);
    assert_eq!(service.asked.len(), 2 + 6, "{:?}", service.asked);
    assert!(service.asked[2..].iter().all(|url| url == "https://ocsp.ndis.nvidia.com/"));
    scene.collateral = fetched;
    let judged = scene.judge(&[scene.evidence(0), scene.evidence(1)]);
    assert!(judged.verdict.is_accepted(), "{}", judged.verdict.render());
}

#[test]
fn an_answer_to_another_request_is_refused() {
    let mut scene = Scene::new(1);
    let evidence = bytes(&scene, 1);
    let about = certificate_digest(&scene.maker.identity.der);
    let say = |scene: &mut Scene, nonce: [u8; 32]| {
        let draft = OcspDraft { nonce: Some(nonce.to_vec()), ..OcspDraft::good(NOW) };
        let response = scene
            .maker
            .ocsp(&scene.maker.identity, &scene.maker.device_root, &draft)
            .expect("a response");
        let der = scene.maker.identity.der.clone();
        scene.say(&der, response);
    };
    say(&mut scene, ocsp_nonce(&NONCE, &about));
    assert!(Service::new(&scene, &evidence).fetch(&scene, &evidence).is_ok(), "its own nonce");
    say(&mut scene, [7; 32]);
    let error = Service::new(&scene, &evidence).fetch(&scene, &evidence).expect_err("another's");
    assert_eq!(error.entry(), Code::OcspNonce);
}

#[test]
fn a_certificate_that_the_responder_does_not_answer_for_is_left_to_the_verdict() {
    let mut scene = Scene::new(1);
    let evidence = bytes(&scene, 1);
    let mut service = Service::new(&scene, &evidence);
    service.has.ocsp[0].response.0 = vec![0x30, 3, 0x0a, 1, 6];
    scene.collateral = service.fetch(&scene, &evidence).expect("fetched");
    assert_eq!((service.asked.len(), scene.collateral.ocsp.len()), (2 + 5, 4));
    let judged = scene.judge(&[scene.evidence(0)]);
    assert_eq!(judged.verdict.codes().collect::<Vec<_>>(), ["ST-GPU-75", "ST-GPU-60"]);
    assert!(!judged.verdict.is_accepted());
}

#[test]
fn a_file_that_the_service_does_not_have_is_left_to_the_verdict() {
    let mut scene = Scene::new(2);
    let evidence = bytes(&scene, 2);
    let mut service = Service::new(&scene, &evidence);
    service.has.rims.retain(|rim| rim.id != VBIOS_RIM);
    scene.collateral = service.fetch(&scene, &evidence).expect("fetched");
    // Asked for once, though both GPUs need it; and certificates are asked about as ever.
    assert_eq!((service.asked.len(), scene.collateral.ocsp.len()), (2 + 6, 6));
    assert!(scene.collateral.rim(VBIOS_RIM).is_none());
    let judged = scene.judge(&[scene.evidence(0), scene.evidence(1)]);
    assert_eq!(judged.verdict.codes().collect::<Vec<_>>(), ["ST-GPU-75", "ST-GPU-41", "ST-GPU-41"]);
    assert!(!judged.verdict.is_accepted());
}

#[test]
fn what_was_got_is_kept_where_a_part_is_missing() {
    let scene = Scene::new(2);
    let evidence = bytes(&scene, 2);
    let services = Services::default();
    let fetch = |fails: &dyn Fn(&Ask) -> Option<bool>| {
        let mut service = Service::new(&scene, &evidence);
        let devices = evidence.iter().map(Vec::as_slice).collect();
        let (rim, ocsp) = (&services.rim, &services.ocsp);
        let mut inquiry = GpuInquiry::new(rim, ocsp, devices, Some(NONCE), &scene.roots);
        assert!(!inquiry.pass_over("nothing was asked", true));
        let (mut answer, mut asked) = (None, 0);
        loop {
            let next = match inquiry.go_on(answer.take()) {
                Ok(next) => next,
                Err(error) => {
                    assert!(inquiry.pass_over(&error.to_string(), false));
                    continue;
                }
            };
            let ask = match next {
                Next::Done(document) => return (document, inquiry.so_far().1, asked),
                Next::Ask(ask) => ask,
            };
            asked += 1;
            match fails(&ask) {
                Some(is_lost) => assert!(inquiry.pass_over("status 503", is_lost)),
                None => answer = Some(service.answer(&ask)),
            }
        }
    };
    let is_rim = |ask: &Ask, id: &str| ask.url.ends_with(id);
    let is_ocsp = |ask: &Ask| matches!(ask.method, Method::Post { .. });
    let (all, missing, asked) = fetch(&|_| None);
    assert_eq!((all.rims.len(), all.ocsp.len(), missing, asked), (2, 6, vec![], 8));
    // One file: its own certificate is not known, and everything else is there.
    let (some, missing, asked) = fetch(&|ask| is_rim(ask, VBIOS_RIM).then_some(false));
    assert_eq!((some.rims.len(), some.ocsp.len(), asked), (1, 6, 8));
    assert_eq!((missing[0].part.as_str(), missing[0].reason.as_str()), (VBIOS_RIM, "status 503"));
    // A service that cannot be reached is asked once, and the other one all the same.
    let (some, missing, asked) = fetch(&|ask| (!is_ocsp(ask)).then_some(true));
    assert_eq!((some.rims.len(), some.ocsp.len(), missing.len(), asked), (0, 4, 1, 1 + 4));
    let (some, missing, asked) = fetch(&|ask| is_ocsp(ask).then_some(true));
    assert_eq!((some.rims.len(), some.ocsp.len(), missing.len(), asked), (2, 0, 1, 2 + 1));
    // One response in a row of them.
    let first = std::cell::Cell::new(true);
    let (some, missing, _) = fetch(&|ask| (is_ocsp(ask) && first.take()).then_some(false));
    assert_eq!((some.ocsp.len(), missing.len()), (5, 1));
    assert_eq!(missing[0].part.len(), 64);
}

#[test]
fn what_is_no_answer_is_refused() {
    let scene = Scene::new(1);
    let evidence = bytes(&scene, 1);
    let refused = |change: fn(&mut Service), code: Code| {
        let mut service = Service::new(&scene, &evidence);
        change(&mut service);
        let error = service.fetch(&scene, &evidence).expect_err("refused");
        assert_eq!(error.entry(), code, "{error}");
    };
    refused(|service| service.has.rims[0].file.0.clear(), Code::Answer);
    refused(|service| service.has.ocsp[0].response.0 = b"<html>".to_vec(), Code::Answer);
    refused(|service| service.has.ocsp[0].response.0 = vec![0x30; MAX_OCSP_BYTES], Code::Answer);
    // The responder's own word that it cannot answer (tryLater).
    refused(|service| service.has.ocsp[0].response.0 = vec![0x30, 3, 0x0a, 1, 3], Code::Answer);
    // Evidence that does not read needs nothing: the judgement refuses it.
    let mut service = Service::new(&scene, &evidence);
    let fetched = service.fetch(&scene, &[b"{}".to_vec()]).expect("nothing to ask");
    assert!(fetched == NvidiaCollateral::default() && service.asked.is_empty());
}
