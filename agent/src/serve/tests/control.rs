//! Connections, tokens, versions, the launch check, the end.

use std::process::ExitCode;
use std::time::Duration;

use sealtune_job::{Hex, JobId};
use sealtune_wire::frame::{self, HELLO_LIMIT};
use sealtune_wire::hello::{Answer, Purpose};
use sealtune_wire::v1::{
    AgentEvent, AgentReply, AgentRequest, OutsidePurpose, ToAgent, ToSupervisor,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::double::{Bench, TOKEN, code, configuration, launch, read_answer};

fn evidence(purpose: OutsidePurpose, nonce: u8) -> AgentRequest {
    AgentRequest::Evidence { purpose, nonce: Hex([nonce; 32]) }
}

#[tokio::test]
async fn first_messages_that_are_none_are_refused() {
    let bench = Bench::new(None);
    let wrong = serde_json::json!({
        "magic": "sealtune", "protocol": {"min": 7, "max": 9}, "release": "x",
        "token": hex::encode(TOKEN), "purpose": {"kind": "control", "generation": 1, "acknowledged": 0},
    });
    let unknown = serde_json::json!({"magic": "sealtune", "surprise": 1});
    for (hello, expected) in [(wrong, "ST-AGENT-52"), (unknown, "ST-AGENT-50")] {
        let mut io = bench.dial().await;
        io.write_all(&frame::encode(&hello, HELLO_LIMIT).unwrap()).await.unwrap();
        assert_eq!(code(&read_answer(&mut io).await), expected);
    }
    let mut io = bench.dial().await;
    io.write_all(&[0xff; 4]).await.unwrap();
    assert_eq!(code(&read_answer(&mut io).await), "ST-AGENT-50");
}

#[tokio::test(start_paused = true)]
async fn silent_and_too_many_connections_are_refused() {
    let bench = Bench::new(None);
    let mut silent = bench.dial().await;
    assert_eq!(code(&read_answer(&mut silent).await), "ST-AGENT-50");
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(bench.dial().await);
    }
    let mut ninth = bench.dial().await;
    assert_eq!(code(&read_answer(&mut ninth).await), "ST-AGENT-51");
}

#[tokio::test]
async fn before_the_launch_only_the_launch_is_answered() {
    let bench = Bench::new(None);
    let mut peer = bench.control(1, 0).await;
    for request in [
        evidence(OutsidePurpose::Identity, 1),
        evidence(OutsidePurpose::Offer, 1),
        AgentRequest::Status,
        AgentRequest::Shutdown,
        AgentRequest::Cancel { job: JobId::from_bytes([1; 16]) },
    ] {
        assert_eq!(peer.request(request).await, Err("ST-AGENT-56".into()));
    }
    peer.send(&ToAgent::Ping { nonce: 9 }).await;
    assert_eq!(peer.next().await, Some(ToSupervisor::Pong { nonce: 9 }));
    let purpose = Purpose::Stream { stream: Hex([1; 16]), offset: 0 };
    assert_eq!(code(&bench.meet(purpose, TOKEN).await.0), "ST-AGENT-56");
}

#[tokio::test]
async fn a_configuration_that_the_cpu_did_not_measure_is_the_end() {
    let bench = Bench::new(None);
    let mut peer = bench.control(1, 0).await;
    peer.measured.shape.vcpus = 1;
    let reply = peer.request(launch(&configuration())).await;
    assert_eq!(reply, Err("ST-EVID-06".into()));
    assert_eq!(peer.event().await, (1, AgentEvent::Fatal { code: "ST-EVID-06".into() }));
    assert!(peer.extended.is_empty());
    drop(peer);
    assert_eq!(bench.hub.await.unwrap(), ExitCode::FAILURE);
}

#[tokio::test]
async fn bytes_that_are_not_canonical_are_the_end_too() {
    let bench = Bench::new(None);
    let mut peer = bench.control(1, 0).await;
    let request = AgentRequest::Launch { configuration: "e30=".into() };
    assert_eq!(peer.request(request).await, Err("ST-EVID-01".into()));
    drop(peer);
    assert_eq!(bench.hub.await.unwrap(), ExitCode::FAILURE);
}

