//! `sealtune serve`: configuration, the task that owns the pool of VMs, and the start and end of the daemon.

pub(crate) mod changes;
pub(crate) mod cli;
pub(crate) mod config;
pub(crate) mod pool;
mod retention;
pub(crate) mod serve;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Every code that the daemon's sources name stands in the README, in one row.
    #[test]
    fn the_readme_lists_every_code_of_the_daemon() {
        let sources = [
            include_str!("../api/error.rs"),
            include_str!("../api/jobs.rs"),
            include_str!("../api/uploads.rs"),
            include_str!("../api/vms.rs"),
            include_str!("../content/mod.rs"),
            include_str!("../store/mod.rs"),
            include_str!("../vm/image.rs"),
            include_str!("../vm/probe.rs"),
            include_str!("../vm/state.rs"),
            include_str!("../vm/streams.rs"),
            include_str!("../vm/task.rs"),
            include_str!("../vm/task/events.rs"),
            include_str!("../vm/task/transfers.rs"),
            include_str!("../vm/tee.rs"),
            include_str!("config.rs"),
            include_str!("pool.rs"),
            include_str!("serve.rs"),
        ];
        let mut used = BTreeSet::new();
        for source in sources {
            for part in source.split("\"ST-").skip(1) {
                used.insert(format!("ST-{}", part.split('"').next().unwrap_or_default()));
            }
        }
        let readme = include_str!("../../README.md");
        let rows = readme.lines().filter(|line| line.starts_with("| ST-"));
        let listed: Vec<_> = rows.filter_map(|row| row.split_whitespace().nth(1)).collect();
        let unique: BTreeSet<_> = listed.iter().collect();
        assert_eq!(unique.len(), listed.len(), "a code has two rows");
        assert!(used.len() > 40);
        // The agent's codes stand in the agent's README.
        for code in used.iter().filter(|code| !code.starts_with("ST-AGENT-")) {
            assert!(listed.contains(&code.as_str()), "{code} is not in the README");
        }
    }
}
