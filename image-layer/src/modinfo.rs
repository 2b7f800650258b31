//! The `.modinfo` section of a kernel module (ELF64, little endian): NUL-separated `key=value`.
//! Read here because Debian makes `modules.dep` only when a kernel is installed.

/// What a module says about itself that loading needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModInfo {
    pub depends: Vec<String>,
    /// `softdep: pre:` names; used when the kernel has them.
    pub soft_before: Vec<String>,
    pub release: Option<String>,
}

/// The kernel itself refuses far smaller ones than this.
pub const MAX_MODULE_BYTES: u64 = 64 << 20;
const MAX_SECTIONS: u16 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ModInfoError {
    #[error("it is not a 64-bit little-endian ELF file")]
    NotElf,
    #[error("its section table is damaged")]
    BadSections,
    #[error("it has no .modinfo section")]
    NoModInfo,
}

/// # Errors
/// Not such an ELF file, or no `.modinfo` in it.
pub fn parse(module: &[u8]) -> Result<ModInfo, ModInfoError> {
    let section = find_section(module, b".modinfo")?;
    let mut info = ModInfo::default();
    for entry in section.split(|byte| *byte == 0) {
        let Ok(entry) = std::str::from_utf8(entry) else { continue };
        let Some((key, value)) = entry.split_once('=') else { continue };
        match key {
            "depends" => {
                info.depends
                    .extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
            }
            "softdep" => info.soft_before.extend(names_before(value)),
            "vermagic" => info.release = value.split(' ').next().map(str::to_owned),
            _ => {}
        }
    }
    Ok(info)
}

fn names_before(softdep: &str) -> Vec<String> {
    let mut before = false;
    let mut names = Vec::new();
    for word in softdep.split_whitespace() {
        match word {
            "pre:" => before = true,
            "post:" => before = false,
            name if before => names.push(name.to_owned()),
            _ => {}
        }
    }
    names
}

fn find_section<'a>(elf: &'a [u8], wanted: &[u8]) -> Result<&'a [u8], ModInfoError> {
    if elf.get(..6) != Some(b"\x7fELF\x02\x01") {
        return Err(ModInfoError::NotElf);
    }
    let table = read_u64(elf, 0x28).ok_or(ModInfoError::NotElf)?;
    let entry_size = read_u16(elf, 0x3a).ok_or(ModInfoError::NotElf)?;
    let count = read_u16(elf, 0x3c).ok_or(ModInfoError::NotElf)?;
    let names_index = read_u16(elf, 0x3e).ok_or(ModInfoError::NotElf)?;
    if entry_size != 64 || count > MAX_SECTIONS {
        return Err(ModInfoError::BadSections);
    }
    let header = |index: u16| -> Option<&[u8]> {
        let start = usize::try_from(table).ok()?.checked_add(usize::from(index) * 64)?;
        elf.get(start..start.checked_add(64)?)
    };
    let content = |header: &[u8]| -> Option<&'a [u8]> {
        let offset = usize::try_from(read_u64(header, 0x18)?).ok()?;
        let size = usize::try_from(read_u64(header, 0x20)?).ok()?;
        elf.get(offset..offset.checked_add(size)?)
    };
    let names = header(names_index).and_then(content).ok_or(ModInfoError::BadSections)?;
    for index in 0..count {
        let header = header(index).ok_or(ModInfoError::BadSections)?;
        let name_at = read_u32(header, 0)
            .and_then(|at| usize::try_from(at).ok())
            .ok_or(ModInfoError::BadSections)?;
        let name = names.get(name_at..).and_then(|rest| rest.split(|byte| *byte == 0).next());
        if name == Some(wanted) {
            return content(header).ok_or(ModInfoError::BadSections);
        }
    }
    Err(ModInfoError::NoModInfo)
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Is this a static x86-64 program (no interpreter asked for)?
#[must_use]
pub fn is_static_x86_64(elf: &[u8]) -> bool {
    const INTERPRETER: u32 = 3;
    let header = elf.get(..6) == Some(b"\x7fELF\x02\x01") && read_u16(elf, 0x12) == Some(62);
    let (Some(table), Some(size), Some(count)) =
        (read_u64(elf, 0x20), read_u16(elf, 0x36), read_u16(elf, 0x38))
    else {
        return false;
    };
    header
        && size == 56
        && count > 0
        && (0..count).all(|index| {
            usize::try_from(table)
                .ok()
                .and_then(|table| table.checked_add(usize::from(index) * 56))
                .and_then(|at| read_u32(elf, at))
                .is_some_and(|kind| kind != INTERPRETER)
        })
}

