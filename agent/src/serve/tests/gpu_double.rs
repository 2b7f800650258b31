//! Simulated GPUs in a VM that is played: a PCI bus, the driver's files, and in the loader's place a shell that runs confined
//! as the helper does and passes every question to a thread of the test, which signs.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use sealtune_evidence::nvidia::evidence::{CcFeature, MultiGpuMode};
use sealtune_evidence::nvidia::simulated::{
    Report, SimulatedGpu, SimulatedMachine as Board, SimulatedNvidia,
};
use sealtune_evidence::simulated::{SimulatedPlatform, SimulatedVm};
use sealtune_evidence::{
    Anchors, BootFiles, Context, EventLog, EvidenceBundle, Expectation, FileDigests, GpuEvidence,
    HexBytes, ImageFacts, ImageIdentity, JudgeTime, LaunchConfiguration, Layer, Policy, Profile,
    ReferenceValues, Tee, Verdict, appraise, layout1,
};
use sealtune_evidence::{FixedHex, launch::HashAlgorithm};
use sealtune_seal::Secret;
use sealtune_wire::v1::{AgentReply, Evidence};
use serde_json::{Value, json};

use super::double::{Bench, Peer, SimulatedMachine, configuration, launch};

const NOW: u64 = 1_795_333_794;
/// In the place of the layer's loader: three arguments come before the word.
const LOADER: &str = r#"#!/bin/sh
case $4 in ready) line='{}' ;; *) read -r line ;; esac
printf '%s %s\n' "$4" "$line" > FOLDER/question
IFS= read -r answer < FOLDER/answer
case $answer in die) kill -KILL $$ ;; esac
printf '%s\n' "${answer#? }"
exit "${answer%% *}"
"#;

/// What goes wrong with the helper or its GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Omits,
    Duplicates,
    OtherNonce,
    Garbage,
    Hangs,
    Dies,
    Devtools,
    ReadyEarly,
    ReadyRefused,
    /// Of switches: one is left out, one is there twice, one was asked with another nonce, one is not locked.
    SwitchOmitted,
    SwitchTwice,
    SwitchOtherNonce,
    SwitchUnlocked,
    /// A driver that says nothing of the switches that are there.
    SingleMode,
}

#[derive(Debug, Default)]
struct State {
    fault: Option<Fault>,
    ready: bool,
    words: Vec<String>,
}

/// The GPUs, as the test's thread has them.
pub(super) struct Devices {
    maker: SimulatedNvidia,
    gpus: Vec<SimulatedGpu>,
    /// Then there are no other GPUs.
    board: Option<Board>,
    state: Mutex<State>,
}

impl Devices {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// What the helper was asked, in order.
    pub(super) fn words(&self) -> Vec<String> {
        self.lock().words.clone()
    }

    fn serve(&self, folder: &Path) {
        loop {
            let mut question = String::new();
            let file = fs::File::open(folder.join("question")).unwrap();
            if BufReader::new(file).read_line(&mut question).unwrap() == 0 {
                continue;
            }
            let (word, request) = question.split_once(' ').unwrap();
            self.lock().words.push(word.to_owned());
            let fault = self.lock().fault.unwrap_or(Fault::None);
            let answer = match fault {
                Fault::Hangs => continue,
                Fault::Dies => "die".to_owned(),
                Fault::Garbage => "0 {\"version\":1,\"surprise\":[]}".to_owned(),
                _ if word == "ready" => self.ready(folder, fault),
                _ if word == "switches" => {
                    self.switches(&serde_json::from_str(request).unwrap(), fault)
                }
                _ => self.report(&serde_json::from_str(request).unwrap(), fault),
            };
            let mut file = fs::File::options().write(true).open(folder.join("answer")).unwrap();
            writeln!(file, "{answer}").unwrap();
        }
    }

