//! Stands between a daemon and its VM and cuts their connections, as a host that is in trouble does.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sealtune_wire::{
    frame::{self, HELLO_LIMIT},
    hello::{AgentHello, Answer, Purpose, SupervisorHello},
};

use crate::door::read_line;

/// One connection that came through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    pub purpose: Purpose,
    /// Where the agent wants to go on.
    pub welcomed: Option<u64>,
    pub into_vm: usize,
    pub out_of_vm: usize,
    /// Whether it was cut here.
    pub is_cut: bool,
}

/// The first transfer in each direction that has come so far is cut there, once.
#[derive(Debug, Clone, Copy)]
pub struct Cuts {
    pub into_vm: usize,
    pub out_of_vm: usize,
}

#[derive(Debug)]
struct State {
    passed: Vec<Passed>,
    /// `None` once it was done.
    into_vm: Option<usize>,
    out_of_vm: Option<usize>,
    controls: Vec<UnixStream>,
}

/// For one VM, as long as this test runs.
#[derive(Debug)]
pub struct Cutter {
    state: Arc<Mutex<State>>,
}

fn open(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cutter {
    /// Takes the place of a VM's socket. A connection that comes in this moment is refused and made again.
    pub fn place(door: &Path, cuts: Cuts) -> Self {
        let far = door.with_file_name("far");
        std::fs::rename(door, &far).expect("move the socket");
        let listener = UnixListener::bind(door).expect("listen in its place");
        let state = Arc::new(Mutex::new(State {
            passed: Vec::new(),
            into_vm: Some(cuts.into_vm),
            out_of_vm: Some(cuts.out_of_vm),
            controls: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let (far, state) = (far.clone(), Arc::clone(&shared));
                // A connection that breaks is made again by the daemon.
                std::thread::spawn(move || pass(near, far, &state).ok());
            }
        });
        Self { state }
    }

    pub fn passed(&self) -> Vec<Passed> {
        open(&self.state).passed.clone()
    }

    /// Cuts the control connections that there are; says how many there were.
    pub fn cut_control(&self) -> usize {
        let controls = std::mem::take(&mut open(&self.state).controls);
        for control in &controls {
            let _ = control.shutdown(Shutdown::Both);
        }
        controls.len()
    }
}

fn pass(mut near: UnixStream, far: PathBuf, state: &Mutex<State>) -> std::io::Result<()> {
    let mut far = UnixStream::connect(far)?;
    far.write_all(&read_line(&mut near)?)?;
    near.write_all(&read_line(&mut far)?)?;
    let hello = read_frame(&mut near)?;
    far.write_all(&hello)?;
    let answer = read_frame(&mut far)?;
    near.write_all(&answer)?;
    let (Some(hello), Some(answer)) =
        (decode::<SupervisorHello>(&hello), decode::<AgentHello>(&answer))
    else {
        return Ok(());
    };
    let welcomed = match answer.answer {
        Answer::Welcome { offset, .. } => Some(offset),
        Answer::Refused { .. } => None,
    };
    let is_control = matches!(hello.purpose, Purpose::Control { .. });
    let index = {
        let mut state = open(state);
        if is_control {
            state.controls.push(near.try_clone()?);
        }
        let (into_vm, out_of_vm, is_cut) = (0, 0, false);
        state.passed.push(Passed { purpose: hello.purpose, welcomed, into_vm, out_of_vm, is_cut });
        state.passed.len() - 1
    };
    let count = |direction: Direction, bytes: usize| {
        let mut state = open(state);
        let State { passed, into_vm, out_of_vm, .. } = &mut *state;
        let Some(passed) = passed.get_mut(index) else { return true };
        let (count, limit) = match direction {
            Direction::IntoVm => (&mut passed.into_vm, into_vm),
            Direction::OutOfVm => (&mut passed.out_of_vm, out_of_vm),
        };
        *count += bytes;
        let is_over = !is_control && limit.is_some_and(|limit| *count >= limit);
        if is_over {
            *limit = None;
            passed.is_cut = true;
        }
        !is_over
    };
    std::thread::scope(|scope| {
        scope.spawn(|| pump(&near, &far, |bytes| count(Direction::IntoVm, bytes)));
        pump(&far, &near, |bytes| count(Direction::OutOfVm, bytes));
    });
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    IntoVm,
    OutOfVm,
}

/// Passes on until one side has gone or `goes_on` says no; then both sides are gone.
fn pump(mut from: &UnixStream, mut to: &UnixStream, goes_on: impl Fn(usize) -> bool) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..read).unwrap_or_default();
        if to.write_all(bytes).is_err() || !goes_on(read) {
            break;
        }
    }
    for side in [from, to] {
        let _ = side.shutdown(Shutdown::Both);
    }
}

/// A frame with its header.
fn read_frame(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header)?;
    let length = frame::body_length(header, HELLO_LIMIT).map_err(std::io::Error::other)?;
    let mut frame = header.to_vec();
    frame.resize(4 + length, 0);
    stream.read_exact(frame.get_mut(4..).unwrap_or_default())?;
    Ok(frame)
}

fn decode<T: serde::de::DeserializeOwned>(frame: &[u8]) -> Option<T> {
    frame::decode(frame.get(4..)?).ok()
}
