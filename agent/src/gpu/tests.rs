//! The helper is played by shell scripts, most of them hostile. They run confined as the real one does, so they use
//! nothing but the shell's own commands.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::*;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);

fn gpus(script: &str, count: u8, time: Duration) -> Gpus {
    let named = (1..=count).map(|number| NamedGpu {
        address: PciAddress::parse(&format!("0000:{number:02x}:00.0")).unwrap(),
        name: format!("gpu{number}"),
    });
    // Each GPU adds to the time, so what shall be late is asked about none.
    Gpus::of(named.collect(), HelperProgram::script(script, time))
}

const CHALLENGE: [u8; 32] = [0x0f; 32];

fn piece(number: u8, challenge: &[u8; 32]) -> String {
    let bus = format!("0000:{number:02x}:00.0");
    let evidence = sample::document(&format!("gpu{number}"), challenge);
    serde_json::json!({ "bus": bus, "evidence": evidence }).to_string()
}

fn print_pieces(pieces: &[String]) -> String {
    format!("printf '%s\\n' '{{\"devices\":[{}],\"version\":1}}'", pieces.join(","))
}

fn print_evidence(numbers: &[u8]) -> String {
    let pieces: Vec<String> = numbers.iter().map(|number| piece(*number, &CHALLENGE)).collect();
    print_pieces(&pieces)
}

const READY: &str = r#"printf '{"ready":true,"version":1}\n'"#;

async fn set_ready(script: &str, count: u8, time: Duration) -> Result<(), GpuError> {
    let mut gpus = gpus(script, count, time);
    let outcome = gpus.set_ready(word()).await.map(drop);
    assert!(gpus.helper.is_idle(), "{script}");
    outcome
}

/// As start evidence without GPUs gives it.
fn word() -> MayTakeWork {
    MayTakeWork::judge(&[]).unwrap()
}

async fn report(script: &str, count: u8) -> Result<Vec<TakenEvidence>, GpuError> {
    let mut gpus = gpus(script, count, LONG);
    let outcome = gpus.evidence(&CHALLENGE).await;
    assert!(gpus.helper.is_idle(), "nothing is left running");
    outcome
}

#[tokio::test]
async fn evidence_of_every_gpu_comes_back() {
    let taken = report(&print_evidence(&[2, 1]), 2).await.unwrap();
    let devices: Vec<&str> = taken.iter().map(|one| one.device.as_str()).collect();
    assert_eq!(devices, ["gpu1", "gpu2"]);
    assert_eq!(taken[0].bytes, sample::document("gpu1", &CHALLENGE).as_bytes());
}

#[tokio::test]
async fn the_challenge_and_the_word_arrive() {
    let request = format!(
        r#"{{"version":1,"challenge":"{}","devices":[{{"bus":"0000:01:00.0","name":"gpu1"}}]}}"#,
        "0f".repeat(32)
    );
    let script = format!(
        "read -r line; [ \"$line\" = '{request}' ] && [ \"$*\" = report ] || exit 3; {}",
        print_evidence(&[1])
    );
    assert!(report(&script, 1).await.is_ok());
    let script = format!("read -r line && exit 3; [ \"$*\" = ready ] || exit 4; {READY}");
    set_ready(&script, 1, LONG).await.unwrap();
}