    fn ready(&self, folder: &Path, fault: Fault) -> String {
        if fault == Fault::ReadyRefused {
            let refusal = json!({"code": "ST-GPUE-50", "detail": "d", "fix": "f"});
            return format!("1 {}", json!({"error": refusal, "version": 1}));
        }
        self.lock().ready = true;
        fs::write(folder.join("is-ready"), "").unwrap();
        format!("0 {}", json!({"ready": true, "version": 1}))
    }

    fn report(&self, request: &Value, fault: Fault) -> String {
        let mut nonce = nonce_of(request);
        if fault == Fault::OtherNonce {
            nonce[0] ^= 1;
        }
        let asked = request["devices"].as_array().unwrap();
        let mut devices: Vec<Value> = asked
            .iter()
            .zip(self.gpus())
            .map(|(device, gpu)| {
                let name = device["name"].as_str().unwrap();
                let mut evidence = match &self.board {
                    Some(board) => Board::gpu_evidence(gpu, name, &board.gpu_report(nonce)),
                    None => gpu.evidence(name, &Report::new(nonce)),
                }
                .unwrap();
                if fault == Fault::SingleMode {
                    evidence.cc.feature = CcFeature::On;
                    evidence.cc.multi_gpu = MultiGpuMode::None;
                }
                evidence.cc.gpus_ready = self.lock().ready || fault == Fault::ReadyEarly;
                if fault == Fault::Devtools {
                    evidence.cc.feature = CcFeature::Devtools;
                }
                let evidence = serde_json::to_string(&evidence).unwrap();
                json!({"bus": device["bus"], "evidence": evidence})
            })
            .collect();
        match fault {
            Fault::Omits => drop(devices.pop()),
            Fault::Duplicates => devices[1] = devices[0].clone(),
            _ => {}
        }
        format!("0 {}", json!({"devices": devices, "version": 1}))
    }

    fn switches(&self, request: &Value, fault: Fault) -> String {
        let mut nonce = nonce_of(request);
        if fault == Fault::SwitchOtherNonce {
            nonce[0] ^= 1;
        }
        let board = self.board.as_ref().unwrap();
        let asked = request["switches"].as_array().unwrap();
        assert_eq!(asked.len(), board.switches.len());
        let mut switches: Vec<Value> = asked
            .iter()
            .zip(&board.switches)
            .map(|(name, switch)| {
                let report = board.switch_report(switch, nonce);
                let (report, mode) = match fault {
                    Fault::SwitchUnlocked => (report.with(25, &[0, 0]), "enabled"),
                    _ => (report, "locked"),
                };
                let evidence = switch.evidence(name.as_str().unwrap(), &report).unwrap();
                let evidence = String::from_utf8(evidence.to_bytes().unwrap()).unwrap();
                json!({"name": name, "mode": mode, "evidence": evidence})
            })
            .collect();
        match fault {
            Fault::SwitchOmitted => drop(switches.pop()),
            Fault::SwitchTwice => switches[1] = switches[0].clone(),
            _ => {}
        }
        format!("0 {}", json!({"switches": switches, "version": 1}))
    }

    fn gpus(&self) -> &[SimulatedGpu] {
        self.board.as_ref().map_or(&self.gpus, |board| &board.gpus)
    }
}

fn nonce_of(request: &Value) -> [u8; 32] {
    let mut nonce = [0; 32];
    hex::decode_to_slice(request["challenge"].as_str().unwrap(), &mut nonce).unwrap();
    nonce
}

/// A VM with GPUs, its hardware, and what a verifier of it knows.
pub(super) struct GpuBench {
    pub(super) bench: Bench,
    pub(super) devices: Arc<Devices>,
    references: ReferenceValues,
    anchors: Anchors,
    boot_log: EventLog,
}

