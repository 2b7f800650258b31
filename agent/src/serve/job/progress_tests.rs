use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealtune_seal::envelope::unwrap_object_key;
use sealtune_seal::frames::{FRAME_LENGTH, FrameKind, FrameOpener};
use sealtune_seal::{RecipientKeyPair, Secret, Suite};

use super::*;
use crate::serve::job::release::SealedJob;

const DIGEST: [u8; 32] = [4; 32];

fn job() -> JobId {
    JobId::from_bytes([1; 16])
}

fn owner() -> (OwnerChannel, FrameOpener) {
    let pair = RecipientKeyPair::generate(Suite::X25519).unwrap();
    let sealed = SealedJob {
        data_key: Secret::new([5; 32]),
        commitment_key: Secret::new([6; 32]),
        recipient: pair.public().clone(),
        offer: [3; 32],
    };
    let channel = OwnerChannel::new(job(), &sealed, &DIGEST).unwrap();
    let key = unwrap_object_key(&pair, &DIGEST, &channel.envelope).unwrap();
    (channel, FrameOpener::new(&key, FrameKind::Log, &DIGEST).unwrap())
}

fn progress(disclosure: Disclosure, sealed: bool, log_bytes: u64) -> Progress {
    Progress::new(job(), Audience::of(disclosure, sealed), log_bytes)
}

fn count(events: &[AgentEvent]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for event in events {
        let kind = match event {
            AgentEvent::OwnerFrame { stream: FrameStream::Log, .. } => "log",
            AgentEvent::OwnerFrame { stream: FrameStream::Metric, .. } => "metric",
            AgentEvent::PlainLog { .. } => "plain-log",
            AgentEvent::PlainMetric { .. } => "plain-metric",
            AgentEvent::Percent { .. } => "percent",
            _ => "other",
        };
        *counts.entry(kind).or_insert(0) += 1;
    }
    counts
}

fn log_text(events: &[AgentEvent], opener: &mut FrameOpener) -> String {
    let mut text = Vec::new();
    for event in events {
        if let AgentEvent::OwnerFrame { stream: FrameStream::Log, frame, .. } = event {
            text.extend(opener.open(&STANDARD.decode(frame).unwrap()).unwrap());
        }
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn the_host_sees_the_same_whatever_is_said() {
    let mut seen = Vec::new();
    for text in ["", "short\n", &"a long line of secrets\n".repeat(20_000)] {
        let (mut owner, _) = owner();
        let mut progress = progress(Disclosure::Owner, true, 1 << 20);
        progress.log(LogStream::Stdout, text.as_bytes());
        progress.events(text.as_bytes());
        let mut events = progress.beat(Instant::now(), Some(&mut owner)).unwrap();
        events.extend(progress.beat(Instant::now(), Some(&mut owner)).unwrap());
        events.extend(progress.last_words(Some(&mut owner)).unwrap());
        for event in &events {
            let AgentEvent::OwnerFrame { frame, .. } = event else { panic!("{event:?}") };
            assert_eq!(STANDARD.decode(frame).unwrap().len(), FRAME_LENGTH);
        }
        seen.push(count(&events));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[1], seen[2]);
    assert_eq!(seen[0]["log"], 2 + LAST_LOG_FRAMES);
    assert_eq!(seen[0]["metric"], 2 + LAST_METRIC_FRAMES);
}

#[test]
fn the_owner_reads_lines_and_the_end_of_a_log_that_is_too_long() {
    let (mut owner, mut opener) = owner();
    let mut progress = progress(Disclosure::Owner, true, 4 << 20);
    progress.log(LogStream::Stdout, b"first\nsec");
    progress.log(LogStream::Stderr, b"between\n");
    progress.log(LogStream::Stdout, b"ond\n");
    let events = progress.beat(Instant::now(), Some(&mut owner)).unwrap();
    assert_eq!(log_text(&events, &mut opener), "first\nbetween\nsecond\n");
    for _ in 0..100_000 {
        progress.log(LogStream::Stdout, b"a line of the middle\n");
    }
    progress.log(LogStream::Stderr, b"the last words");
    let text = log_text(&progress.last_words(Some(&mut owner)).unwrap(), &mut opener);
    assert!(text.starts_with("[sealtune: "), "{}", &text[..80]);
    assert!(text.ends_with("the last words"));
}

#[test]
fn what_is_beyond_the_limit_is_counted() {
    let (mut owner, mut opener) = owner();
    let mut progress = progress(Disclosure::Owner, true, 10);
    progress.log(LogStream::Stdout, b"12345678\nmore than fits\n");
    let text = log_text(&progress.last_words(Some(&mut owner)).unwrap(), &mut opener);
    assert_eq!(text, "[sealtune: 15 bytes of log were dropped]\n12345678\n");
}

#[test]
fn disclosure_decides_who_reads() {
    for (disclosure, sealed, expected) in [
        (Disclosure::Owner, true, (true, false)),
        (Disclosure::Host, true, (true, true)),
        (Disclosure::None, true, (false, false)),
        (Disclosure::None, false, (false, true)),
    ] {
        let (mut owner, _) = owner();
        let mut progress = progress(disclosure, sealed, 1 << 20);
        progress.log(LogStream::Stdout, b"line\n");
        progress.events(b"{\"loss\":1.5}\n");
        let counts = count(&progress.beat(Instant::now(), Some(&mut owner)).unwrap());
        let found = (counts.contains_key("log"), counts.contains_key("plain-log"));
        assert_eq!(found, expected, "{disclosure:?} {sealed}");
        let found = (counts.contains_key("metric"), counts.contains_key("plain-metric"));
        assert_eq!(found, expected, "{disclosure:?} {sealed}");
    }
}

#[test]
fn only_metrics_are_metrics_and_the_newest_is_kept() {
    let mut progress = progress(Disclosure::Owner, false, 1 << 20);
    progress.events(b"{\"loss\":2.5}\nnot a metric\n{\"secret\":1}\n{\"loss\":");
    assert_eq!(progress.last_metric(), Some("{\"loss\":2.5}"));
    progress.events(b"0.5}\n");
    assert_eq!(progress.last_metric(), Some("{\"loss\":0.5}"));
    for step in 0..1000 {
        progress.events(format!("{{\"step\":{step}}}\n").as_bytes());
    }
    assert_eq!(progress.metrics.len(), MAX_METRICS);
}

#[test]
fn percent_is_coarse_slow_and_never_falls() {
    let mut progress = progress(Disclosure::None, true, 1 << 20);
    let start = Instant::now();
    let mut shown = Vec::new();
    for (seconds, step) in [(0, 7), (2, 60), (11, 50), (12, 99), (30, 98)] {
        progress.events(format!("{{\"step\":{step},\"total_steps\":100}}\n").as_bytes());
        for event in progress.beat(start + Duration::from_secs(seconds), None).unwrap() {
            let AgentEvent::Percent { percent, .. } = event else { panic!("{event:?}") };
            shown.push((seconds, percent));
        }
    }
    assert_eq!(shown, [(0, 5), (11, 60), (30, 95)]);
}
