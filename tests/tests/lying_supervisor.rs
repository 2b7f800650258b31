//! A supervisor that has the VM's token, for it started the VM, lies about the job. The agent answers each lie with a
//! code of its own, and no container starts. This test takes the daemon's place in front of two real VMs.
#![expect(clippy::expect_used, reason = "a story that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_content::{ContentId, Scheme};
use sealtune_evidence::{
    Claims, LaunchConfiguration, evidence_digest,
    simulated::{PlatformFiles, QuoteRequest, SimulatedPlatform},
};
use sealtune_job::{
    DatasetInput, Disclosure, Hex, ImageReference, InputFormat, JobId, JobPhase, JobSpecification,
    JobTerms, Limits, ModelInput, Recipient, Script, TERMS_VERSION,
};
use sealtune_seal::{
    OwnerKey, RecipientKey, Secret, Suite,
    release::{seal_release, sign_specification},
};
use sealtune_tests::{
    BOOT, Customer, Daemon, Inputs, JOB, Job, Options, find_door, knock, stage_or_skip, tell, until,
};
use sealtune_wire::{
    frame::{self, CONTROL_LIMIT, HELLO_LIMIT},
    hello::{AgentHello, Answer, Magic, ProtocolRange, Purpose, SupervisorHello},
    v1::{
        AgentEvent, AgentReply, AgentRequest, HostReply, HostRequest, Outcome, OutsidePurpose,
        SealedRelease, ToAgent, ToSupervisor,
    },
};

/// Where the daemon keeps what a VM was started with.
const READ_DEFINITIONS: &str = "\
import json, sqlite3, sys
rows = sqlite3.connect(sys.argv[1]).execute('SELECT definition FROM vms')
print(json.dumps([json.loads(row[0]) for row in rows]))";

/// A control connection to an agent, with the right token.
struct Liar {
    stream: UnixStream,
    platform: SimulatedPlatform,
    configuration: LaunchConfiguration,
    last: u64,
    events: Vec<AgentEvent>,
}

impl Liar {
    fn connect(daemon: &Daemon, definition: &serde_json::Value) -> Self {
        let text = |name: &str| definition[name].as_str().expect(name).to_owned();
        let door: PathBuf = find_door(daemon, &text("id")).expect("the VM's socket");
        let files = std::fs::read(daemon.state().join("simulated-platform.json")).expect("files");
        let files = PlatformFiles::from_json(&files).expect("a platform");
        let configuration = LaunchConfiguration::parse(text("launch").as_bytes());
        let mut liar = Self {
            stream: knock(&door),
            platform: SimulatedPlatform::load(&files).expect("a platform"),
            configuration: configuration.expect("a launch configuration"),
            last: 0,
            events: Vec::new(),
        };
        let hello = SupervisorHello {
            magic: Magic::Sealtune,
            protocol: ProtocolRange::ours(),
            release: "0.0.0".into(),
            token: text("token").parse().expect("a token"),
            purpose: Purpose::Control { generation: u64::MAX, acknowledged: 0 },
        };
        let bytes = frame::encode(&hello, HELLO_LIMIT).expect("small");
        liar.stream.write_all(&bytes).expect("say hello");
        let answer: AgentHello = liar.read();
        assert!(matches!(answer.answer, Answer::Welcome { .. }), "{answer:?}");
        liar
    }

    fn read<T: serde::de::DeserializeOwned>(&mut self) -> T {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).expect("a frame");
        let mut body = vec![0; frame::body_length(header, CONTROL_LIMIT).expect("a bounded frame")];
        self.stream.read_exact(&mut body).expect("a whole frame");
        frame::decode(&body).expect("a message")
    }

    fn send(&mut self, message: &ToAgent) {
        let bytes = frame::encode(message, CONTROL_LIMIT).expect("small");
        self.stream.write_all(&bytes).expect("write");
    }

    /// One message; a reply is given back.
    fn serve(&mut self) -> Option<(u64, Outcome<AgentReply>)> {
        match self.read() {
            ToSupervisor::Reply { id, outcome } => return Some((id, outcome)),
            ToSupervisor::Ping { nonce } => self.send(&ToAgent::Pong { nonce }),
            ToSupervisor::Pong { .. } => {}
            ToSupervisor::Event { event, .. } => self.events.push(event),
            ToSupervisor::Request { id, request } => {
                let outcome = Outcome::Ok(self.stand_in(request));
                self.send(&ToAgent::Reply { id, outcome });
            }
        }
        None
    }

    /// The CPU's part.
    fn stand_in(&self, request: HostRequest) -> HostReply {
        match request {
            HostRequest::SimulatedQuote { report_data } => {
                let quote = self.platform.quote(&QuoteRequest {
                    mrtd: [1; 48].into(),
                    rtmr: [[2; 48].into(); 4],
                    mr_config_id: [3; 48].into(),
                    report_data: report_data.0,
                });
                let quote = STANDARD.encode(quote.expect("a quote"));
                HostReply::SimulatedQuote { quote }
            }
            HostRequest::SimulatedExtend { .. } => HostReply::Extended,
            HostRequest::SimulatedReport => panic!("the VM was launched before"),
        }
    }

    /// The answer, or the code of the refusal.
    fn ask(&mut self, request: AgentRequest) -> Result<AgentReply, String> {
        self.last += 1;
        self.send(&ToAgent::Request { id: self.last, request });
        loop {
            match self.serve() {
                Some((id, outcome)) if id == self.last => {
                    return match outcome {
                        Outcome::Ok(reply) => Ok(reply),
                        Outcome::Error { code } => Err(code),
                    };
                }
                _ => {}
            }
        }
    }

    fn offer(&mut self, nonce: u8) -> Offer {
        let nonce = Hex([nonce; 32]);
        let asked = AgentRequest::Evidence { purpose: OutsidePurpose::Offer, nonce };
        let Ok(AgentReply::Evidence(evidence)) = self.ask(asked) else { panic!("no offer") };
        let claims = Claims::parse(evidence.claims.as_bytes()).expect("claims");
        let quote = STANDARD.decode(&evidence.quote).expect("a quote");
        let key = RecipientKey::new(Suite::XWing, &claims.hpke.key.0).expect("a key");
        Offer { digest: evidence_digest(&quote).0, key }
    }

    /// That nothing was begun.
    #[track_caller]
    fn is_idle(&mut self) {
        let Ok(AgentReply::Status(status)) = self.ask(AgentRequest::Status) else {
            panic!("no status")
        };
        assert_eq!((status.job, status.phase), (None, None));
        assert_eq!(self.events, []);
    }
}