pub(super) fn with_gpus(count: usize) -> LaunchConfiguration {
    let mut configuration = configuration();
    configuration.gpus = (0..count).map(|number| format!("gpu{number}")).collect();
    configuration.layers.push(Layer {
        name: "nvidia".into(),
        root: FixedHex([0xcd; 32]),
        data_blocks: 1,
        hash_offset: 4096,
        data_block_size: 4096,
        hash_block_size: 4096,
        hash_algorithm: HashAlgorithm::Sha256,
        salt: HexBytes(vec![]),
    });
    configuration
}

/// Puts a device of NVIDIA's on the bus of a bench, and with a minor number into the driver's hands.
pub(super) fn plug_in(bench: &Bench, bus: u8, class: &str, minor: Option<u8>) {
    let address = format!("0000:{bus:02x}:00.0");
    let device = bench.path("sys/bus/pci/devices").join(&address);
    fs::create_dir_all(&device).unwrap();
    fs::write(device.join("vendor"), "0x10de\n").unwrap();
    fs::write(device.join("class"), format!("{class}\n")).unwrap();
    if let Some(minor) = minor {
        let about = bench.path("proc/driver/nvidia/gpus").join(&address);
        fs::create_dir_all(&about).unwrap();
        fs::write(about.join("information"), format!("Device Minor: \t {minor}\n")).unwrap();
    }
}

