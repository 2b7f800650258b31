//! What the demo ends with: for people, for programs, and whether it is what was promised.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{FOUND_BY_BOTH, LEAST_FALL};
use crate::{Outcome, Trouble};

#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) before: f64,
    pub(crate) after: f64,
    pub(crate) evaluated_before: f64,
    pub(crate) evaluated_after: f64,
    pub(crate) offer_verdict: String,
    pub(crate) receipt_verdict: String,
    pub(crate) simulated: bool,
    pub(crate) accelerator: String,
    pub(crate) tee: String,
    pub(crate) boot_ms: u64,
    pub(crate) boot_baseline_ms: u64,
    pub(crate) agent_rss_kib: Option<u64>,
    pub(crate) image_bytes: u64,
    pub(crate) layer_bytes: u64,
    pub(crate) dataset_bytes: u64,
    pub(crate) result_bytes: u64,
    /// States of the job and how long it was in each, milliseconds.
    pub(crate) phases: Vec<(String, u64)>,
    /// From accepted release to the script's first line, without the time to stream the inputs.
    pub(crate) first_line_ms: u64,
    pub(crate) fetch_ms: u64,
    pub(crate) prepared: Duration,
    pub(crate) played: Duration,
}

impl Figures {
    fn fall(&self) -> f64 {
        1.0 - self.after / self.before
    }

    fn agrees(&self) -> bool {
        let near = |a: f64, b: f64| (a / b - 1.0).abs() <= FOUND_BY_BOTH;
        near(self.evaluated_before, self.before) && near(self.evaluated_after, self.after)
    }
}

pub(crate) fn text(figures: &Figures) -> String {
    let Figures { before, after, evaluated_before, evaluated_after, .. } = figures;
    let mut lines = vec![
        String::new(),
        "What happened".to_owned(),
        "  A language model was fine-tuned in a VM, on data that the customer sealed for that VM alone.".to_owned(),
        format!(
            "  Perplexity on held-out text: {before:.2} before, {after:.2} after ({:.1} % less).",
            100.0 * figures.fall()
        ),
        format!(
            "  Recomputed on the host:      {evaluated_before:.2} before, {evaluated_after:.2} after."
        ),
        String::new(),
        "What was proven".to_owned(),
        format!(
            "  offer    {}: the VM booted the image that was measured here, before it got any key",
            figures.offer_verdict
        ),
        format!(
            "  receipt  {}: the same VM ran this script on this dataset and made this result",
            figures.receipt_verdict
        ),
        "  The two perplexities stand in the receipt as commitments; their owner opened them."
            .to_owned(),
        String::new(),
        "What was not".to_owned(),
    ];
    lines.push(if figures.simulated {
        "  The TEE was SIMULATED: this machine signed its own evidence, so nothing here was hidden from it.".to_owned()
    } else {
        "  Sizes, timing and denial of service; attacks on the hardware itself.".to_owned()
    });
    let resident =
        figures.agent_rss_kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{kib} KiB"));
    lines.extend([
        String::new(),
        "Figures".to_owned(),
        format!("  VM            {}, TEE {}", figures.accelerator, figures.tee),
        format!(
            "  boot          {} ms from power-on to agent ready; {} ms with a trivial init (ratio {:.2})",
            figures.boot_ms,
            figures.boot_baseline_ms,
            ratio(figures.boot_ms, figures.boot_baseline_ms)
        ),
        format!("  agent         {resident} resident"),
        format!("  image         {} (kernel and initramfs)", size(figures.image_bytes)),
        format!("  layer         {}", size(figures.layer_bytes)),
        format!("  dataset       {}, result {}", size(figures.dataset_bytes), size(figures.result_bytes)),
    ]);
    lines.push(format!(
        "  start         {} ms from the release to the script's first line, and {} ms to stream the inputs",
        figures.first_line_ms, figures.fetch_ms
    ));
    for (state, time) in &figures.phases {
        lines.push(format!("  {state:<17} {:>7.1} s", seconds(*time)));
    }
    lines.push(format!(
        "  {:.0} s in all, after {:.0} s of preparation",
        figures.played.as_secs_f64(),
        figures.prepared.as_secs_f64()
    ));
    lines.join("\n")
}

