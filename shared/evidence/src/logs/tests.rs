//! Logs that are made here, with every way in which they can be wrong, and logs of real machines.

pub(crate) mod ccel;
mod dstack;
pub(crate) mod hardware;
mod identity;

/// Seeded positions for flips: the same in every run.
pub(crate) fn positions(length: usize, count: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("64 bits") % length
    })
    .take(count)
}
