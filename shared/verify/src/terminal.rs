//! What a terminal may be shown of texts that others wrote: nothing that moves, turns or hides, and nothing endless.

use std::fmt::Write as _;

use sealtune_evidence::verdict::is_invisible;

/// Parsers quote what they did not understand, however long it is.
const MOST: usize = 1000;

/// One line of a message.
pub fn line(text: &str) -> String {
    let shown = |c| if is_invisible(c) { char::REPLACEMENT_CHARACTER } else { c };
    let mut line: String = text.chars().take(MOST).map(shown).collect();
    if text.chars().nth(MOST).is_some() {
        line.push('…');
    }
    line
}

/// JSON of the same meaning in which such characters are escaped; they occur within its strings only. The line ends at its
/// end stay.
pub fn json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !is_invisible(c) {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_means_the_same_and_hides_nothing() {
        let value = serde_json::json!({ "a": "\u{1b}[2J\u{9b}31m\u{202e}\u{7f}\u{e0041}\u{2028}x", "größe": [1] });
        let shown = json(&format!("{value}\n"));
        assert!(shown.ends_with("\n") && !shown.trim_end().chars().any(is_invisible), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
        assert!(shown.contains("größe"));
    }

    #[test]
    fn a_message_is_one_line_that_ends() {
        assert_eq!(line("a\n\u{1b}[31mb"), "a\u{fffd}\u{fffd}[31mb");
        assert_eq!(line(&"ä".repeat(5000)).chars().count(), MOST + 1);
    }
}
