//! The answer of an appraisal: a list of claims, each with what it rests on. Never one boolean.

use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Holds, and `anchor` says because of what.
    Affirming,
    /// True, and worth knowing before you rely on it.
    Warning,
    /// Does not hold.
    Contraindicated,
    /// Could not be judged.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Accepted,
    Rejected,
}

/// One thing that was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub claim: String,
    pub value: String,
    /// What the status rests on.
    pub anchor: String,
    pub status: Status,
    /// Whether the verdict depends on it.
    pub required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    pub text: String,
}

/// Which policy judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyIdentity {
    pub name: String,
    /// SHA-256 of the policy file.
    pub digest: String,
    /// What it tolerates beyond `strict`.
    pub tolerates: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub subject: String,
    pub outcome: Outcome,
    pub simulated: bool,
    pub policy: PolicyIdentity,
    pub judged_at: u64,
    pub claims: Vec<Finding>,
}

/// Anything with a stable code: this crate's causes and those of crates that judge on top of it.
pub trait Cause: Copy {
    fn code(self) -> &'static str;
    fn text(self) -> &'static str;
}

/// Findings in the making.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    claims: Vec<Finding>,
}

impl Findings {
    pub fn affirm(
        &mut self,
        claim: &str,
        value: impl Into<String>,
        anchor: impl Into<String>,
        text: impl Into<String>,
    ) {
        self.claims.push(Finding {
            claim: claim.to_owned(),
            value: value.into(),
            anchor: anchor.into(),
            status: Status::Affirming,
            required: true,
            code: None,
            text: text.into(),
        });
    }

    /// Something that does not hold: the verdict is no.
    pub fn refuse(
        &mut self,
        claim: &str,
        value: impl Into<String>,
        cause: impl Cause,
        detail: impl AsRef<str>,
    ) {
        self.push(claim, value.into(), Status::Contraindicated, true, cause, detail.as_ref());
    }

    /// Something that the verdict does not depend on, but its reader should.
    pub fn warn(
        &mut self,
        claim: &str,
        value: impl Into<String>,
        cause: impl Cause,
        detail: impl AsRef<str>,
    ) {
        self.push(claim, value.into(), Status::Warning, false, cause, detail.as_ref());
    }

    /// Something that could not be judged, though it had to be: the verdict is no.
    pub fn unjudged(&mut self, claim: &str, cause: impl Cause, detail: impl AsRef<str>) {
        self.push(claim, String::new(), Status::Unknown, true, cause, detail.as_ref());
    }

    /// Something that nobody here can judge.
    pub fn open(
        &mut self,
        claim: &str,
        value: impl Into<String>,
        cause: impl Cause,
        detail: impl AsRef<str>,
    ) {
        self.push(claim, value.into(), Status::Unknown, false, cause, detail.as_ref());
    }

    /// Takes back every affirmation, when what all of them rest on fell.
    pub fn withdraw(&mut self, cause: impl Cause, reason: &str) {
        for finding in &mut self.claims {
            if finding.status == Status::Affirming && finding.anchor != "form" {
                finding.status = Status::Unknown;
                finding.anchor = "none".to_owned();
                finding.code = Some(cause.code());
                finding.text = format!("{}: {reason}", cause.text());
            }
        }
    }

    /// Whether nothing that the verdict depends on has failed so far.
    pub fn hold_so_far(&self) -> bool {
        self.claims.iter().all(|finding| !finding.required || finding.status == Status::Affirming)
    }

    /// Takes over the findings of a part, with the part's name before each claim.
    pub fn include(&mut self, part: &str, verdict: &Verdict) {
        for finding in &verdict.claims {
            let mut finding = finding.clone();
            finding.claim = format!("{part}.{}", finding.claim);
            self.claims.push(finding);
        }
    }

    fn push(
        &mut self,
        claim: &str,
        value: String,
        status: Status,
        required: bool,
        cause: impl Cause,
        detail: &str,
    ) {
        let text = if detail.is_empty() {
            cause.text().to_owned()
        } else {
            format!("{}: {detail}", cause.text())
        };
        self.claims.push(Finding {
            claim: claim.to_owned(),
            value,
            anchor: "none".to_owned(),
            status,
            required,
            code: Some(cause.code()),
            text,
        });
    }

    pub fn into_verdict(
        self,
        subject: &str,
        simulated: bool,
        policy: PolicyIdentity,
        judged_at: u64,
    ) -> Verdict {
        // Nothing judged is nothing accepted.
        let affirmed = self.claims.iter().any(|finding| finding.status == Status::Affirming);
        let denied = self
            .claims
            .iter()
            .any(|finding| finding.required && finding.status != Status::Affirming);
        let outcome = if affirmed && !denied { Outcome::Accepted } else { Outcome::Rejected };
        Verdict {
            subject: subject.to_owned(),
            outcome,
            simulated,
            policy,
            judged_at,
            claims: self.claims,
        }
    }
}

impl Verdict {
    /// Adds what was judged beside an appraisal. It can make a yes a no, never the reverse.
    pub fn add(&mut self, findings: Findings) {
        let denied = |finding: &Finding| finding.required && finding.status != Status::Affirming;
        if findings.claims.iter().any(denied) {
            self.outcome = Outcome::Rejected;
        }
        self.claims.extend(findings.claims);
    }

    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    pub fn is_accepted(&self) -> bool {
        self.outcome == Outcome::Accepted
    }