pub(crate) fn json(figures: &Figures) -> Value {
    let phases: Map<String, Value> =
        figures.phases.iter().map(|(state, time)| (state.clone(), json!(time))).collect();
    json!({
        "perplexity_before": figures.before,
        "perplexity_after": figures.after,
        "evaluated_before": figures.evaluated_before,
        "evaluated_after": figures.evaluated_after,
        "offer_verdict": figures.offer_verdict,
        "receipt_verdict": figures.receipt_verdict,
        "simulated": figures.simulated,
        "accelerator": figures.accelerator,
        "tee": figures.tee,
        "boot_ms": figures.boot_ms,
        "boot_baseline_ms": figures.boot_baseline_ms,
        "agent_rss_kib": figures.agent_rss_kib,
        "image_bytes": figures.image_bytes,
        "layer_bytes": figures.layer_bytes,
        "dataset_bytes": figures.dataset_bytes,
        "result_bytes": figures.result_bytes,
        "phases_ms": phases,
        "first_line_ms": figures.first_line_ms,
        "fetch_ms": figures.fetch_ms,
        "total_ms": u64::try_from(figures.played.as_millis()).unwrap_or(u64::MAX),
    })
}

/// The demo fails when it does not show what it is there to show.
pub(crate) fn judge(figures: &Figures) -> Outcome<()> {
    for (what, verdict) in
        [("offer", &figures.offer_verdict), ("receipt", &figures.receipt_verdict)]
    {
        if verdict != "accepted" {
            return Err(Trouble::failed(format!("have the {what} accepted: it is {verdict}")));
        }
    }
    if !figures.agrees() {
        return Err(Trouble::failed("find the same perplexities on the host as in the VM"));
    }
    // Written so that NaN fails.
    let fell = figures.fall() >= LEAST_FALL;
    if !fell {
        return Err(Trouble::failed("see the perplexity fall by a tenth"));
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}

fn seconds(milliseconds: u64) -> f64 {
    ratio(milliseconds, 1000)
}

fn size(bytes: u64) -> String {
    if bytes < 1 << 20 {
        format!("{:.1} KiB", ratio(bytes, 1 << 10))
    } else {
        format!("{:.1} MiB", ratio(bytes, 1 << 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        Figures {
            before: 60.0,
            after: 30.0,
            evaluated_before: 60.1,
            evaluated_after: 30.1,
            offer_verdict: "accepted".into(),
            receipt_verdict: "accepted".into(),
            simulated: true,
            accelerator: "tcg".into(),
            tee: "simulated".into(),
            boot_ms: 6000,
            boot_baseline_ms: 5000,
            agent_rss_kib: Some(4000),
            image_bytes: 17 << 20,
            layer_bytes: 64 << 20,
            dataset_bytes: 1000,
            result_bytes: 2000,
            phases: vec![("training".into(), 90_000)],
            first_line_ms: 1500,
            fetch_ms: 40,
            prepared: Duration::from_secs(60),
            played: Duration::from_secs(120),
        }
    }

    #[test]
    fn every_promise_can_fail() {
        assert!(judge(&figures()).is_ok());
        for broken in [
            Figures { offer_verdict: "rejected".into(), ..figures() },
            Figures { receipt_verdict: "rejected".into(), ..figures() },
            Figures { evaluated_after: 31.0, ..figures() },
            Figures { after: 55.0, evaluated_after: 55.0, ..figures() },
            Figures { before: f64::NAN, ..figures() },
        ] {
            assert!(judge(&broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn simulated_is_said_and_json_has_the_promised_keys() {
        assert!(text(&figures()).contains("SIMULATED"));
        let json = json(&figures());
        for key in [
            "perplexity_before",
            "perplexity_after",
            "offer_verdict",
            "receipt_verdict",
            "accelerator",
            "tee",
            "boot_ms",
            "boot_baseline_ms",
            "agent_rss_kib",
            "image_bytes",
            "phases_ms",
        ] {
            assert!(!json[key].is_null(), "{key}");
        }
        assert_eq!(json["phases_ms"]["training"], 90_000);
    }
}
