//! Little-endian fields at an offset of hostile bytes.

pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

/// A 32-bit field that is used as an offset or a length.
pub(super) fn size_at(bytes: &[u8], at: usize) -> Option<usize> {
    u32_at(bytes, at).and_then(|value| usize::try_from(value).ok())
}

/// Overwrites bytes at an offset; false where they do not fit.
pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> bool {
    let end = at.checked_add(value.len());
    match end.and_then(|end| bytes.get_mut(at..end)) {
        Some(field) => {
            field.copy_from_slice(value);
            true
        }
        None => false,
    }
}