#[derive(Clone)]
struct Offer {
    digest: [u8; 32],
    key: RecipientKey,
}

fn key(text: &str) -> OwnerKey {
    OwnerKey::from_signing_key_hex(&text.repeat(32), Suite::X25519).expect("a key")
}

fn job() -> JobId {
    JobId::from_bytes([1; 16])
}

fn id_of(bytes: &[u8]) -> ContentId {
    sealtune_content::identify(bytes, Scheme::Sha256).expect("an id")
}

/// What an owner would have signed.
fn terms(image: Hex<32>, offer: &Offer) -> JobTerms {
    let public = key("11").public();
    JobTerms {
        version: TERMS_VERSION,
        job: job(),
        attempt: 1,
        owner: Hex(*public.signing.as_bytes()),
        recipient: Recipient {
            suite: public.recipient.suite().to_string(),
            key: public.recipient.to_hex(),
        },
        model: ModelInput { id: id_of(b"a model"), format: InputFormat::File },
        dataset: DatasetInput {
            id: id_of(b"a dataset"),
            format: InputFormat::File,
            sealed: Some(id_of(b"a sealed dataset")),
        },
        image: ImageReference { verity_root: image },
        script: Script::Inline { name: "train.py".into(), text: "pass".into() },
        parameters: "{}".into(),
        environment: BTreeMap::new(),
        limits: Limits::default(),
        disclosure: Disclosure::Owner,
        nonce: Hex([8; 32]),
        time: 1,
        offer: Some(Hex(offer.digest)),
    }
}

/// Sealed to `offer`, whatever the terms say, and signed by `signer`.
fn release(terms: &JobTerms, offer: &Offer, signer: &OwnerKey) -> SealedRelease {
    let specification = JobSpecification {
        terms: terms.clone(),
        data_key: Secret::new([5; 32]),
        commitment_key: Secret::new([6; 32]),
    };
    let bytes = specification.to_canonical().expect("a specification");
    let signature = sign_specification(signer, bytes.expose()).expect("a signature");
    let sealed = seal_release(bytes.expose(), &signature, &offer.digest, &offer.key);
    let sealed = sealed.expect("a release");
    SealedRelease {
        suite: sealed.suite.to_string(),
        enc: STANDARD.encode(sealed.enc),
        ciphertext: STANDARD.encode(sealed.ciphertext),
    }
}

fn flipped(text: &str) -> String {
    let mut bytes = STANDARD.decode(text).expect("base64");
    *bytes.last_mut().expect("bytes") ^= 1;
    STANDARD.encode(bytes)
}

/// Two VMs that wait for their owners, and a daemon that is gone.
fn two_waiting_vms(
    daemon: &mut Daemon,
    customer: &Customer,
    job: &Job<'_>,
) -> Vec<serde_json::Value> {
    // Their owner accepts no simulated evidence, so nothing is ever released to them.
    let submissions = [(); 2].map(|()| customer.submits(daemon, job));
    for submission in submissions {
        submission.ends(JOB).is_refusal(4, "ST-CLI-41");
    }
    until(BOOT, "both VMs are ready", || {
        let vms = daemon.vms();
        let ready = vms.iter().filter(|vm| vm["state"] == "ready").count();
        (ready == 2).then_some(())
    });
    daemon.kill();
    let mut python = Command::new("python3");
    python.args(["-c", READ_DEFINITIONS]).arg(daemon.state().join("sealtune.db"));
    tell(&mut python).json().as_array().cloned().expect("definitions")
}

