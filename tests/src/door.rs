//! The host's side of a VM's vsock: the socket of `vhost-device-vsock`, which every user of the host could try.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use sealtune_wire::AGENT_PORT;

use crate::Daemon;

/// Longest silence of an agent that is asked something.
const SILENCE: Duration = Duration::from_secs(30);

/// The socket of a VM of this daemon, once it is there.
pub fn find_door(daemon: &Daemon, vm: &str) -> Option<PathBuf> {
    let near = daemon.state().join("run").join(vm).join("host");
    if near.exists() {
        return Some(near);
    }
    // Where the state directory's path is too long for a socket.
    let entries = std::fs::read_dir(std::env::temp_dir()).expect("a temporary directory");
    let mut doors = entries.flatten().map(|entry| entry.path().join(vm).join("host"));
    doors.find(|door| door.exists())
}

/// A connection to the agent that has said nothing yet.
pub fn knock(door: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(door).expect("connect");
    stream.set_read_timeout(Some(SILENCE)).expect("a time limit");
    stream.write_all(format!("CONNECT {AGENT_PORT}\n").as_bytes()).expect("ask for the port");
    let answer = read_line(&mut stream).expect("an answer of the helper");
    assert!(answer.starts_with(b"OK "), "{answer:?}");
    stream
}

/// Up to and with its end, and no byte more.
pub(crate) fn read_line(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") && line.len() < 64 {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    Ok(line)
}