#[tokio::test]
async fn hostile_answers_are_refused_each_with_its_code() {
    let refusal = r#"{"code":"ST-GPUE-30","detail":"d","fix":"f"}"#;
    let refused = format!("printf '%s' '{{\"error\":{refusal},\"version\":1}}'");
    let one_refused = format!(
        "printf '%s' '{{\"devices\":[{{\"bus\":\"0000:01:00.0\",\"error\":{refusal}}}],\"version\":1}}'"
    );
    let good = print_evidence(&[1]);
    for (script, code) in [
        ("exit 0".to_owned(), "ST-AGPU-15"),
        ("echo what".into(), "ST-AGPU-15"),
        ("printf '\\377\\376'".into(), "ST-AGPU-15"),
        (good.replace("\"version\":1}'", "\"version\":1,\"more\":1}'"), "ST-AGPU-15"),
        (READY.into(), "ST-AGPU-15"),
        (format!("{good}; {good}"), "ST-AGPU-15"),
        (good.replace("],\"version\":1}'", "],\"version\":2}'"), "ST-AGPU-16"),
        ("exit 3".into(), "ST-AGPU-17"),
        ("kill -SEGV $$".into(), "ST-AGPU-17"),
        (format!("{good}; exit 1"), "ST-AGPU-17"),
        (refused.clone(), "ST-AGPU-17"),
        (format!("{refused}; exit 1"), "ST-AGPU-18"),
        (format!("{one_refused}; exit 1"), "ST-AGPU-23"),
        (print_evidence(&[]), "ST-AGPU-20"),
        (print_evidence(&[1, 2]), "ST-AGPU-20"),
        (print_evidence(&[2]), "ST-AGPU-21"),
        (print_pieces(&[piece(1, &[0x0e; 32])]), "ST-AGPU-26"),
        // More than a pipe holds and more than is read, from one that ends and from one that does not.
        (
            "a=xxxxxxxx; while [ ${#a} -lt 600000 ]; do a=$a$a; done; printf %s $a".into(),
            "ST-AGPU-14",
        ),
        ("while :; do printf '                                '; done".into(), "ST-AGPU-14"),
    ] {
        let error = report(&script, 1).await.unwrap_err();
        assert_eq!(error.code(), code, "{script}: {error}");
    }
    let words = report(&format!("{refused}; exit 1"), 1).await.unwrap_err().to_string();
    assert!(words.contains("ST-GPUE-30: failed to d; f"), "{words}");
    let error = set_ready(&print_evidence(&[1]), 1, LONG).await.unwrap_err();
    assert_eq!(error.code(), "ST-AGPU-15");
}

/// Without GPUs nothing is added to the time, so these are late after a moment.
#[tokio::test]
async fn one_that_does_not_end_is_killed_at_its_deadline_and_waited_for() {
    for script in [
        "while :; do :; done".to_owned(),
        "exec sleep 1000".into(),
        // It ignores what can be ignored.
        "trap '' TERM INT HUP; while :; do :; done".into(),
        // A good answer does not count before the exit code that belongs to it.
        format!("{READY}; exec sleep 1000"),
        format!("{READY}; exec >&-; while :; do :; done"),
        "read -r line; exec <&-; while :; do :; done".into(),
    ] {
        let start = Instant::now();
        let error = set_ready(&script, 0, SHORT).await.unwrap_err();
        assert_eq!(error.code(), "ST-AGPU-13", "{script}: {error}");
        assert!(start.elapsed() >= SHORT);
    }
}

/// A question that nobody waits for any more leaves nothing behind for the next.
#[tokio::test]
async fn a_dropped_question_ends_its_process_before_the_next_starts() {
    let script = "[ \"$*\" = report ] && while :; do :; done; ".to_owned() + READY;
    let mut gpus = gpus(&script, 0, LONG);
    assert!(tokio::time::timeout(SHORT, gpus.evidence(&[1; 32])).await.is_err());
    assert!(!gpus.helper.is_idle());
    gpus.set_ready(word()).await.unwrap();
    assert!(gpus.helper.is_idle());
}

#[tokio::test]
async fn a_program_that_is_not_there_is_said() {
    let filters = Filters::for_gpu_helper().unwrap();
    let layer = tempfile::tempdir().unwrap();
    let mut gpus = Gpus::of(vec![], HelperProgram::in_layer(layer.path(), filters));
    assert_eq!(gpus.set_ready(word()).await.unwrap_err().code(), "ST-AGPU-11");
}

/// What the process says of itself, through the words of a refusal.
async fn facts(script: &str, ready: bool) -> String {
    let script = format!(
        "{script}; printf '{{\"error\":{{\"code\":\"ST-GPUE-10\",\"detail\":\"%s\",\"fix\":\"\"}},\"version\":1}}' \"$facts\"; exit 1"
    );
    let mut gpus = gpus(&script, 0, LONG);
    let error = if ready {
        gpus.set_ready(word()).await.unwrap_err()
    } else {
        gpus.evidence(&[1; 32]).await.unwrap_err()
    };
    assert_eq!(error.code(), "ST-AGPU-18", "{error}");
    error.to_string()
}

