//! Another user of the host reaches a VM's port without the token, and says everything that it should not.
#![expect(clippy::expect_used, reason = "a story that cannot go on has failed")]

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use sealtune_job::Hex;
use sealtune_tests::{Daemon, Options, SOON, find_door, knock, stage_or_skip, until};
use sealtune_wire::{
    frame::{self, CONTROL_LIMIT, HELLO_LIMIT},
    hello::{AgentHello, Answer, Magic, ProtocolRange, Purpose, SupervisorHello},
};

fn hello(protocol: ProtocolRange, purpose: Purpose) -> Vec<u8> {
    let hello = SupervisorHello {
        magic: Magic::Sealtune,
        protocol,
        release: "0.0.0".into(),
        token: Hex([7; 32]),
        purpose,
    };
    frame::encode(&hello, HELLO_LIMIT).expect("small")
}

/// What the agent answers to these bytes: its refusal's code, or nothing.
fn answer(door: &Path, bytes: &[u8]) -> Option<String> {
    let mut stream = knock(door);
    // The agent may have closed already: it reads no more than it must.
    let _ = stream.write_all(bytes);
    let mut header = [0; 4];
    stream.read_exact(&mut header).ok()?;
    let mut body = vec![0; frame::body_length(header, CONTROL_LIMIT).expect("a bounded answer")];
    stream.read_exact(&mut body).ok()?;
    let hello: AgentHello = frame::decode(&body).expect("a hello");
    match hello.answer {
        Answer::Refused { code } => Some(code),
        Answer::Welcome { .. } => panic!("the agent let a stranger in"),
    }
}

#[test]
fn a_stranger_is_refused_and_changes_nothing() {
    let stage = stage_or_skip!();
    let mut daemon = Daemon::start(&stage, Options::default());
    let started = daemon.operator(&["vm", "start"]).json();
    let vm = started["vm"].as_str().expect("a name").to_owned();
    let ready = daemon.vm_becomes(&vm, &["ready"]);
    // Also while nobody is connected who could be protected by being first.
    daemon.kill();
    let door = find_door(&daemon, &vm).expect("the VM's socket");
    let ours = ProtocolRange::ours();
    let control = || Purpose::Control { generation: u64::MAX, acknowledged: u64::MAX };
    let stream = Purpose::Stream { stream: Hex([1; 16]), offset: u64::MAX };
    let mut unknown_field = br#"{"magic":"sealtune","surprise":1}"#.to_vec();
    unknown_field.splice(0..0, 33u32.to_be_bytes());
    let cases = [
        ("no token", hello(ours, control()), "ST-AGENT-53"),
        ("a stream", hello(ours, stream), "ST-AGENT-53"),
        (
            "a version of tomorrow",
            hello(ProtocolRange { min: 99, max: 99 }, control()),
            "ST-AGENT-52",
        ),
        ("an unknown field", unknown_field, "ST-AGENT-50"),
        ("a frame without end", u32::MAX.to_be_bytes().to_vec(), "ST-AGENT-50"),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "ST-AGENT-50"),
    ];
    for (what, bytes, expected) in cases {
        // A refusal may be lost with its connection, but not each time.
        let code = (0..3).find_map(|_| answer(&door, &bytes));
        assert_eq!(code.as_deref(), Some(expected), "{what}");
    }
    let silent: Vec<UnixStream> = (0..6).map(|_| knock(&door)).collect();
    drop(silent);

    daemon.start_again();
    let again = daemon.vm_becomes(&vm, &["ready"]);
    assert_eq!(again["instance"], ready["instance"], "the same boot serves its owner");
    daemon.operator(&["vm", "stop", &vm]).json();
    daemon.vm_becomes(&vm, &["stopped"]);
    until(SOON, "QEMU is gone", || daemon.qemu_pids().is_empty().then_some(()));
}
