//! A supervisor for tests: connects, answers for the TEE, asks, collects events.

use std::collections::VecDeque;
use std::process::ExitCode;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest;
use sealtune_evidence::launch::HashAlgorithm;
use sealtune_evidence::simulated::{SimulatedPlatform, SimulatedVm};
use sealtune_evidence::{FixedHex, HexBytes, LaunchConfiguration, Layer, Role, Shape, VmMode};
use sealtune_job::Hex;
use sealtune_wire::frame::{self, CONTROL_LIMIT, FrameDecoder, HELLO_LIMIT};
use sealtune_wire::hello::{AgentHello, Answer, Magic, ProtocolRange, Purpose, SupervisorHello};
use sealtune_wire::v1::{
    AgentEvent, AgentReply, AgentRequest, HostReply, HostRequest, Outcome, ToAgent, ToSupervisor,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::device::knobs::REQUIRED_KNOBS;
use crate::serve::listener::Door;
use crate::serve::machine::Places;
use crate::serve::state::Hub;
use crate::tee::Tee;
use crate::tee::simulated::Simulated;

pub(super) const TOKEN: [u8; 32] = [5; 32];
pub(super) const IMAGE: [u8; 32] = [0xab; 32];

pub(super) struct Bench {
    pub(super) door: Door,
    pub(super) hub: JoinHandle<ExitCode>,
    pub(super) folder: tempfile::TempDir,
}

impl Bench {
    pub(super) fn new(runner: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["scratch", "layer", "sys"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        for knob in REQUIRED_KNOBS {
            let file = path("proc").join(knob.name.replace('.', "/"));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "default\n").unwrap();
        }
        if let Some(script) = runner {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::write(path("runner"), script).unwrap();
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(path("runner"), mode).unwrap();
        }
        let (address, messages) = mpsc::channel(64);
        let tee = Tee::Simulated(Simulated::new(address.clone()));
        let hub = Hub::new(tee, places(&folder), messages, address.clone());
        Self { door: Door::new(address), hub: tokio::spawn(hub.run()), folder }
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn places(&self) -> Places {
        places(&self.folder)
    }

    /// The other end of a new connection, before its first message.
    pub(super) async fn dial(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        self.door.open(theirs).await;
        ours
    }

    pub(super) async fn control(&self, generation: u64, acknowledged: u64) -> Peer {
        let purpose = Purpose::Control { generation, acknowledged };
        let (answer, io) = self.meet(purpose, TOKEN).await;
        assert_eq!(answer, Answer::Welcome { protocol: 1, offset: 0 });
        Peer::of(io)
    }

    pub(super) async fn meet(&self, purpose: Purpose, token: [u8; 32]) -> (Answer, DuplexStream) {
        let mut io = self.dial().await;
        let hello = SupervisorHello {
            magic: Magic::Sealtune,
            protocol: ProtocolRange::ours(),
            release: "test".into(),
            token: Hex(token),
            purpose,
        };
        io.write_all(&frame::encode(&hello, HELLO_LIMIT).unwrap()).await.unwrap();
        (read_answer(&mut io).await, io)
    }

    /// A machine that passed its launch check.
    pub(super) async fn launched(runner: Option<&str>) -> (Self, Peer) {
        let bench = Self::new(runner);
        let mut peer = bench.control(1, 0).await;
        let reply = peer.request(launch(&configuration())).await;
        assert!(matches!(reply, Ok(AgentReply::Launched(_))), "{reply:?}");
        (bench, peer)
    }
}

fn places(folder: &tempfile::TempDir) -> Places {
    let path = |name: &str| folder.path().join(name);
    Places {
        scratch: path("scratch"),
        layers: path("layers"),
        sysfs: path("sys"),
        proc: path("proc"),
        proc_sys: path("proc"),
        dev: path("dev"),
        make_node: |_, _, _| Ok(()),
        modules: path("proc"),
        runner: path("runner"),
        unpack: crate::unpack::in_this_process,
        stand_in: Some(path("layer")),
    }
}

pub(super) async fn read_answer(io: &mut DuplexStream) -> Answer {
    let mut header = [0; 4];
    io.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; frame::body_length(header, HELLO_LIMIT).unwrap()];
    io.read_exact(&mut body).await.unwrap();
    frame::decode::<AgentHello>(&body).unwrap().answer
}

pub(super) fn code(answer: &Answer) -> &str {
    match answer {
        Answer::Refused { code } => code,
        Answer::Welcome { .. } => "welcome",
    }
}

pub(super) fn configuration() -> LaunchConfiguration {
    let mut token_hash = [0; 32];
    token_hash.copy_from_slice(digest::digest(&digest::SHA256, &TOKEN).as_ref());
    LaunchConfiguration {
        version: 1,
        release: "0.1.0".into(),
        role: Role::Worker,
        vm_mode: VmMode::PerJob,
        shape: Shape { vcpus: 2, memory_mib: 2048 },
        gpus: vec![],
        layers: vec![Layer {
            name: "training".into(),
            root: FixedHex(IMAGE),
            data_blocks: 1,
            hash_offset: 4096,
            data_block_size: 4096,
            hash_block_size: 4096,
            hash_algorithm: HashAlgorithm::Sha256,
            salt: HexBytes(vec![]),
        }],
        devices: vec![],
        settlement: None,
        token_hash: FixedHex(token_hash),
    }
}

pub(super) fn launch(configuration: &LaunchConfiguration) -> AgentRequest {
    let bytes = configuration.canonical_bytes().unwrap();
    AgentRequest::Launch { configuration: STANDARD.encode(bytes) }
}

/// One control connection.
pub(super) struct Peer {
    io: DuplexStream,
    decoder: FrameDecoder,
    last_id: u64,
    /// What the CPU measured.
    pub(super) measured: LaunchConfiguration,
    pub(super) events: VecDeque<(u64, AgentEvent)>,
    pub(super) extended: Vec<String>,
    /// Without one, quotes carry report data and nothing else.
    pub(super) machine: Option<SimulatedMachine>,
}

/// What the supervisor of a dev image has: keys, and the registers of this VM.
pub(super) struct SimulatedMachine {
    pub(super) platform: SimulatedPlatform,
    pub(super) vm: SimulatedVm,
}

impl Peer {
    pub(super) fn of(io: DuplexStream) -> Self {
        Self {
            io,
            decoder: FrameDecoder::new(CONTROL_LIMIT),
            last_id: 0,
            measured: configuration(),
            events: VecDeque::new(),
            extended: Vec::new(),
            machine: None,
        }
    }

    pub(super) async fn send(&mut self, message: &ToAgent) {
        let frame = frame::encode(message, CONTROL_LIMIT).unwrap();
        self.io.write_all(&frame).await.unwrap();
    }

    /// The next message that is not for the TEE, nothing when the connection has ended.
    pub(super) async fn next(&mut self) -> Option<ToSupervisor> {
        loop {
            if let Some(body) = self.decoder.next_body().unwrap() {
                match frame::decode::<ToSupervisor>(&body).unwrap() {
                    ToSupervisor::Request { id, request } => self.act_as_tee(id, request).await,
                    ToSupervisor::Ping { nonce } => self.send(&ToAgent::Pong { nonce }).await,
                    other => return Some(other),
                }
                continue;
            }
            let mut buffer = vec![0; 65_536];
            match self.io.read(&mut buffer).await {
                Ok(count @ 1..) => self.decoder.push(&buffer[..count]),
                _ => return None,
            }
        }
    }

    async fn act_as_tee(&mut self, id: u64, request: HostRequest) {
        let reply = match request {
            HostRequest::SimulatedReport => HostReply::SimulatedReport {
                mr_config_id: Hex(self.measured.mr_config_id().unwrap().0),
            },
            HostRequest::SimulatedExtend { name, payload } => {
                if let Some(machine) = &mut self.machine {
                    machine.vm.extend(&name, hex::decode(payload).unwrap()).unwrap();
                }
                self.extended.push(name);
                HostReply::Extended
            }
            HostRequest::SimulatedQuote { report_data } => {
                let quote = match &self.machine {
                    Some(machine) => machine.vm.quote(&machine.platform, report_data.0).unwrap(),
                    None => {
                        let mut quote = vec![0; 48 + 584];
                        quote[0] = 4;
                        quote[568..632].copy_from_slice(&report_data.0);
                        quote
                    }
                };
                HostReply::SimulatedQuote { quote: STANDARD.encode(quote) }
            }
        };
        self.send(&ToAgent::Reply { id, outcome: Outcome::Ok(reply) }).await;
    }

    pub(super) async fn request(&mut self, request: AgentRequest) -> Result<AgentReply, String> {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&ToAgent::Request { id, request }).await;
        loop {
            match self.next().await.expect("an answer") {
                ToSupervisor::Reply { id: of, outcome } => {
                    assert_eq!(of, id);
                    return match outcome {
                        Outcome::Ok(reply) => Ok(reply),
                        Outcome::Error { code } => Err(code),
                    };
                }
                ToSupervisor::Event { sequence, event } => self.events.push_back((sequence, event)),
                _ => {}
            }
        }
    }

    pub(super) async fn event(&mut self) -> (u64, AgentEvent) {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            if let ToSupervisor::Event { sequence, event } = self.next().await.expect("an event") {
                return (sequence, event);
            }
        }
    }
}