const STATUS: &str = "while read -r key a rest; do case $key in \
    Uid:|Gid:|Groups:|CapEff:|CapPrm:|CapBnd:|NoNewPrivs:|Seccomp:) facts=\"$facts$key$a \";; esac; \
    done </proc/self/status";

#[tokio::test]
async fn it_runs_as_its_own_user_without_capabilities_and_filtered() {
    let found = facts(STATUS, false).await;
    for expected in ["NoNewPrivs:1 ", "Seccomp:2 "] {
        assert!(found.contains(expected), "{found}");
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can start it as its own user");
        return;
    }
    for expected in [
        "Uid:65501 ",
        "Gid:65501 ",
        "Groups: ",
        "CapEff:0000000000000000 ",
        "CapPrm:0000000000000000 ",
    ] {
        assert!(found.contains(expected), "{found}");
    }
    let found = facts(STATUS, true).await;
    for expected in [
        "Uid:65501 ",
        "Gid:65501 ",
        "Groups: ",
        "CapEff:0000000000200000 ",
        "CapPrm:0000000000200000 ",
        "CapBnd:0000000000200000 ",
        "Seccomp:2 ",
    ] {
        assert!(found.contains(expected), "{found}");
    }
}

/// What is root's, the TEE's folder among it, is not the helper's, whatever its privilege.
#[tokio::test]
async fn no_privilege_opens_what_is_roots() {
    use std::os::unix::fs::PermissionsExt as _;
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root has what is root's");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let own = folder.path().join("own");
    std::fs::write(&own, "secret\n").unwrap();
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o600)).unwrap();
    let script = format!("line=; read -r line <{}; facts=\"got=[$line]\"", own.display());
    for ready in [false, true] {
        let found = facts(&script, ready).await;
        assert!(found.contains("got=[]"), "{ready}: {found}");
    }
}

/// The driver gives a switch's evidence to nobody else; GPUs are asked before, by a process that has nothing.
#[tokio::test]
async fn switches_are_asked_with_the_one_capability_that_they_need() {
    let script = format!(
        "if [ \"$*\" = report ]; then {}; exit 0; fi; read -r line; {STATUS}; \
        printf '{{\"error\":{{\"code\":\"ST-GPUE-63\",\"detail\":\"%s\",\"fix\":\"\"}},\"version\":1}}' \"$*: $facts\"; exit 1",
        print_evidence(&[])
    );
    let mut gpus = gpus(&script, 0, LONG);
    gpus.switch_names = vec!["nvswitch0".into()];
    let error = gpus.evidence(&CHALLENGE).await.unwrap_err();
    assert_eq!(error.code(), "ST-AGPU-18", "{error}");
    let found = error.to_string();
    for expected in ["switches: ", "NoNewPrivs:1 ", "Seccomp:2 "] {
        assert!(found.contains(expected), "{found}");
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can start it with a capability");
        return;
    }
    for expected in [
        "Uid:65501 ",
        "CapEff:0000000000200000 ",
        "CapPrm:0000000000200000 ",
        "CapBnd:0000000000200000 ",
    ] {
        assert!(found.contains(expected), "{found}");
    }
}

