//! The program as a process, with a collateral service on a loopback address.
#![cfg(feature = "fetch")]
#![expect(clippy::expect_used, reason = "scenery of tests: what fails here fails the test")]

#[expect(dead_code, reason = "another test uses the rest of the desk")]
mod desk;
#[path = "../../receipt/tests/scene/mod.rs"]
#[expect(dead_code, reason = "another test uses the rest of the scene")]
mod scene;

use std::{
    fmt::Write as _,
    net::TcpListener,
    process::{Command, Output},
    time::{SystemTime, UNIX_EPOCH},
};

use sealtune_evidence::{Collateral, HexBytes, simulated::SimulatedPlatform};
use sealtune_seal::Secret;

use desk::{Folder, Page, Service};
use scene::{Boot, JOB, OFFER_NONCE};

fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut text, byte| {
        let _ = match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' => write!(text, "{}", char::from(byte)),
            _ => write!(text, "%{byte:02X}"),
        };
        text
    })
}

/// What a cache has.
fn pages(collateral: &Collateral) -> Vec<Page> {
    let head = |name: &str, chain: &str| format!("200 OK\r\n{name}: {}\r\n", percent_encode(chain));
    let signed = |name: &str, inner: &str, signature: &HexBytes| {
        format!("{{\"{name}\":{inner},\"signature\":\"{signature:?}\"}}").into_bytes()
    };
    // The simulated platform has no chain for its list of machines; none is needed.
    let chain = &collateral.tcb_info_issuer_chain;
    let page = |asked, head, body| Page { asked, head, body };
    vec![
        page(
            "GET /sgx/certification/v4/pckcrl?ca=p",
            head("SGX-PCK-CRL-Issuer-Chain", chain),
            collateral.pck_crl.0.clone(),
        ),
        page(
            "GET /tdx/certification/v4/tcb?fmspc=511D00000000&update=",
            head("TCB-Info-Issuer-Chain", chain),
            signed("tcbInfo", &collateral.tcb_info, &collateral.tcb_info_signature),
        ),
        page(
            "GET /tdx/certification/v4/qe/identity?update=",
            head("SGX-Enclave-Identity-Issuer-Chain", &collateral.qe_identity_issuer_chain),
            signed("enclaveIdentity", &collateral.qe_identity, &collateral.qe_identity_signature),
        ),
        page(
            "GET /sgx/certification/v4/rootcacrl",
            "200 OK\r\n".to_owned(),
            hex::encode(&collateral.root_ca_crl.0).into_bytes(),
        ),
    ]
}

struct Scenery {
    files: Folder,
    platform: SimulatedPlatform,
    now: u64,
}

impl Scenery {
    /// An offer without collateral, made by a platform of today.
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
        let platform = SimulatedPlatform::create(&Secret::new([1; 32]), now).expect("creates");
        let platform = SimulatedPlatform::load(&platform).expect("loads");
        let mut boot = Boot::new(1);
        boot.platform = platform;
        let mut offer = boot.offer();
        offer.collateral = None;
        let files = Folder::with(&offer);
        files.write("root.der", &boot.platform.root_der());
        Self { files, platform: boot.platform, now }
    }

    fn collateral(&self) -> Collateral {
        self.platform.collateral(self.now).expect("collateral")
    }

    fn verify(&self, service: &str, rest: &str) -> Output {
        let line = format!(
            "evidence offer.json --purpose offer --nonce {OFFER_NONCE} --job {JOB} \
             --reference reference.json --simulated-root root.der --collateral-service {service} {rest}"
        );
        Command::new(env!("CARGO_BIN_EXE_sealtune-verify"))
            .args(line.split_whitespace())
            .current_dir(self.files.path())
            .env("XDG_STATE_HOME", self.files.path().join("state"))
            .env("https_proxy", "http://127.0.0.1:9")
            .env("http_proxy", "http://127.0.0.1:9")
            .output()
            .expect("starts")
    }

    fn refused(&self, pages: Vec<Page>) -> String {
        let service = Service::start(pages);
        let output = self.verify(&service.address, "--collateral fetch --json");
        assert_eq!(output.status.code(), Some(3));
        assert!(output.stdout.is_empty());
        let error: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
        error["error"]["code"].as_str().expect("a code").to_owned()
    }
}

