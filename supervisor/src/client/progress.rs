//! What a command says while it works: bars on a terminal, plain lines otherwise. All of it on stderr.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes no time is not told.
const TOLD_BYTES: u64 = 1 << 20;
/// Below this a plain log needs no lines between first and last.
const QUIET_BYTES: u64 = 32 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Progress {
    terminal: bool,
    hint: Arc<Mutex<String>>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let hint = "run the command again".to_owned();
        Self { terminal: std::io::stderr().is_terminal(), hint: Arc::new(Mutex::new(hint)) }
    }

    pub(crate) fn note(&self, text: impl AsRef<str>) {
        write_line(text.as_ref());
    }

    /// What to say if the user interrupts from now on.
    pub(crate) fn set_interrupt_hint(&self, text: impl Into<String>) {
        *self.hint.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    pub(crate) fn interrupt_hint(&self) -> String {
        self.hint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows how far `what` is, in bytes.
    pub(crate) fn bar(&self, what: &'static str, total: u64) -> Bar {
        let drawn = self.terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let template = "{msg:<18} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(what);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Bar { drawn, what, total, shown_quarter: 0 }
    }
}

fn write_line(text: &str) {
    // Nobody is left to be told when stderr is closed.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

#[derive(Debug)]
pub(crate) struct Bar {
    drawn: Option<ProgressBar>,
    what: &'static str,
    total: u64,
    shown_quarter: u64,
}

impl Bar {
    pub(crate) fn at(&mut self, done: u64) {
        if let Some(bar) = &self.drawn {
            bar.set_position(done);
            return;
        }
        let quarter = done.saturating_mul(4).checked_div(self.total).unwrap_or_default();
        if self.total >= QUIET_BYTES && quarter > self.shown_quarter && quarter < 4 {
            self.shown_quarter = quarter;
            write_line(&format!("{}: {} %", self.what, quarter * 25));
        }
    }

    pub(crate) fn done(self) {
        match self.drawn {
            Some(bar) => bar.finish_and_clear(),
            None if self.total >= TOLD_BYTES => {
                write_line(&format!("{}: {} bytes", self.what, self.total));
            }
            None => {}
        }
    }
}

/// Text from a job or a provider, without what could steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                '\u{fffd}'
            }
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_log_cannot_steer_the_terminal() {
        assert_eq!(
            printable("loss\t1\n\u{1b}[2Jx\r\u{202e}"),
            "loss\t1\n\u{fffd}[2Jx\u{fffd}\u{fffd}"
        );
    }
}