/// Each adds its quarter of a minute; the clock stands still here and jumps.
#[tokio::test(start_paused = true)]
async fn switches_that_do_not_answer_are_given_up_at_their_deadline() {
    let mut gpus = gpus("while :; do :; done", 0, SHORT);
    let names: Vec<String> = (0..4).map(|number| format!("nvswitch{number}")).collect();
    let began = tokio::time::Instant::now();
    let error = gpus.helper.switches(&CHALLENGE, &names).await.unwrap_err();
    assert_eq!(error.code(), "ST-AGPU-13", "{error}");
    // The time to wait for what was killed may jump too.
    assert!((60..66).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

/// The shell ends where it cannot fork.
#[tokio::test]
async fn it_cannot_start_a_process() {
    for script in ["( : )", "x=$(:)", "sleep 0", ": &"] {
        let error = set_ready(&format!("{script}; {READY}"), 0, LONG).await.unwrap_err();
        assert_eq!(error.code(), "ST-AGPU-17", "{script}: {error}");
    }
    set_ready(READY, 0, LONG).await.unwrap();
}

#[tokio::test]
async fn it_has_limits_and_no_environment() {
    let found = facts(
        "while read -r line; do case $line in *'core file'*|*'open files'*|'Max file size'*) \
            set -- $line; facts=\"$facts$*, \";; esac; done </proc/self/limits",
        false,
    )
    .await;
    for expected in
        ["Max core file size 0 0 bytes", "Max open files 64 64 files", "Max file size 0 0 bytes"]
    {
        assert!(found.contains(expected), "{found}");
    }
    let script = "read -r line </proc/self/environ; facts=\"environment=[$line]\"";
    let found = facts(script, false).await;
    assert!(found.contains("environment=[]"), "{found}");
}

/// The real program, its loader and its libraries, confined. With no driver it must say so itself.
#[tokio::test]
async fn the_program_of_a_layer_starts_and_answers() {
    let Some(layer) = std::env::var_os("SEALTUNE_NVIDIA_LAYER") else {
        println!("skipped: SEALTUNE_NVIDIA_LAYER names no folder with an nvidia layer");
        return;
    };
    let filters = Filters::for_gpu_helper().unwrap();
    let helper = HelperProgram::in_layer(Path::new(&layer), filters);
    let named = gpus("", 2, LONG).named;
    let mut gpus = Gpus::of(named, helper);
    let names: Vec<String> = (0..4).map(|number| format!("nvswitch{number}")).collect();
    for outcome in [
        gpus.evidence(&[1; 32]).await.map(drop),
        gpus.set_ready(word()).await.map(drop),
        gpus.helper.switches(&[1; 32], &names).await.map_err(GpuError::from).and_then(|answers| {
            let taken = switch::evidence(&names, &[1; 32], answers)?;
            println!("evidence of {} switches", taken.len());
            Ok(())
        }),
    ] {
        if let Err(error) = outcome {
            assert!(error.to_string().contains("ST-GPUE-"), "{error}");
            println!("{error}");
        }
    }
}

#[tokio::test]
async fn find_needs_bus_configuration_and_layer() {
    let sysfs = tempfile::tempdir().unwrap();
    let at = || Sysfs { root: sysfs.path() };
    let names = ["gpu0".to_owned()];
    assert!(Gpus::find(at(), &[], None).unwrap().is_none());
    let code = |found: Result<Option<Gpus>, GpuError>| found.unwrap_err().code();
    assert_eq!(code(Gpus::find(at(), &names, Some(sysfs.path()))), "ST-AGPU-02");
    let folder = sysfs.path().join("bus/pci/devices/0000:01:00.0");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("vendor"), "0x10de\n").unwrap();
    std::fs::write(folder.join("class"), "0x030200\n").unwrap();
    assert_eq!(code(Gpus::find(at(), &[], Some(sysfs.path()))), "ST-AGPU-02");
    assert_eq!(code(Gpus::find(at(), &names, None)), "ST-AGPU-03");
    let found = Gpus::find(at(), &names, Some(sysfs.path())).unwrap().unwrap();
    assert_eq!(found.named[0].name, "gpu0");
    // A switch is not ignored, with GPUs or without, and needs its library in the layer.
    let folder = sysfs.path().join("bus/pci/devices/0000:02:00.0");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("vendor"), "0x10de\n").unwrap();
    std::fs::write(folder.join("class"), "0x068000\n").unwrap();
    assert_eq!(code(Gpus::find(at(), &names, Some(sysfs.path()))), "ST-AGPU-05");
    assert_eq!(code(Gpus::find(at(), &names, None)), "ST-AGPU-03");
    let libraries = sysfs.path().join("usr/lib/x86_64-linux-gnu");
    std::fs::create_dir_all(&libraries).unwrap();
    std::fs::write(libraries.join("libnvidia-nscq.so.2"), "").unwrap();
    let found = Gpus::find(at(), &names, Some(sysfs.path())).unwrap().unwrap();
    assert_eq!((found.switches.len(), found.switch_names), (1, vec!["nvswitch0".to_owned()]));
    std::fs::remove_dir_all(sysfs.path().join("bus/pci/devices/0000:01:00.0")).unwrap();
    assert_eq!(code(Gpus::find(at(), &[], None)), "ST-AGPU-33");
}

