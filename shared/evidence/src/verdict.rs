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
        let longest = self.claims.iter().map(|finding| finding.claim.chars().count()).max();
        let width = longest.unwrap_or(0).min(WIDEST);
        let mark = if self.simulated { "SIMULATED " } else { "" };
        let _ = writeln!(text, "{mark}{}", printable(&self.subject));
        let mut said = "";
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
            // One cause often keeps many claims from being judged: it is said once.
            if finding.status != Status::Affirming && finding.text != said {
                let _ = writeln!(text, "       {:<width$}  {}", "", printable(&finding.text));
            }
            said = &finding.text;
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

/// Names of claims may hold names of the sender's; a long one is no reason to indent all others.
const WIDEST: usize = 40;

/// What evidence says must not steer a terminal, nor fill it.
pub fn printable(text: &str) -> String {
    const MOST: usize = 400;
    let mut shown: String = text
        .chars()
        .take(MOST)
        .map(|c| if is_invisible(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// Characters that a reader does not see, though they move, turn, join or hide the text around them.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
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

    #[test]
    fn what_keeps_many_claims_from_being_judged_is_said_once() {
        let mut findings = Findings::default();
        findings.refuse("a", "", Code::QuoteDebug, "");
        for claim in ["b", "c", "d"] {
            findings.unjudged(claim, Code::NotChecked, "the quote did not verify");
        }
        let text = findings.into_verdict("t", false, policy(), 0).render();
        assert_eq!(text.matches("the quote did not verify").count(), 1, "{text}");
        assert_eq!(text.matches("(ST-EVID-92)").count(), 3, "{text}");
    }

    #[test]
    fn nothing_invisible_is_printed_and_nothing_endless() {
        let hidden = [
            "\u{1b}", "\u{9b}", "\u{7f}", "\u{202e}", "\u{2066}", "\u{61c}", "\u{2028}", "\u{200b}",
        ];
        for text in hidden.into_iter().chain(["\u{feff}", "\u{e0041}", "\u{ad}", "\r", "\n", "\0"])
        {
            assert_eq!(printable(text), "\u{fffd}", "{}", text.escape_unicode());
        }
        assert_eq!(printable("Größe 大 ✓"), "Größe 大 ✓");
        let long = "x".repeat(64 << 10);
        let mut findings = Findings::default();
        findings.affirm(&long, &long, &long, "");
        findings.refuse("b", &long, Code::QuoteDebug, &long);
        findings.affirm("c", "", "test", "");
        let verdict = findings.into_verdict(&long, false, policy(), 0);
        assert!(verdict.render().len() < 4096, "{} bytes", verdict.render().len());
    }
}
