//! The profile is a property of the measured initramfs; the kernel command line only repeats it.
//! A dev image without the word does not start, nor does a prod image with it: so neither can be
//! taken for the other by somebody who reads the command line.

use std::fs;
use std::io::Read;
use std::path::Path;

use super::InitError;

const PROFILE_FILE: &str = "/etc/sealtune/profile";
const COMMAND_LINE_FILE: &str = "/proc/cmdline";
const DEV_WORD: &str = "sealtune.profile=dev";
const PROFILE_WORD_START: &str = "sealtune.profile=";
const MAX_BYTES: u64 = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    Prod,
    Dev,
}

pub(super) fn check() -> Result<Profile, InitError> {
    decide(&read(Path::new(PROFILE_FILE))?, &read(Path::new(COMMAND_LINE_FILE))?)
}

fn decide(file: &str, command_line: &str) -> Result<Profile, InitError> {
    let profile = match file.trim_end() {
        "prod" => Profile::Prod,
        "dev" => Profile::Dev,
        _ => return Err(InitError::ProfileUnreadable("neither prod nor dev".into())),
    };
    let mut words =
        command_line.split_ascii_whitespace().filter(|word| word.starts_with(PROFILE_WORD_START));
    match (profile, words.next(), words.next()) {
        (Profile::Dev, Some(DEV_WORD), None) => Ok(profile),
        (Profile::Prod, None | Some("sealtune.profile=prod"), None) => Ok(profile),
        (Profile::Dev, ..) => Err(InitError::ProfileMismatch { image: "dev" }),
        (Profile::Prod, ..) => Err(InitError::ProfileMismatch { image: "prod" }),
    }
}

fn read(path: &Path) -> Result<String, InitError> {
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
        .map_err(|error| InitError::ProfileUnreadable(format!("{}: {error}", path.display())))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_and_command_line_must_agree() {
        let dev = "console=ttyS0 sealtune.profile=dev panic=-1\n";
        let prod = "panic=-1 loglevel=0\n";
        assert_eq!(decide("dev\n", dev).unwrap(), Profile::Dev);
        assert_eq!(decide("prod\n", prod).unwrap(), Profile::Prod);
        assert_eq!(decide("prod", "sealtune.profile=prod").unwrap(), Profile::Prod);
        for (file, line) in [
            ("dev", prod),
            ("prod", dev),
            ("dev", "sealtune.profile=developer"),
            ("dev", "sealtune.profile=dev sealtune.profile=prod"),
            ("prod", "sealtune.profile=prod sealtune.profile=dev"),
            ("prod", "sealtune.profile=de"),
        ] {
            assert_eq!(decide(file, line).unwrap_err().code(), "ST-AGENT-03", "{file} {line}");
        }
        assert_eq!(decide("", prod).unwrap_err().code(), "ST-AGENT-02");
        assert_eq!(decide("prod dev", prod).unwrap_err().code(), "ST-AGENT-02");
    }
}