#[tokio::test]
async fn whoever_lacks_the_token_is_turned_away_before_and_after_the_launch() {
    let bench = Bench::new(None);
    let purpose = |generation| Purpose::Control { generation, acknowledged: 0 };
    let (answer, io) = bench.meet(purpose(5), [6; 32]).await;
    assert_eq!(code(&answer), "welcome");
    let mut thief = super::double::Peer::of(io);
    assert_eq!(thief.request(launch(&configuration())).await, Err("ST-AGENT-53".into()));
    assert_eq!(thief.next().await, None);
    drop(thief);

    let mut peer = bench.control(1, 0).await;
    assert!(peer.request(launch(&configuration())).await.is_ok());
    assert_eq!(code(&bench.meet(purpose(9), [6; 32]).await.0), "ST-AGENT-53");
    let stream = Purpose::Stream { stream: Hex([1; 16]), offset: 0 };
    assert_eq!(code(&bench.meet(stream.clone(), [6; 32]).await.0), "ST-AGENT-53");
    assert_eq!(code(&bench.meet(stream, TOKEN).await.0), "ST-AGENT-55");
}

#[tokio::test]
async fn a_repeated_launch_gives_the_same_answer_and_another_none() {
    let (_bench, mut peer) = Bench::launched(None).await;
    assert_eq!(peer.extended, ["sealtune-launch"]);
    let mut instances = Vec::new();
    for _ in 0..2 {
        let Ok(AgentReply::Launched(launched)) = peer.request(launch(&configuration())).await
        else {
            panic!("not launched");
        };
        instances.push(launched.instance);
    }
    assert_eq!(instances[0], instances[1]);
    assert_eq!(peer.extended, ["sealtune-launch"]);
    let mut other = configuration();
    other.shape.vcpus = 1;
    assert_eq!(peer.request(launch(&other)).await, Err("ST-AGENT-57".into()));
}

#[tokio::test]
async fn a_newer_control_connection_replaces_the_older_one() {
    let (bench, mut peer) = Bench::launched(None).await;
    let old = Purpose::Control { generation: 1, acknowledged: 0 };
    assert_eq!(code(&bench.meet(old, TOKEN).await.0), "ST-AGENT-54");
    let mut newer = bench.control(2, 0).await;
    assert_eq!(peer.next().await, None);
    assert!(newer.request(AgentRequest::Status).await.is_ok());
}

#[tokio::test]
async fn evidence_is_made_for_the_nonce_and_never_for_none() {
    let (_bench, mut peer) = Bench::launched(None).await;
    let Ok(AgentReply::Evidence(made)) = peer.request(evidence(OutsidePurpose::Offer, 3)).await
    else {
        panic!("no evidence");
    };
    assert_eq!(made.tee, "simulated");
    let claims = sealtune_evidence::Claims::parse(made.claims.as_bytes()).unwrap();
    assert_eq!(claims.nonce.0, [3; 32]);
    assert_eq!(claims.purpose, sealtune_evidence::Purpose::Offer);
    assert!(made.event_log.contains("sealtune-launch"));
    let none = peer.request(evidence(OutsidePurpose::Identity, 0)).await;
    assert_eq!(none, Err("ST-EVID-11".into()));
}

#[tokio::test]
async fn a_shutdown_is_answered_before_the_end() {
    let (bench, mut peer) = Bench::launched(None).await;
    assert_eq!(peer.request(AgentRequest::Shutdown).await, Ok(AgentReply::Done));
    drop(peer);
    assert_eq!(bench.hub.await.unwrap(), ExitCode::SUCCESS);
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_alone_are_the_end() {
    let bench = Bench::new(None);
    let started = tokio::time::Instant::now();
    assert_eq!(bench.hub.await.unwrap(), ExitCode::SUCCESS);
    let alone = started.elapsed();
    assert!(alone >= Duration::from_secs(600) && alone < Duration::from_secs(620), "{alone:?}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_for_thirty_seconds_is_gone() {
    let bench = Bench::new(None);
    let purpose = Purpose::Control { generation: 1, acknowledged: 0 };
    let (answer, mut io) = bench.meet(purpose, TOKEN).await;
    assert!(matches!(answer, Answer::Welcome { .. }));
    let started = tokio::time::Instant::now();
    let mut everything = Vec::new();
    io.read_to_end(&mut everything).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(30));
    assert!(!everything.is_empty(), "it pings");
    assert!(started.elapsed() < Duration::from_secs(40));
}
