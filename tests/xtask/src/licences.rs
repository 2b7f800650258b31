//! `deny.toml` held against the crates that are really built: licences, banned crates, duplicates.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Outcome, Trouble, summary::Tally, workspace::Workspace};

const PLATFORM: &str = "x86_64-unknown-linux-gnu";

#[derive(Debug)]
struct Rules {
    allowed: Vec<String>,
    /// Name and reason.
    banned: Vec<(String, String)>,
    /// Name and licence of crates whose manifest does not say it.
    clarified: Vec<(String, String)>,
}

pub(crate) fn check(workspace: &Workspace, tally: &mut Tally) -> Outcome<()> {
    let path = workspace.root.join("deny.toml");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Trouble::failed(format!("read {}: {error}", path.display())))?;
    let rules = rules(&text)?;
    let metadata = workspace.metadata(&["--all-features", "--filter-platform", PLATFORM])?;
    let crates = crates(&metadata);
    tally.record("licences", licences(&rules, &crates));
    tally.record("banned crates", banned(&rules, &crates));
    for (name, versions) in duplicates(&crates) {
        eprintln!("   twice: {name} {}", versions.join(", "));
    }
    Ok(())
}

fn rules(text: &str) -> Outcome<Rules> {
    let bad = |error: &dyn std::fmt::Display| Trouble::failed(format!("read deny.toml: {error}"));
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| bad(&error))?;
    let list = |section: &str, key: &str| {
        let list = table.get(section).and_then(|section| section.get(key));
        list.and_then(|list| list.as_array()).cloned().unwrap_or_default()
    };
    let word = |value: &toml::Value, key: &str| {
        value.get(key).and_then(|text| text.as_str()).unwrap_or_default().to_owned()
    };
    let allowed: Vec<String> = list("licenses", "allow")
        .iter()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    if allowed.is_empty() {
        return Err(bad(&"it allows no licence"));
    }
    let banned =
        list("bans", "deny").iter().map(|ban| (word(ban, "name"), word(ban, "reason"))).collect();
    let clarified = list("licenses", "clarify")
        .iter()
        .map(|entry| (word(entry, "crate"), word(entry, "expression")))
        .collect();
    Ok(Rules { allowed, banned, clarified })
}

#[derive(Debug)]
struct Crate {
    name: String,
    version: String,
    licence: Option<String>,
}

/// What is in the dependency graph of this platform. `packages` alone would list what is never built.
fn crates(metadata: &Value) -> Vec<Crate> {
    let nodes = metadata["resolve"]["nodes"].as_array().into_iter().flatten();
    let built: Vec<&str> = nodes.filter_map(|node| node["id"].as_str()).collect();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .filter(|package| package["id"].as_str().is_some_and(|id| built.contains(&id)))
        .map(|package| Crate {
            name: text(&package["name"]).unwrap_or_default(),
            version: text(&package["version"]).unwrap_or_default(),
            licence: text(&package["license"]),
        })
        .collect()
}

fn licences(rules: &Rules, crates: &[Crate]) -> Result<(), String> {
    let licence = |one: &Crate| {
        let clarified = rules.clarified.iter().find(|(name, _)| *name == one.name);
        one.licence.clone().or_else(|| clarified.map(|(_, licence)| licence.clone()))
    };
    let refused: Vec<String> = crates
        .iter()
        .filter(|one| !licence(one).is_some_and(|text| is_allowed(&text, &rules.allowed)))
        .map(|one| {
            let licence = one.licence.as_deref().unwrap_or("no licence");
            format!("{} {}: {licence}", one.name, one.version)
        })
        .collect();
    if refused.is_empty() { Ok(()) } else { Err(refused.join("\n")) }
}

fn banned(rules: &Rules, crates: &[Crate]) -> Result<(), String> {
    let found: Vec<String> = rules
        .banned
        .iter()
        .filter(|(name, _)| crates.iter().any(|one| one.name == *name))
        .map(|(name, reason)| format!("{name}: {reason}"))
        .collect();
    if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
}

fn duplicates(crates: &[Crate]) -> BTreeMap<&str, Vec<&str>> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in crates {
        versions.entry(&one.name).or_default().push(&one.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    versions
}

/// An SPDX expression with AND, OR, WITH and brackets; the old `MIT/Apache-2.0` means OR.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut parser = Expression { words: &words, at: 0, allowed };
    let is_allowed = parser.any();
    is_allowed && parser.at == words.len()
}

struct Expression<'w> {
    words: &'w [&'w str],
    at: usize,
    allowed: &'w [String],
}

impl Expression<'_> {
    fn peek(&self) -> Option<&str> {
        self.words.get(self.at).copied()
    }

    fn takes(&mut self, word: &str) -> bool {
        let is_it = self.peek() == Some(word);
        self.at += usize::from(is_it);
        is_it
    }

    fn any(&mut self) -> bool {
        let mut is_allowed = self.all();
        while self.takes("OR") {
            // Parsed whatever came before it.
            let right = self.all();
            is_allowed = is_allowed || right;
        }
        is_allowed
    }

    fn all(&mut self) -> bool {
        let mut is_allowed = self.one();
        while self.takes("AND") {
            let right = self.one();
            is_allowed = is_allowed && right;
        }
        is_allowed
    }

    fn one(&mut self) -> bool {
        if self.takes("(") {
            let is_allowed = self.any();
            return self.takes(")") && is_allowed;
        }
        let Some(name) = self.peek().map(str::to_owned) else { return false };
        self.at += 1;
        let mut licence = name;
        if self.takes("WITH") {
            licence = format!("{licence} WITH {}", self.peek().unwrap_or_default());
            self.at += 1;
        }
        self.allowed.contains(&licence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        let allowed: Vec<String> =
            ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"]
                .map(str::to_owned)
                .to_vec();
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "",
            "(MIT",
            "MIT)",
            "GPL-2.0 WITH LLVM-exception",
            "MIT MIT",
        ] {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn rules_come_from_the_file_and_an_empty_list_is_an_error() {
        let rules =
            rules("[licenses]\nallow=['MIT']\n[bans]\ndeny=[{name='x',reason='y'}]").unwrap();
        assert_eq!(rules.allowed, ["MIT"]);
        assert_eq!(rules.banned, [("x".to_owned(), "y".to_owned())]);
        assert!(super::rules("[licenses]\nallow=[]").is_err());
    }
}