fn share(path: &PathBuf, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn boot_files() -> BootFiles {
    BootFiles {
        firmware: layout1::file_digest(b"firmware"),
        kernel: layout1::file_digest(b"kernel"),
        initramfs: layout1::file_digest(b"initramfs"),
        cmdline: "sealtune.profile=prod".into(),
    }
}

impl GpuBench {
    /// Before the launch.
    pub(super) fn new(count: usize, runner: Option<&str>) -> (Self, SimulatedMachine) {
        let maker = SimulatedNvidia::create(NOW).unwrap();
        let gpus = (0..count).map(|number| maker.gpu(number as u64).unwrap()).collect();
        Self::with(Devices { maker, gpus, board: None, state: Mutex::default() }, runner)
    }

    /// A VM with a whole machine in protected PCIe mode: eight GPUs, four switches.
    pub(super) async fn launched_board(runner: Option<&str>) -> (Self, Peer) {
        let maker = SimulatedNvidia::create(NOW).unwrap();
        let board = Some(maker.machine(1).unwrap());
        let devices = Devices { maker, gpus: Vec::new(), board, state: Mutex::default() };
        let (bench, machine) = Self::with(devices, runner);
        for number in 0..4 {
            plug_in(&bench.bench, 0x20 + number, "0x068000", None);
            let address = format!("0000:{:02x}:00.0", 0x20 + number);
            let taken = bench.bench.path("proc/driver/nvidia-nvswitch/devices").join(address);
            fs::create_dir_all(taken).unwrap();
        }
        let numbers = "Character devices:\n195 nvidia\n239 nvidia-nvswitch\n";
        fs::write(bench.bench.path("proc/devices"), numbers).unwrap();
        let library = bench.bench.path("layer/usr/lib/x86_64-linux-gnu/libnvidia-nscq.so.2");
        fs::write(library, "").unwrap();
        let peer = bench.launch(8, machine).await;
        (bench, peer)
    }

    fn with(devices: Devices, runner: Option<&str>) -> (Self, SimulatedMachine) {
        let count = devices.gpus().len();
        let bench = Bench::new(runner);
        for number in 0..count {
            let number = u8::try_from(number).unwrap();
            plug_in(&bench, number + 1, "0x030200", Some(number));
        }
        fs::write(bench.path("proc/devices"), "Character devices:\n195 nvidia\n").unwrap();
        let loader = bench.path("layer/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
        fs::create_dir_all(loader.parent().unwrap()).unwrap();
        let folder = bench.folder.path().to_owned();
        fs::write(&loader, LOADER.replace("FOLDER", folder.to_str().unwrap())).unwrap();
        for name in ["question", "answer"] {
            mkfifo(&folder.join(name), Mode::from_bits_truncate(0o666)).unwrap();
            share(&folder.join(name), 0o666);
        }
        // The helper is another user.
        share(&folder, 0o755);
        share(&loader, 0o755);

        let devices = Arc::new(devices);
        let thread = Arc::clone(&devices);
        std::thread::spawn(move || thread.serve(&folder));

        let launch = with_gpus(count);
        let files = SimulatedPlatform::create(&Secret::new([1; 32]), NOW).unwrap();
        let platform = SimulatedPlatform::load(&files).unwrap();
        let vm = SimulatedVm::start(&boot_files(), &launch).unwrap();
        let image = ImageFacts {
            release: launch.release.clone(),
            profile: Profile::Prod,
            cmdline: boot_files().cmdline,
            kernel: FileDigests::of(b"kernel"),
            initramfs: FileDigests::of(b"initramfs"),
            layers: launch.layers.clone(),
        };
        let references =
            ReferenceValues::from_image(image, &[boot_files().firmware], &[launch.shape]).unwrap();
        let anchors = Anchors {
            simulated_root: Some(platform.root_der()),
            nvidia: devices.maker.roots(),
            ..Anchors::default()
        };
        let boot_log = vm.event_log().clone();
        (Self { bench, devices, references, anchors, boot_log }, SimulatedMachine { platform, vm })
    }

    pub(super) async fn launched(count: usize, runner: Option<&str>) -> (Self, Peer) {
        let (bench, machine) = Self::new(count, runner);
        let peer = bench.launch(count, machine).await;
        (bench, peer)
    }

    async fn launch(&self, count: usize, machine: SimulatedMachine) -> Peer {
        let mut peer = self.bench.control(1, 0).await;
        peer.measured = with_gpus(count);
        peer.machine = Some(machine);
        let reply = peer.request(launch(&with_gpus(count))).await;
        assert!(matches!(reply, Ok(AgentReply::Launched(_))), "{reply:?}");
        peer
    }

    /// As the supervisor makes it of what the agent sent.
    pub(super) fn bundle(&self, peer: &Peer, evidence: &Evidence) -> EvidenceBundle {
        let machine = peer.machine.as_ref().unwrap();
        let guest: EventLog = serde_json::from_str(&evidence.event_log).unwrap();
        let mut event_log = self.boot_log.clone();
        for event in guest.events {
            event_log.push(event);
        }
        assert!(evidence.gpu_is_within_bounds());
        let gpu = evidence.gpu.iter().map(|part| GpuEvidence {
            device: part.device.clone(),
            evidence: STANDARD.decode(&part.evidence).unwrap().into(),
        });
        let devices = &self.devices;
        let collateral = match &devices.board {
            Some(board) => devices.maker.machine_collateral(board),
            None => devices.maker.collateral(&devices.gpus.iter().collect::<Vec<_>>()),
        };
        let bundle = EvidenceBundle {
            version: 1,
            tee: Tee::Tdx,
            quote: STANDARD.decode(&evidence.quote).unwrap().into(),
            event_log,
            launch: machine.vm.launch_bytes().to_vec().into(),
            claims: evidence.claims.as_bytes().to_vec().into(),
            image: ImageIdentity { name: "sealtune".into(), version: "0.1.0".into() },
            gpu: gpu.collect(),
            ccel: None,
            dstack_log: None,
            collateral: Some(machine.platform.collateral(NOW).unwrap()),
            snp_collateral: None,
            gpu_collateral: Some(collateral.unwrap()),
        };
        bundle.validate().unwrap();
        bundle
    }

    /// Under the strict policy, but for the roots.
    pub(super) fn verdict(&self, bundle: &EvidenceBundle, expectation: &Expectation) -> Verdict {
        let context = Context {
            policy: &Policy::strict(),
            references: std::slice::from_ref(&self.references),
            anchors: &self.anchors,
            collateral: None,
            snp_collateral: None,
            gpu_collateral: None,
            time: JudgeTime::Now(NOW),
        };
        appraise(bundle, expectation, &context).verdict
    }
}
