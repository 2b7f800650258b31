//! Judging with what the user brought: at the clock, or at a time of his and at the clock beside it.

use std::{fmt::Write as _, path::PathBuf};

use sealtune_evidence::{
    Anchors, Context, EvidenceBundle, JudgeTime, Policy, Verdict,
    collateral::{AtHand, Code, Documents},
    policy::ListedImages,
    verdict::Findings,
};
use serde::Serialize;

use crate::{
    Report, Surroundings,
    cli::{CollateralSource, JudgeOptions},
    failure::Failure,
    input,
    memory_file::remember,
    online::Online,
    releases::{ReleaseFiles, Releases, Trust},
};

/// A part of what is judged, with what its claims are prefixed by.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    pub name: &'static str,
    pub bundle: &'a EvidenceBundle,
}

/// Everything that [`JudgeOptions`] names.
pub(crate) struct Judge<'a> {
    policy: Policy,
    trust: Trusted,
    anchors: Anchors,
    /// Collateral of the user's.
    own: Documents,
    /// Set until it is done.
    online: Option<Online<'a>>,
    /// Of today: it says nothing about another time.
    fetched: Documents,
    memory: Option<PathBuf>,
    now: u64,
}

/// Releases are trusted for a time: what was good then may have been revoked since.
struct Trusted {
    now: Trust,
    at: Option<(u64, Trust)>,
}

/// At the time that was asked for, and with `--at` at the clock besides.
#[derive(Debug, Serialize)]
pub(crate) struct Verdicts {
    at: Verdict,
    now: Verdict,
}

pub(crate) enum Judged {
    Now(Verdict),
    Both(Box<Verdicts>),
}

impl<'a> Judge<'a> {
    pub(crate) fn read(
        options: &JudgeOptions,
        surroundings: &Surroundings<'a>,
    ) -> Result<Self, Failure> {
        let listed = ListedImages {
            compose_hashes: options.compose_hash.clone(),
            os_images: options.os_image.clone(),
        };
        let policy = input::policy(options.policy.as_deref(), &listed)?;
        let simulated_root =
            options.simulated_root.as_deref().map(input::root_certificate).transpose()?;
        let (mut intel, mut online) = (None, None);
        match &options.collateral {
            None => {}
            Some(CollateralSource::File(path)) => intel = Some(input::collateral(path)?),
            Some(CollateralSource::Fetch(update)) => {
                let http = surroundings.http.ok_or(Failure::NoClient)?;
                let services = options.services.services();
                online = Some(Online { http, services, update: *update });
            }
        }
        let amd = options.snp_collateral.as_deref().map(input::snp_collateral).transpose()?;
        let gpu = options.gpu_collateral.as_deref().map(input::gpu_collateral).transpose()?;
        let memory = match (&options.memory, options.no_memory) {
            (_, true) => None,
            (Some(path), false) => Some(path.clone()),
            (None, false) => surroundings.memory.cloned(),
        };
        let mut pinned = policy.rules.listed_images();
        pinned.extend(&options.layer);
        let releases = Releases::read(ReleaseFiles {
            manifests: &options.manifest,
            keys: options.release_keys.as_deref(),
            references: &options.reference,
            pinned,
            collateral_memory: memory.as_deref(),
        })?;
        let trust = match options.at {
            None => Trusted { now: releases.at(JudgeTime::Now(surroundings.now))?, at: None },
            Some(at) => Trusted {
                at: Some((at, releases.at(JudgeTime::At(at))?)),
                now: releases.beside_another_time(surroundings.now)?,
            },
        };
        Ok(Self {
            policy,
            trust,
            anchors: Anchors { simulated_root, ..Anchors::default() },
            own: Documents { intel, amd, gpu },
            online,
            fetched: Documents::default(),
            memory,
            now: surroundings.now,
        })
    }

    /// Asks the services, if the user said so. The bundles are of one boot.
    pub(crate) fn with_collateral_for(
        mut self,
        bundles: &[&EvidenceBundle],
    ) -> Result<Self, Failure> {
        if let Some(online) = self.online.take() {
            let gpu = self.policy.rules.gpu;
            self.fetched = online.fetch(bundles, self.own.at_hand(), &self.anchors, gpu)?;
        }
        Ok(self)
    }

    pub(crate) fn judge(
        &self,
        parts: &[Part<'_>],
        judge: impl Fn(&Context<'_>) -> Verdict,
    ) -> Result<Judged, Failure> {
        let judge = |time, trust: &Trust| {
            let mut verdict = judge(&self.context(time, trust));
            let findings = trust.findings(parts, &verdict);
            verdict.add(findings);
            verdict
        };
        let mut now = judge(JudgeTime::Now(self.now), &self.trust.now);
        let memory = self.memory.as_deref();
        remember(memory, parts, self.at_hand(), &self.anchors, self.now, &mut now)?;
        let Some((at, trust)) = &self.trust.at else { return Ok(Judged::Now(now)) };
        let mut then = judge(JudgeTime::At(*at), trust);
        if !then.simulated {
            let mut findings = Findings::default();
            findings.open("collateral-memory", "", Code::NotRemembered, "");
            then.add(findings);
        }
        Ok(Judged::Both(Box::new(Verdicts { at: then, now })))
    }

    fn context<'b>(&'b self, time: JudgeTime, trust: &'b Trust) -> Context<'b> {
        let AtHand { intel, amd, gpu } = match time {
            JudgeTime::Now(_) => self.at_hand(),
            JudgeTime::At(_) => self.own.at_hand(),
        };
        Context {
            policy: &self.policy,
            references: &trust.references,
            anchors: &self.anchors,
            collateral: intel,
            snp_collateral: amd,
            gpu_collateral: gpu,
            time,
        }
    }

    fn at_hand(&self) -> AtHand<'_> {
        self.own.at_hand().or(self.fetched.at_hand())
    }
}

impl Judged {
    /// The verdict that was asked for decides: with `--at`, the one at that time.
    pub(crate) fn report(&self, json: bool) -> Result<Report, Failure> {
        let (stdout, accepted) = match self {
            Self::Now(verdict) if json => (line(verdict)?, verdict.is_accepted()),
            Self::Now(verdict) => (verdict.render(), verdict.is_accepted()),
            Self::Both(both) if json => (line(both)?, both.at.is_accepted()),
            Self::Both(both) => (both.render(), both.at.is_accepted()),
        };
        Ok(Report { stdout, accepted })
    }
}

impl Verdicts {
    /// Both in full, and in one line what they come to.
    fn render(&self) -> String {
        let word = |verdict: &Verdict| if verdict.is_accepted() { "ACCEPTED" } else { "REJECTED" };
        let mark = if self.at.simulated || self.now.simulated { "SIMULATED " } else { "" };
        let mut text = format!("{}\nThe same now:\n\n{}\n", self.at.render(), self.now.render());
        let _ = writeln!(text, "{mark}good then: {}", word(&self.at));
        let _ = writeln!(text, "{mark}would pass now: {}", word(&self.now));
        text
    }
}

fn line(value: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string(value).map_err(Failure::Write)?;
    text.push('\n');
    Ok(text)
}
