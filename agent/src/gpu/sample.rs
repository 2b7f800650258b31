//! Evidence of the right form for tests. Its transcript is a request alone, which the agent reads; nobody signed it.

use base64::{Engine as _, engine::general_purpose::STANDARD};

pub(crate) fn document(device: &str, challenge: &[u8; 32]) -> String {
    let transcript = [[0x11, 0xe0, 0x01, 0xff].as_slice(), challenge, &[0]].concat();
    let cc = r#"{"environment":"prod","feature":"on","gpus_ready":false,"multi_gpu":"none"}"#;
    format!(
        r#"{{"architecture":"hopper","cc":{cc},"certificates":"","device":"{device}","driver_version":"550.90.07","mig":"off","transcript":"{}","vbios_version":"96.00","version":1,"virtualization":"pass-through"}}"#,
        STANDARD.encode(transcript)
    )
}

/// The same of a switch.
pub(crate) fn switch_document(device: &str, challenge: &[u8; 32]) -> String {
    let transcript = [[0x11, 0xe0, 0x01, 0xff].as_slice(), challenge, &[0]].concat();
    format!(
        r#"{{"architecture":"ls10","bios_version":"96.10","certificates":"","device":"{device}","transcript":"{}","version":1}}"#,
        STANDARD.encode(transcript)
    )
}