#[test]
fn work_is_for_gpus_in_cc_mode_that_took_none_yet() {
    let good = sample::document("gpu1", &CHALLENGE);
    let judge_beside = |text: &str, modes: &[SwitchMode]| {
        let cc = sealtune_evidence::nvidia::NvidiaEvidence::parse(text.as_bytes()).unwrap().cc;
        let gpu = |cc| TakenEvidence {
            device: "gpu1".into(),
            bytes: Vec::new(),
            word: DriverWord::Gpu(cc),
        };
        let switch = |mode| TakenEvidence {
            device: "nvswitch0".into(),
            bytes: Vec::new(),
            word: DriverWord::Switch(mode),
        };
        let mut taken = vec![gpu(cc)];
        taken.extend(modes.iter().map(|mode| switch(*mode)));
        MayTakeWork::judge(&taken).map(drop).map_err(|error| error.code())
    };
    let judge = |text: &str| judge_beside(text, &[]);
    assert_eq!(judge(&good), Ok(()));
    let with = |from: &str, to: &str| judge(&good.replace(from, to));
    assert_eq!(with(r#""feature":"on""#, r#""feature":"off""#), Err("ST-AGPU-27"));
    assert_eq!(with(r#""feature":"on""#, r#""feature":"devtools""#), Err("ST-AGPU-27"));
    assert_eq!(with(r#""gpus_ready":false"#, r#""gpus_ready":true"#), Err("ST-AGPU-28"));

    // In protected PCIe mode "off" is what an honest driver says, and the switches must be there and locked.
    let behind = good
        .replace(r#""feature":"on""#, r#""feature":"off""#)
        .replace(r#""multi_gpu":"none""#, r#""multi_gpu":"protected-pcie""#);
    let locked = [SwitchMode::Locked; 4];
    assert_eq!(judge_beside(&behind, &locked), Ok(()));
    assert_eq!(judge_beside(&behind.replace(r#":"off""#, r#":"on""#), &locked), Ok(()));
    assert_eq!(judge(&behind), Err("ST-AGPU-32"));
    assert_eq!(judge_beside(&good, &locked), Err("ST-AGPU-32"));
    let devtools = behind.replace(r#""feature":"off""#, r#""feature":"devtools""#);
    assert_eq!(judge_beside(&devtools, &locked), Err("ST-AGPU-27"));
    let ready = behind.replace(r#""gpus_ready":false"#, r#""gpus_ready":true"#);
    assert_eq!(judge_beside(&ready, &locked), Err("ST-AGPU-28"));
    for mode in [SwitchMode::Enabled, SwitchMode::Failed, SwitchMode::Unknown] {
        assert_eq!(judge_beside(&behind, &[SwitchMode::Locked, mode]), Err("ST-AGPU-31"));
    }
}

#[test]
fn every_code_is_in_the_readme_once() {
    let readme = include_str!("../../README.md");
    let samples = GpuError::samples();
    let codes: BTreeSet<&str> = samples.iter().map(GpuError::code).collect();
    assert_eq!(codes.len(), samples.len(), "a code has two causes");
    for error in &samples {
        let begin = format!("| {} |", error.code());
        let lines: Vec<&str> = readme.lines().filter(|line| line.starts_with(&begin)).collect();
        assert_eq!(lines.len(), 1, "{}", error.code());
        assert!(lines[0].contains(error.fix()), "{}: {}", error.code(), error.fix());
    }
    let rows = readme.lines().filter(|line| line.starts_with("| ST-AGPU-")).count();
    assert_eq!(rows, codes.len(), "a row of no code");
}