    /// Codes of all findings that are not affirming, in order.
    pub fn codes(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.claims.iter().filter_map(|finding| finding.code)
    }

    pub fn has(&self, cause: impl Cause) -> bool {
        self.codes().any(|code| code == cause.code())
    }

    pub fn finding(&self, claim: &str) -> Option<&Finding> {
        self.claims.iter().find(|finding| finding.claim == claim)
    }

    /// For people: one line a claim, the reasons under what is not affirming, and the outcome last.
    pub fn render(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let width = self.claims.iter().map(|finding| finding.claim.len()).max().unwrap_or(0);
        let mark = if self.simulated { "SIMULATED " } else { "" };
        let _ = writeln!(text, "{mark}{}", printable(&self.subject));
        for finding in &self.claims {
            let word = match (finding.status, finding.required) {
                (Status::Affirming, _) => "ok",
                (Status::Warning, _) => "warn",
                (Status::Contraindicated, _) => "NO",
                (Status::Unknown, true) => "NO",
                (Status::Unknown, false) => "?",
            };
            let value = printable(&finding.value);
            let rest = match finding.code {
                None => format!("{value}  [{}]", printable(&short_anchor(&finding.anchor))),
                Some(code) => format!("{value}  ({code})").trim_start().to_owned(),
            };
            let _ = writeln!(text, "  {word:<4} {:<width$}  {rest}", printable(&finding.claim));
            if finding.status != Status::Affirming {
                let _ = writeln!(text, "       {:<width$}  {}", "", printable(&finding.text));
            }
        }
        let time =
            crate::time::rfc3339(self.judged_at).unwrap_or_else(|| self.judged_at.to_string());
        let _ = writeln!(
            text,
            "policy {} (sha256 {}), judged at {time}",
            printable(&self.policy.name),
            self.policy.digest
        );
        for tolerated in &self.policy.tolerates {
            let _ = writeln!(text, "policy tolerates: {}", printable(tolerated));
        }
        let outcome = match self.outcome {
            Outcome::Accepted => "ACCEPTED",
            Outcome::Rejected => "REJECTED",
        };
        let _ = writeln!(text, "{mark}{outcome}");
        text
    }
}

/// A key id is shown whole where it is the value, and by its beginning where it is repeated.
fn short_anchor(anchor: &str) -> String {
    match anchor.split_once(':') {
        Some((kind, key_id)) => format!("{kind}:{}", key_id.get(..16).unwrap_or(key_id)),
        None => anchor.to_owned(),
    }
}

/// What evidence says must not steer a terminal, nor fill it.
fn printable(text: &str) -> String {
    const MOST: usize = 400;
    let mut shown: String = text
        .chars()
        .take(MOST)
        .map(|c| if c.is_control() || is_direction_mark(c) { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// Characters that turn the direction of the text around them.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::Code;

    fn policy() -> PolicyIdentity {
        PolicyIdentity { name: "strict".into(), digest: "00".into(), tolerates: vec![] }
    }

    #[test]
    fn accepts_only_when_something_is_affirmed_and_nothing_required_is_not() {
        let outcome = |findings: Findings| findings.into_verdict("t", false, policy(), 0).outcome;
        let mut good = Findings::default();
        assert_eq!(outcome(good.clone()), Outcome::Rejected, "nothing was judged");
        good.affirm("a", "", "test", "");
        good.warn("b", "", Code::PlatformNotPinned, "");
        good.open("c", "", Code::TimeUnanchored, "");
        assert_eq!(outcome(good.clone()), Outcome::Accepted);
        let mut refused = good.clone();
        refused.refuse("d", "", Code::QuoteDebug, "");
        assert_eq!(outcome(refused), Outcome::Rejected);
        let mut unjudged = good;
        unjudged.unjudged("d", Code::NotChecked, "");
        assert_eq!(outcome(unjudged), Outcome::Rejected);
    }

    #[test]
    fn what_is_added_can_only_make_a_yes_a_no() {
        let findings = |make: fn(&mut Findings)| {
            let mut findings = Findings::default();
            make(&mut findings);
            findings
        };
        let affirmed = || findings(|f| f.affirm("a", "", "test", ""));
        let refused = || findings(|f| f.refuse("b", "", Code::QuoteDebug, ""));
        let mut verdict = affirmed().into_verdict("t", false, policy(), 0);
        verdict.add(affirmed());
        verdict.add(findings(|f| f.open("c", "", Code::TimeUnanchored, "")));
        assert_eq!(verdict.outcome, Outcome::Accepted);
        verdict.add(refused());
        verdict.add(affirmed());
        assert_eq!((verdict.outcome, verdict.claims.len()), (Outcome::Rejected, 5));
    }

    #[test]
    fn evidence_cannot_steer_the_terminal() {
        let mut findings = Findings::default();
        findings.affirm("a", "\u{1b}[2J\nACCEPTED\u{202e}", "x", "");
        findings.refuse("b", "", Code::QuoteDebug, "line\r\nACCEPTED");
        let text = findings.into_verdict("t", true, policy(), 0).render();
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}') && !text.contains('\r'));
        assert!(!text.lines().any(|line| line.trim() == "ACCEPTED"));
        assert_eq!(text.lines().last(), Some("SIMULATED REJECTED"));
    }
}
