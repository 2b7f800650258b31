//! What the training process says, on its way out: to the owner in sealed frames, to the host where the job is plain or
//! its owner said so.
//!
//! While a sealed job trains, every [`PACE`] exactly one log and one metric frame of one size go out, full or empty, and
//! after its end a fixed number of each: neither pace nor count nor size says anything about the content. What does not
//! fit is dropped and counted. The host sees percent in steps of five, at most every ten seconds, never downwards.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sealtune_job::{Disclosure, JobId, MetricEvent, coarse_percent};
use sealtune_seal::frames::MAX_FRAME_DATA;
use sealtune_wire::v1::{AgentEvent, FrameStream, LogStream};

use super::JobError;
use super::owner::OwnerChannel;

pub(crate) const PACE: Duration = Duration::from_secs(2);
const PERCENT_PACE: Duration = Duration::from_secs(10);
/// After the end, always as many of each: 256 KiB of log, 16 KiB of metrics.
const LAST_LOG_FRAMES: usize = 64;
const LAST_METRIC_FRAMES: usize = 4;
const MAX_METRICS: usize = 256;
/// A longer line goes out in pieces; a metric line is refused.
const MAX_LINE: usize = 2048;
/// Where nothing is sealed, this much goes out at a time.
const PLAIN_BATCH: usize = 64 * 1024;
/// Text of one plain log event: also when each byte needs six in JSON, it is far below what may be on its way.
const PLAIN_TEXT: usize = 2 * 1024;

/// Who gets what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Audience {
    pub(crate) owner: bool,
    pub(crate) host: bool,
}

impl Audience {
    pub(crate) fn of(disclosure: Disclosure, is_sealed: bool) -> Self {
        match (is_sealed, disclosure) {
            (false, _) => Self { owner: false, host: true },
            (true, Disclosure::Owner) => Self { owner: true, host: false },
            (true, Disclosure::Host) => Self { owner: true, host: true },
            (true, Disclosure::None) => Self { owner: false, host: false },
        }
    }
}

