//! The container's process 1. It starts the program as its child and stays: a process 1 ignores
//! every signal that it sends itself, SIGKILL included, and would have to reap what the program
//! leaves behind. It has the program's user, filters and empty capabilities, holds one descriptor
//! and no secret, and writes how the program ended.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;

use super::inherited;

/// One byte for the kind, four for the number, little-endian.
const RECORD_BYTES: usize = 5;

/// How the program ended, told by the process that waited for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProgramEnd {
    Code(i32),
    Signal(i32),
}

impl ProgramEnd {
    fn of(status: WaitStatus, program: Pid) -> Option<Self> {
        match status {
            WaitStatus::Exited(pid, code) if pid == program => Some(Self::Code(code)),
            WaitStatus::Signaled(pid, signal, _) if pid == program => {
                Some(Self::Signal(signal as i32))
            }
            _ => None,
        }
    }

    fn to_record(self) -> [u8; RECORD_BYTES] {
        let (kind, number) = match self {
            Self::Code(number) => (0, number),
            Self::Signal(number) => (1, number),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [kind, a, b, c, d]
    }

    fn from_record(record: &[u8]) -> Option<Self> {
        let [kind, a, b, c, d] = *record else { return None };
        let number = i32::from_le_bytes([a, b, c, d]);
        match kind {
            0 if (0..=255).contains(&number) => Some(Self::Code(number)),
            1 if (1..=64).contains(&number) => Some(Self::Signal(number)),
            _ => None,
        }
    }

    /// What process 1 wrote before it ended; `None` where it was killed before it could.
    pub(super) fn read(from: OwnedFd) -> Option<Self> {
        let mut record = Vec::with_capacity(RECORD_BYTES);
        let mut file = File::from(from).take(RECORD_BYTES as u64 + 1);
        file.read_to_end(&mut record).ok()?;
        Self::from_record(&record)
    }
}

/// Reaps until `program` ends, says how, and ends; the kernel then kills the rest.
pub(super) fn stand_by(program: Pid, told: OwnedFd) -> ! {
    let Ok(told) = inherited::keep_only(told) else { std::process::exit(1) };
    // Its memory is nobody's to read or write, though the program has the same user. If this
    // failed, the program could change what is told of it, which it can choose anyway.
    let _ = nix::sys::prctl::set_dumpable(false);
    let end = loop {
        match wait() {
            Ok(status) => {
                if let Some(end) = ProgramEnd::of(status, program) {
                    break Some(end);
                }
            }
            Err(Errno::EINTR) => {}
            Err(_) => break None,
        }
    };
    let written = end.map(|end| File::from(told).write_all(&end.to_record()));
    std::process::exit(i32::from(!matches!(written, Some(Ok(())))))
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    #[test]
    fn records_come_back_and_nothing_else_is_one() {
        for end in [ProgramEnd::Code(0), ProgramEnd::Code(255), ProgramEnd::Signal(9)] {
            assert_eq!(ProgramEnd::from_record(&end.to_record()), Some(end));
        }
        let strange: [&[u8]; 7] = [
            &[],
            &[0],
            &[0, 0, 0, 0],
            &[0, 0, 1, 0, 0],
            &[1, 0, 0, 0, 0],
            &[2, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0],
        ];
        for record in strange {
            assert_eq!(ProgramEnd::from_record(record), None, "{record:?}");
        }
    }

    #[test]
    fn only_the_programs_own_end_counts() {
        let program = Pid::from_raw(2);
        let orphan = Pid::from_raw(3);
        let ended = |status| ProgramEnd::of(status, program);
        assert_eq!(ended(WaitStatus::Exited(program, 3)), Some(ProgramEnd::Code(3)));
        let killed = WaitStatus::Signaled(program, Signal::SIGKILL, false);
        assert_eq!(ended(killed), Some(ProgramEnd::Signal(9)));
        assert_eq!(ended(WaitStatus::Exited(orphan, 3)), None);
        assert_eq!(ended(WaitStatus::Stopped(program, Signal::SIGSTOP)), None);
    }

    #[test]
    fn an_end_that_nobody_told_is_none() {
        let (reading, writing) = std::io::pipe().unwrap();
        drop(writing);
        assert_eq!(ProgramEnd::read(reading.into()), None);
        let (reading, mut writing) = std::io::pipe().unwrap();
        writing.write_all(&ProgramEnd::Signal(11).to_record()).unwrap();
        drop(writing);
        assert_eq!(ProgramEnd::read(reading.into()), Some(ProgramEnd::Signal(11)));
    }
}