/// Hostile bytes give an answer, never a panic; names are those of the bytes.
pub fn fuzz_modinfo(data: &[u8]) {
    let _static = is_static_x86_64(data);
    if let Ok(info) = parse(data) {
        assert!(info.depends.iter().all(|name| !name.is_empty() && !name.contains(',')));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The smallest ELF file that holds this `.modinfo`.
    pub(crate) fn module(modinfo: &[u8]) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let info_at = elf.len() as u64;
        elf.extend(modinfo);
        let names_at = elf.len() as u64;
        elf.extend(names);
        let table = elf.len() as u64;
        let section = |name: u32, at: u64, size: usize| {
            let mut header = vec![0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&at.to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(size as u64).to_le_bytes());
            header
        };
        elf.extend(section(0, 0, 0));
        elf.extend(section(1, info_at, modinfo.len()));
        elf.extend(section(10, names_at, names.len()));
        elf[0x28..0x30].copy_from_slice(&table.to_le_bytes());
        elf[0x3a..0x3c].copy_from_slice(&64u16.to_le_bytes());
        elf[0x3c..0x3e].copy_from_slice(&3u16.to_le_bytes());
        elf[0x3e..0x40].copy_from_slice(&2u16.to_le_bytes());
        elf
    }

    #[test]
    fn dependencies_and_soft_dependencies() {
        let elf = module(b"name=x\0depends=dm-mod,dm-bufio\0softdep=pre: crc32c post: late\0vermagic=7.3.4+deb SMP\0");
        assert_eq!(
            parse(&elf).unwrap(),
            ModInfo {
                depends: vec!["dm-mod".into(), "dm-bufio".into()],
                soft_before: vec!["crc32c".into()],
                release: Some("7.3.4+deb".into()),
            }
        );
        assert_eq!(parse(&module(b"depends=\0")).unwrap(), ModInfo::default());
    }

    #[test]
    fn damaged_files_are_refused() {
        assert_eq!(parse(b"\x7fELF"), Err(ModInfoError::NotElf));
        let elf = module(b"depends=a\0");
        for cut in [10, 64, 80, elf.len() - 1] {
            assert!(parse(&elf[..cut]).is_err(), "{cut}");
        }
        let mut huge = elf.clone();
        huge[0x28..0x30].fill(0xff);
        assert_eq!(parse(&huge), Err(ModInfoError::BadSections));
    }

    #[test]
    fn an_interpreter_makes_a_program_dynamic() {
        let mut elf = vec![0; 64 + 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[0x12] = 62;
        elf[0x20] = 64;
        elf[0x36] = 56;
        elf[0x38] = 1;
        elf[64] = 1;
        assert!(is_static_x86_64(&elf));
        elf[64] = 3;
        assert!(!is_static_x86_64(&elf));
        elf[64] = 1;
        elf[0x12] = 183;
        assert!(!is_static_x86_64(&elf));
        assert!(!is_static_x86_64(b"#!/bin/sh\n"));
    }

    proptest! {
        #[test]
        fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..512), at in 0usize..64, with in any::<u8>()) {
            fuzz_modinfo(&data);
            let mut elf = module(b"depends=a,b\0");
            elf[at] = with;
            fuzz_modinfo(&elf);
        }
    }
}