/// Cuts a byte stream into lines of bounded length.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], mut line: impl FnMut(Vec<u8>)) {
        for byte in bytes {
            self.partial.push(*byte);
            if *byte == b'\n' || self.partial.len() == MAX_LINE {
                line(std::mem::take(&mut self.partial));
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Progress {
    job: JobId,
    audience: Audience,
    lines: [Lines; 3],
    events: Lines,
    log: VecDeque<(LogStream, Vec<u8>)>,
    log_bytes: usize,
    /// What the job may still log.
    log_left: u64,
    dropped: u64,
    metrics: VecDeque<String>,
    last_metric: Option<String>,
    percent: Option<u8>,
    shown_percent: Option<u8>,
    percent_shown_at: Option<Instant>,
    began: Instant,
    first_output: Option<Duration>,
}

impl Progress {
    pub(crate) fn new(job: JobId, audience: Audience, log_bytes: u64) -> Self {
        Self {
            job,
            audience,
            lines: Default::default(),
            events: Lines::default(),
            log: VecDeque::new(),
            log_bytes: 0,
            log_left: log_bytes,
            dropped: 0,
            metrics: VecDeque::new(),
            last_metric: None,
            percent: None,
            shown_percent: None,
            percent_shown_at: None,
            began: Instant::now(),
            first_output: None,
        }
    }

    /// How long the script took to write anything.
    pub(crate) fn first_output(&self) -> Option<Duration> {
        self.first_output
    }

    pub(crate) fn log(&mut self, stream: LogStream, bytes: &[u8]) {
        if stream != LogStream::Progress && !bytes.is_empty() {
            self.first_output.get_or_insert_with(|| self.began.elapsed());
        }
        let index = match stream {
            LogStream::Stdout => 0,
            LogStream::Stderr => 1,
            LogStream::Progress => 2,
        };
        let mut lines = std::mem::take(&mut self.lines[index]);
        lines.push(bytes, |line| self.keep_line(stream, line));
        self.lines[index] = lines;
    }

    fn keep_line(&mut self, stream: LogStream, line: Vec<u8>) {
        let length = line.len() as u64;
        if self.audience == (Audience { owner: false, host: false }) {
            return;
        }
        if length > self.log_left {
            self.dropped += length;
            return;
        }
        self.log_left -= length;
        self.log_bytes += line.len();
        self.log.push_back((stream, line));
    }

    /// Bytes of the events pipe: one metric a line. What is no metric is dropped unseen.
    pub(crate) fn events(&mut self, bytes: &[u8]) {
        let mut events = std::mem::take(&mut self.events);
        events.push(bytes, |line| {
            if let Ok(event) = MetricEvent::parse(line.trim_ascii()) {
                self.keep_metric(event);
            }
        });
        self.events = events;
    }

    fn keep_metric(&mut self, event: MetricEvent) {
        if let Some(percent) = event.percent() {
            self.percent = Some(self.percent.unwrap_or(0).max(percent));
        }
        let Ok(text) = serde_json::to_string(&event) else { return };
        // The newest tell more than the oldest.
        if self.metrics.len() == MAX_METRICS {
            self.metrics.pop_front();
        }
        self.metrics.push_back(text.clone());
        self.last_metric = Some(text);
    }

    pub(crate) fn last_metric(&self) -> Option<&str> {
        self.last_metric.as_deref()
    }

    /// What goes out at one beat of the pace.
    pub(crate) fn beat(
        &mut self,
        now: Instant,
        owner: Option<&mut OwnerChannel>,
    ) -> Result<Vec<AgentEvent>, JobError> {
        let mut events = Vec::new();
        self.show_percent(now, &mut events);
        match owner.filter(|_| self.audience.owner) {
            Some(owner) => self.sealed_beat(owner, 1, 1, &mut events)?,
            None => self.plain_beat(PLAIN_BATCH, &mut events),
        }
        Ok(events)
    }

    /// What goes out after the end, and no more after that.
    pub(crate) fn last_words(
        &mut self,
        owner: Option<&mut OwnerChannel>,
    ) -> Result<Vec<AgentEvent>, JobError> {
        for (index, stream) in
            [LogStream::Stdout, LogStream::Stderr, LogStream::Progress].into_iter().enumerate()
        {
            let rest = std::mem::take(&mut self.lines[index].partial);
            if !rest.is_empty() {
                self.keep_line(stream, rest);
            }
        }
        let mut events = Vec::new();
        match owner.filter(|_| self.audience.owner) {
            Some(owner) => {
                self.drop_all_but_the_end();
                self.sealed_beat(owner, LAST_LOG_FRAMES, LAST_METRIC_FRAMES, &mut events)?;
            }
            None => self.plain_beat(usize::MAX, &mut events),
        }
        Ok(events)
    }

    /// The end of a log says why a script failed. Frames are packed line by line, so each may hold a line less.
    fn drop_all_but_the_end(&mut self) {
        let room = (LAST_LOG_FRAMES - 1) * (MAX_FRAME_DATA - MAX_LINE);
        while self.log_bytes > room
            && let Some((_, line)) = self.log.pop_front()
        {
            self.log_bytes -= line.len();
            self.dropped += line.len() as u64;
        }
        if self.dropped > 0 {
            let note = format!("[sealtune: {} bytes of log were dropped]\n", self.dropped);
            self.log_bytes += note.len();
            self.log.push_front((LogStream::Progress, note.into_bytes()));
            self.dropped = 0;
        }
    }

    fn sealed_beat(
        &mut self,
        owner: &mut OwnerChannel,
        log_frames: usize,
        metric_frames: usize,
        events: &mut Vec<AgentEvent>,
    ) -> Result<(), JobError> {
        for _ in 0..log_frames {
            let lines = self.take_log(MAX_FRAME_DATA);
            let text: Vec<u8> = lines.iter().flat_map(|(_, line)| line).copied().collect();
            events.push(owner.seal(FrameStream::Log, &text)?);
            if self.audience.host {
                self.show_log(lines, events);
            }
        }
        for _ in 0..metric_frames {
            let lines = self.take_metrics(MAX_FRAME_DATA);
            let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            events.push(owner.seal(FrameStream::Metric, text.as_bytes())?);
            if self.audience.host {
                self.show_metrics(lines, events);
            }
        }
        Ok(())
    }

    fn plain_beat(&mut self, most: usize, events: &mut Vec<AgentEvent>) {
        if !self.audience.host {
            return;
        }
        let lines = self.take_log(most);
        self.show_log(lines, events);
        let metrics = self.take_metrics(most);
        self.show_metrics(metrics, events);
    }

    fn take_log(&mut self, most: usize) -> Vec<(LogStream, Vec<u8>)> {
        let mut room = most;
        let mut taken = Vec::new();
        while let Some((_, line)) = self.log.front()
            && line.len() <= room
        {
            room -= line.len();
            self.log_bytes -= line.len();
            taken.extend(self.log.pop_front());
        }
        taken
    }

    fn take_metrics(&mut self, most: usize) -> Vec<String> {
        let mut room = most;
        let mut taken = Vec::new();
        while let Some(line) = self.metrics.front()
            && line.len() < room
        {
            room -= line.len() + 1;
            taken.extend(self.metrics.pop_front());
        }
        taken
    }

    /// Neighbouring lines of one stream make one event, within what a control frame holds.
    fn show_log(&self, lines: Vec<(LogStream, Vec<u8>)>, events: &mut Vec<AgentEvent>) {
        let mut last: Option<(LogStream, String)> = None;
        for (stream, line) in lines {
            let text = String::from_utf8_lossy(&line);
            match &mut last {
                Some((of, whole)) if *of == stream && whole.len() < PLAIN_TEXT => {
                    whole.push_str(&text);
                }
                _ => {
                    let full = last.replace((stream, text.into_owned()));
                    events.extend(full.map(|(stream, text)| self.plain_log(stream, text)));
                }
            }
        }
        events.extend(last.map(|(stream, text)| self.plain_log(stream, text)));
    }

    fn plain_log(&self, stream: LogStream, text: String) -> AgentEvent {
        AgentEvent::PlainLog { job: self.job, stream, text }
    }

    fn show_metrics(&self, lines: Vec<String>, events: &mut Vec<AgentEvent>) {
        events.extend(
            lines.into_iter().map(|metric| AgentEvent::PlainMetric { job: self.job, metric }),
        );
    }

    fn show_percent(&mut self, now: Instant, events: &mut Vec<AgentEvent>) {
        let Some(percent) = self.percent.map(coarse_percent) else { return };
        let is_news = self.shown_percent.is_none_or(|shown| percent > shown);
        let is_due = self.percent_shown_at.is_none_or(|at| now >= at + PERCENT_PACE);
        if is_news && is_due {
            self.shown_percent = Some(percent);
            self.percent_shown_at = Some(now);
            events.push(AgentEvent::Percent { job: self.job, percent });
        }
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
