use std::collections::BTreeSet;

use clap::{CommandFactory as _, Parser as _};

use super::{Cli, Command, job::JobCommand, vm::VmCommand};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_command_tree_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_that_does_something_shows_examples() {
    fn walk(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        if command.get_subcommands().next().is_some() {
            command.get_subcommands().for_each(|sub| walk(sub, &path, missing));
        } else if !command
            .get_after_help()
            .is_some_and(|text| text.to_string().contains("Examples:"))
        {
            missing.push(path);
        }
    }
    let mut missing = Vec::new();
    walk(&Cli::command(), "", &mut missing);
    // The daemon's own commands take one form each.
    missing.retain(|path| !path.contains(" config "));
    assert!(missing.is_empty(), "no examples: {missing:?}");
}

#[test]
fn the_customers_and_the_operators_verbs() {
    for (line, good) in [
        ("sealtune key new --suite x25519 --out k", true),
        ("sealtune key new --suite rsa", false),
        ("sealtune content id --scheme zg a b --json", true),
        ("sealtune content id", false),
        ("sealtune job show 00112233445566778899aabbccddeeff", true),
        ("sealtune job show 0011", false),
        ("sealtune job logs 00112233445566778899aabbccddeeff -f --socket /s", true),
        ("sealtune job wait 00112233445566778899aabbccddeeff --timeout 5", true),
        ("sealtune job decrypt f --job-record r", true),
        ("sealtune job decrypt f", false),
        ("sealtune job fetch 00112233445566778899aabbccddeeff", false),
        ("sealtune receipt open --job 00112233445566778899aabbccddeeff --name a,b", true),
        ("sealtune attest --nonce 00", false),
        ("sealtune vm start --vcpus 2 --memory-mib 512", true),
        ("sealtune vm logs vm-1 --log qemu", true),
        ("sealtune vm fly", false),
        ("sealtune completions bash", true),
        ("sealtune", false),
    ] {
        assert_eq!(parse(line).is_ok(), good, "{line}");
    }
}

#[test]
fn submit_is_an_alias_with_the_same_options() {
    let rest = "--model m --dataset d --image-file i --script s --env A=1 --env B=2 --no-wait";
    assert!(matches!(
        parse(&format!("sealtune submit {rest}")).expect("alias").command,
        Command::Submit(_)
    ));
    let long = parse(&format!("sealtune job submit {rest}")).expect("long");
    assert!(matches!(long.command, Command::Job(JobCommand::Submit(_))));
    for missing in [
        "sealtune submit --dataset d --image i --script s",
        "sealtune submit --model m --image i --script s",
        "sealtune submit --model m --dataset d --script s",
        "sealtune submit --model m --dataset d --image i",
        "sealtune submit --model m --dataset d --image i --image-script /s",
        "sealtune submit --model m --dataset d --image i --script s --image-script /s --script-sha256 00",
    ] {
        assert!(parse(missing).is_err(), "{missing}");
    }
}

#[test]
fn json_is_global() {
    assert!(parse("sealtune --json vm ls").expect("before").json);
    let after = parse("sealtune vm ls --json").expect("after");
    assert!(after.json && matches!(after.command, Command::Vm(VmCommand::Ls(_))));
}

#[test]
fn completions_know_every_noun() {
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish]
    {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "sealtune", &mut script);
        let script = String::from_utf8(script).expect("text");
        for noun in ["key", "content", "job", "submit", "receipt", "attest", "vm"] {
            assert!(script.contains(noun), "{shell} {noun}");
        }
    }
}

#[test]
fn help_of_the_nouns() {
    let mut command = Cli::command();
    for noun in ["key", "content", "job", "receipt", "vm"] {
        let noun = command.find_subcommand_mut(noun).expect("noun");
        let mut verbs = String::new();
        for verb in noun.get_subcommands() {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            verbs.push_str(&format!("{:<8} {about}\n", verb.get_name()));
        }
        insta::assert_snapshot!(format!("help_{}", noun.get_name()), verbs);
    }
}

/// Every code of the client is in the README, once.
#[test]
fn the_readme_lists_every_code() {
    let readme = include_str!("../../README.md");
    let source = include_str!("../client/error.rs");
    let code = |text: &str| {
        let starts: Vec<usize> = text.match_indices("ST-CLI-").map(|(at, _)| at).collect();
        starts
            .into_iter()
            .filter_map(|at| text.get(at..at + 9).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let used = code(source);
    let unique: BTreeSet<_> = used.iter().cloned().collect();
    assert_eq!(used.len(), unique.len(), "a code stands for two causes");
    let rows: Vec<_> = readme.lines().filter(|line| line.starts_with("| ST-CLI-")).collect();
    let listed: BTreeSet<_> = rows.iter().flat_map(|row| code(row)).collect();
    assert_eq!(listed.len(), rows.len(), "a code has two rows");
    for used in unique {
        assert!(listed.contains(&used), "{used} is not in the README");
    }
}
