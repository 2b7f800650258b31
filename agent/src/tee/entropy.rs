//! Random numbers for keys. getrandom() blocks until the kernel's generator has seeded; the CPU's RDSEED goes into its
//! pool before, so that a host which feeds the guest its other noise still does not know the outcome. The host gets no
//! credit: virtio-rng is not loaded.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

const WORDS: usize = 8;
const TRIES: usize = 64;
/// `_IO('R', 7)`: what was written to the pool counts from now on.
const RESEED: u32 = 0x5207;

/// Mixes what the CPU gives into the kernel's pool and waits until the generator has seeded.
pub(crate) fn prepare() -> Result<(), String> {
    if let Some(words) = rdseed() {
        mix(&words);
    }
    let mut seeded = [0; 32];
    getrandom::fill(&mut seeded).map_err(|error| error.to_string())
}

/// Mixing adds and never takes away, so a failure costs nothing.
#[expect(unsafe_code, reason = "the reseed is an ioctl without argument")]
fn mix(words: &[u64; WORDS]) {
    let Ok(mut pool) = File::options().write(true).open("/dev/urandom") else { return };
    let bytes = words.map(u64::to_ne_bytes);
    if pool.write_all(bytes.as_flattened()).is_ok() {
        // SAFETY: the command takes no argument; the descriptor is open. Without the privilege it fails, and the pool
        // is reseeded later.
        let _ = unsafe { libc::ioctl(pool.as_raw_fd(), RESEED as libc::Ioctl, 0) };
    }
}

/// Nothing where the CPU has no RDSEED or stays exhausted.
#[expect(unsafe_code, reason = "the instruction must be asked for before it is used")]
fn rdseed() -> Option<[u64; WORDS]> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("rdseed") {
        // SAFETY: the CPU has RDSEED, which was just asked.
        return unsafe { rdseed_words() };
    }
    None
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "rdseed")]
fn rdseed_words() -> Option<[u64; WORDS]> {
    let mut words = [0; WORDS];
    for word in &mut words {
        let found = (0..TRIES).any(|_| core::arch::x86_64::_rdseed64_step(word) == 1);
        if !found {
            return None;
        }
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_ready_and_the_cpu_repeats_nothing() {
        prepare().unwrap();
        if let (Some(one), Some(other)) = (rdseed(), rdseed()) {
            assert_ne!(one, other);
        }
    }
}
