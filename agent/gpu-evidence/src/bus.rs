//! PCI addresses, in the one spelling that Linux uses: `dddd:bb:dd.f`, lower case. NVML writes eight digits of domain in
//! upper case.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bus {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl Bus {
    /// Either spelling.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (domain, rest) = text.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (device, function) = rest.split_once('.')?;
        let number = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
            let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !is_hex || !lengths.contains(&text.len()) {
                return None;
            }
            u32::from_str_radix(text, 16).ok()
        };
        let device = u8::try_from(number(device, 2..=2)?).ok().filter(|device| *device < 32)?;
        let function = u8::try_from(number(function, 1..=1)?).ok().filter(|number| *number < 8)?;
        Some(Self {
            domain: number(domain, 4..=8)?,
            bus: u8::try_from(number(bus, 2..=2)?).ok()?,
            device,
            function,
        })
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_one_address() {
        for (text, expected) in [
            ("00000000:01:00.0", "0000:01:00.0"),
            ("0000:01:00.0", "0000:01:00.0"),
            ("00000000:BE:1F.7", "0000:be:1f.7"),
            ("00010000:E1:00.0", "10000:e1:00.0"),
        ] {
            assert_eq!(Bus::parse(text).map(|bus| bus.to_string()).as_deref(), Some(expected));
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "01:00.0",
            "000:01:00.0",
            "000000000:01:00.0",
            "0000:1:00.0",
            "0000:01:20.0",
            "0000:01:00.8",
            "0000:01:00",
            "0000:01:00.0 ",
            "0000:01:00.0\n",
            "+000:01:00.0",
            "0000:01:0g.0",
        ] {
            assert_eq!(Bus::parse(text), None, "{text:?}");
        }
    }
}
