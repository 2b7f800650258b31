//! Zip files with every field as a forger would set it.

/// One entry with every field that a forger can set.
#[derive(Clone)]
pub(super) struct Raw {
    pub(super) name: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) declared_size: u32,
    pub(super) crc: u32,
    pub(super) method: u16,
    pub(super) flags: u16,
    pub(super) mode: u32,
    pub(super) local_name: Option<Vec<u8>>,
}

impl Raw {
    pub(super) fn stored(name: &str, data: &[u8]) -> Self {
        Self {
            name: name.into(),
            data: data.into(),
            declared_size: data.len() as u32,
            crc: crc32(data),
            method: 0,
            flags: 0,
            mode: 0o100_644,
            local_name: None,
        }
    }

    pub(super) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

pub(super) fn raw_zip(entries: &[Raw]) -> Vec<u8> {
    fn fields(out: &mut Vec<u8>, entry: &Raw, name: &[u8]) {
        out.extend(20_u16.to_le_bytes());
        out.extend(entry.flags.to_le_bytes());
        out.extend(entry.method.to_le_bytes());
        out.extend([0, 0, 0x21, 0]);
        out.extend(entry.crc.to_le_bytes());
        out.extend((entry.data.len() as u32).to_le_bytes());
        out.extend(entry.declared_size.to_le_bytes());
        out.extend((name.len() as u16).to_le_bytes());
        out.extend(0_u16.to_le_bytes());
    }
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let offset = out.len() as u32;
        let local_name = entry.local_name.as_ref().unwrap_or(&entry.name);
        out.extend(b"PK\x03\x04");
        fields(&mut out, entry, local_name);
        out.extend(local_name);
        out.extend(&entry.data);
        directory.extend(b"PK\x01\x02");
        directory.extend([20, 3]);
        fields(&mut directory, entry, &entry.name);
        directory.extend([0; 6]);
        directory.extend((entry.mode << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(&entry.name);
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    let count = (entries.len() as u16).to_le_bytes();
    out.extend(count);
    out.extend(count);
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}