#[test]
fn each_lie_has_its_code_and_starts_nothing() {
    let stage = stage_or_skip!();
    let mut daemon = Daemon::start(&stage, Options { max_vms: 2, ..Options::default() });
    let customer = Customer::new(&stage);
    let inputs = Inputs::new("a dataset that nobody gets");
    customer.has_model(&daemon, &inputs);
    let waiting = Job::sealed(&inputs, stage.script("ok_tiny.py")).with_hardware_only();
    let definitions = two_waiting_vms(&mut daemon, &customer, &waiting);
    let [first, second] = &definitions[..] else { panic!("{definitions:?}") };
    let (mut vm, mut other) = (Liar::connect(&daemon, first), Liar::connect(&daemon, second));

    let image = Hex(vm.configuration.layers.first().expect("a layer").root.0);
    let memory = vm.configuration.shape.memory_mib;
    let (offer, elsewhere) = (vm.offer(2), other.offer(2));
    let newer = vm.offer(3);
    let good = terms(image, &offer);
    let owner = key("11");
    let honest = release(&good, &offer, &owner);
    let with = |change: &dyn Fn(&mut JobTerms)| {
        let mut terms = good.clone();
        change(&mut terms);
        release(&terms, &offer, &owner)
    };
    let limits = |change: &dyn Fn(&mut Limits)| with(&|terms| change(&mut terms.limits));
    let (mut other_text, mut other_key) = (honest.clone(), honest.clone());
    other_text.ciphertext = flipped(&honest.ciphertext);
    other_key.enc = flipped(&honest.enc);
    let another = JobId::from_bytes([9; 16]);
    let lies = [
        ("passed on as another job", another, 1, honest.clone(), "ST-AGENT-76"),
        ("passed on as another attempt", job(), 2, honest.clone(), "ST-AGENT-77"),
        (
            "the answer to another VM's offer",
            job(),
            1,
            release(&good, &elsewhere, &owner),
            "ST-AGENT-75",
        ),
        (
            "sealed to another of its offers",
            job(),
            1,
            release(&good, &newer, &owner),
            "ST-AGENT-78",
        ),
        ("a bit of the ciphertext", job(), 1, other_text, "ST-AGENT-75"),
        ("a bit of the encapsulated key", job(), 1, other_key, "ST-AGENT-75"),
        ("signed by somebody else", job(), 1, release(&good, &offer, &key("22")), "ST-SEAL-23"),
        (
            "another owner",
            job(),
            1,
            with(&|terms| terms.owner = Hex(*key("22").public().signing.as_bytes())),
            "ST-SEAL-23",
        ),
        (
            "an image that is no layer here",
            job(),
            1,
            with(&|terms| terms.image.verity_root = Hex([7; 32])),
            "ST-AGENT-79",
        ),
        (
            "as much memory as the VM has",
            job(),
            1,
            limits(&|limits| limits.memory_mib = memory),
            "ST-AGENT-80",
        ),
        ("no processes", job(), 1, limits(&|limits| limits.processes = 0), "ST-JOB-07"),
    ];
    for (what, job, attempt, release, code) in lies {
        let answer = vm.ask(AgentRequest::Release { job, attempt, release });
        assert_eq!(answer, Err(code.to_owned()), "{what}");
        vm.is_idle();
        println!("{what}: {code}");
    }
    plain_lies(&mut vm, &good);

    // It was the lies: the truth is accepted, once, and by this VM alone.
    let honestly = AgentRequest::Release { job: job(), attempt: 1, release: honest };
    assert_eq!(other.ask(honestly.clone()), Err("ST-AGENT-75".to_owned()), "replayed elsewhere");
    other.is_idle();
    assert_eq!(vm.ask(honestly.clone()), Ok(AgentReply::Accepted { job: job() }));
    assert_eq!(vm.ask(honestly), Err("ST-AGENT-71".to_owned()), "replayed");
    let cancel = AgentRequest::Cancel { job: another };
    assert_eq!(vm.ask(cancel), Err("ST-AGENT-72".to_owned()), "another job cancelled");
    let fetching = AgentEvent::Phase { job: job(), phase: JobPhase::Fetching };
    while !vm.events.contains(&fetching) {
        vm.serve();
    }
}

/// What the supervisor may send without an owner must not look as if one had sealed it.
fn plain_lies(vm: &mut Liar, sealed: &JobTerms) {
    let plain = {
        let mut terms = sealed.clone();
        (terms.offer, terms.dataset.sealed) = (None, None);
        terms
    };
    let mut elsewhere = plain.clone();
    elsewhere.image.verity_root = Hex([7; 32]);
    let mut answers_offer = plain;
    answers_offer.offer = sealed.offer;
    let lies = [
        ("a sealed job in the clear", sealed.clone(), "ST-AGENT-82"),
        ("a plain job that answers an offer", answers_offer, "ST-AGENT-82"),
        ("a plain job in another image", elsewhere, "ST-AGENT-79"),
    ];
    for (what, terms, code) in lies {
        let answer = vm.ask(AgentRequest::Start { terms: Box::new(terms) });
        assert_eq!(answer, Err(code.to_owned()), "{what}");
        vm.is_idle();
        println!("{what}: {code}");
    }
}
