//! Typed progress of a training process: closed names, numbers only.

use serde::{Deserialize, Serialize};

/// One line that the training script writes to the events descriptor. Unknown names are refused,
/// so that the names themselves can carry nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct MetricEvent {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub total_steps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub learning_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tokens_per_second: Option<f64>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MetricError {
    #[error("read a progress event: the line is longer than {MAX_LINE} bytes")]
    TooLong,
    #[error(
        "read a progress event: it must be one JSON object with the names step, total_steps, loss, learning_rate, tokens_per_second and finite numbers"
    )]
    NotAnEvent,
}

const MAX_LINE: usize = 1024;

impl MetricEvent {
    pub fn parse(line: &[u8]) -> Result<Self, MetricError> {
        if line.len() > MAX_LINE {
            return Err(MetricError::TooLong);
        }
        let event: Self = serde_json::from_slice(line).map_err(|_| MetricError::NotAnEvent)?;
        let numbers = [
            event.step,
            event.total_steps,
            event.loss,
            event.learning_rate,
            event.tokens_per_second,
        ];
        if numbers.iter().all(Option::is_none)
            || numbers.iter().flatten().any(|number| !number.is_finite())
        {
            return Err(MetricError::NotAnEvent);
        }
        Ok(event)
    }

    /// Percent done, where the event says both step and total.
    pub fn percent(&self) -> Option<u8> {
        let (step, total) = (self.step?, self.total_steps?);
        if total <= 0.0 || step < 0.0 {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=100 before the cast"
        )]
        Some((100.0 * step / total).clamp(0.0, 100.0) as u8)
    }
}

/// What the host may see of a sealed job's percent: steps of five, downwards.
pub fn coarse_percent(percent: u8) -> u8 {
    percent.min(100) / 5 * 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_closed_and_numbers_finite() {
        assert!(MetricEvent::parse(br#"{"step":1,"total_steps":4,"loss":2.5}"#).is_ok());
        for bad in [
            "{}",
            "[]",
            r#"{"secret":1}"#,
            r#"{"loss":"text"}"#,
            r#"{"loss":1e999}"#,
            "nan",
            r#"{"loss":null}"#,
        ] {
            assert!(MetricEvent::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(MetricEvent::parse(&[b' '; 2000]), Err(MetricError::TooLong));
    }

    #[test]
    fn percent_is_coarse_and_clamped() {
        let event = MetricEvent { step: Some(9.0), total_steps: Some(4.0), ..Default::default() };
        assert_eq!(event.percent(), Some(100));
        assert_eq!(coarse_percent(19), 15);
        assert_eq!(coarse_percent(255), 100);
    }
}