#[test]
fn collateral_is_fetched_and_judged_with() {
    let scenery = Scenery::new();
    let service = Service::start(pages(&scenery.collateral()));
    let output = scenery.verify(&service.address, "--collateral early");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("collateral       yours, number 1"), "{text}");
    assert_eq!(
        service.asked(),
        [
            "GET /sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            "GET /tdx/certification/v4/tcb?fmspc=511D00000000&update=early",
            "GET /tdx/certification/v4/qe/identity?update=early",
            "GET /sgx/certification/v4/rootcacrl",
        ]
    );
    assert!(!scenery.files.path().join("state").exists(), "simulated platforms leave no trace");
    let output = scenery.verify(&service.address, "--collateral fetch --json");
    assert!(output.status.success());
    assert!(service.asked().iter().any(|path| path.ends_with("update=standard")));
}

#[test]
fn without_being_told_to_it_asks_nobody() {
    let scenery = Scenery::new();
    let service = Service::start(pages(&scenery.collateral()));
    let output = scenery.verify(&service.address, "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("ST-EVID-49"));
    assert_eq!(service.asked(), [""; 0]);
}

#[test]
fn a_bad_service_is_no_judgement() {
    let scenery = Scenery::new();
    let with = |change: fn(&mut Vec<Page>)| {
        let mut pages = pages(&scenery.collateral());
        change(&mut pages);
        scenery.refused(pages)
    };
    let unreachable = "ST-COLL-04";
    let answer = "ST-COLL-03";
    assert_eq!(with(|pages| drop(pages.remove(3))), unreachable, "404");
    assert_eq!(with(|pages| pages[1].head = "503 Busy\r\n".into()), unreachable);
    let redirect = |pages: &mut Vec<Page>| {
        pages[0].head = "302 Found\r\nLocation: /sgx/certification/v4/rootcacrl\r\n".into();
    };
    assert_eq!(with(redirect), unreachable, "nobody is followed");
    assert_eq!(with(|pages| pages[0].body = vec![0x30; 1 << 19]), unreachable, "too long");
    assert_eq!(with(|pages| pages[0].body = vec![0x30; 1 << 18]), answer, "too long for a list");
    assert_eq!(with(|pages| pages[0].head = "200 OK\r\n".into()), answer, "no issuer chain");
    assert_eq!(with(|pages| pages[2].body.truncate(9)), answer);
    assert_eq!(with(|pages| pages[3].body = b"<html>".to_vec()), answer);
    // Of the right form, but of another platform: judged, and refused.
    let other = SimulatedPlatform::create(&Secret::new([2; 32]), scenery.now).expect("creates");
    let other = SimulatedPlatform::load(&other).expect("loads");
    let service = Service::start(pages(&other.collateral(scenery.now).expect("collateral")));
    let output = scenery.verify(&service.address, "--collateral fetch");
    assert_eq!(output.status.code(), Some(1));
    // Nobody listens.
    let nobody =
        TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let output = scenery.verify(&format!("http://{nobody}"), "--collateral fetch --json");
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains(unreachable));
}

#[test]
fn good_then_and_would_pass_now() {
    let scenery = Scenery::new();
    let then = serde_json::to_vec(&scenery.collateral()).expect("writes");
    scenery.files.write("then.json", &then);
    let years_later = scenery.now + 2 * 366 * 86_400;
    let time = sealtune_evidence::time::rfc3339(years_later).expect("a time");
    // The file is good at the clock and not two years later.
    let line = format!("--collateral then.json --at {time}");
    let output = scenery.verify("https://pccs.example", &line);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.ends_with("good then: REJECTED\nSIMULATED would pass now: ACCEPTED\n"), "{text}");
    let output = scenery.verify("https://pccs.example", &format!("{line} --json"));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["at"]["outcome"], "rejected");
    assert_eq!(value["at"]["judged_at"], years_later);
    assert_eq!(value["now"]["outcome"], "accepted");
    // What is fetched now says nothing about another time: there the sender's counts, and he sent none.
    let service = Service::start(pages(&scenery.collateral()));
    let line = format!("--collateral fetch --at {} --json", scenery.now);
    let output = scenery.verify(&service.address, &line);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(value["at"]["claims"].to_string().contains("ST-EVID-49"));
    assert_eq!(value["now"]["outcome"], "accepted");
}
