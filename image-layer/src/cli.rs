//! The command line: arguments, dispatch, exit status.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use serde::Serialize;

use crate::apt::Suite;
use crate::erofs::Compression;
use crate::error::{ExitClass, ImageError};
use crate::image::{self, Order};
use crate::inspect;
use crate::layer::{self, LayerOrder};
use crate::measure;
use crate::packages::{Origin, PackageCache};
use crate::profile::Profile;
use crate::release::{self, Verb};
use sealtune_evidence::Shape;

#[derive(Debug, Parser)]
#[command(
    name = "sealtune-image",
    version,
    about = "Builds, measures and checks Sealtune's guest image and its training layers",
    after_help = "Examples:
  \
        sealtune-image build --profile dev --agent sealtune-agent --out image-dev
  \
        sealtune-image layer --name training-numpy --out layers \\
    \
            --packages python3,python3-numpy,libopenblas0-pthread
  \
        sealtune-image measure --image image-dev --vcpus 2 --memory-mib 2048 \\
    \
            --firmware /usr/share/seabios/bios-256k.bin
  \
        sealtune-image verify image-dev

\
        Exit status: 0 done, 1 the answer is no, 2 usage, 3 environment."
)]
struct Cli {
    /// One JSON object on stdout; errors as JSON on stderr
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an image directory: kernel, initramfs, descriptions, reference values
    #[command(
        after_help = "Example:\n  sealtune-image build --profile prod --agent sealtune-agent --out image --json"
    )]
    Build {
        #[arg(long, value_enum)]
        profile: Profile,
        /// The image directory; an earlier image there is replaced in one step
        #[arg(long)]
        out: PathBuf,
        /// The agent: a static x86-64 program that becomes /init
        #[arg(long)]
        agent: PathBuf,
        /// Debian suite whose linux-image-cloud-amd64 is taken
        #[arg(long, default_value = "trixie-backports")]
        suite: String,
        #[command(flatten)]
        packages: PackageArgs,
    },
    /// Make a training layer: a read-only root file system with its dm-verity tree
    #[command(after_help = "Example:\n  sealtune-image layer --name training-numpy \\\n    \
        --packages python3,python3-numpy,libopenblas0-pthread \\\n    --file train.py:/app/train.py --out layers")]
    Layer {
        #[arg(long)]
        name: String,
        /// Debian packages; what they depend on comes with them
        #[arg(long, value_delimiter = ',', required = true)]
        packages: Vec<String>,
        /// Directory for NAME.erofs and NAME.layer.json
        #[arg(long)]
        out: PathBuf,
        #[arg(long, default_value = "trixie")]
        suite: String,
        /// Also put this file or directory in: SRC:/absolute/place
        #[arg(long = "file", value_name = "SRC:DEST")]
        files: Vec<String>,
        /// Do not compile Python modules ahead (smaller, but slower to start)
        #[arg(long)]
        no_precompile: bool,
        /// How file contents are stored
        #[arg(long, value_enum, default_value = "lz4hc")]
        compression: Compression,
        #[command(flatten)]
        packages_from: PackageArgs,
    },
    /// The registers that an image must show (simulated layout 1)
    #[command(after_help = "Example:\n  sealtune-image measure --image image-dev \\\n    \
        --firmware /usr/share/seabios/bios-256k.bin --vcpus 2 --memory-mib 2048 --json")]
    Measure {
        #[arg(long)]
        image: PathBuf,
        /// The firmware file that the host's QEMU loads
        #[arg(long)]
        firmware: PathBuf,
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
        vcpus: u32,
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
        memory_mib: u64,
        /// Layers that belong to the release, for --reference-values
        #[arg(long = "layer", value_name = "NAME.layer.json", requires = "reference_values")]
        layers: Vec<PathBuf>,
        /// Write what `sealtune-verify` compares evidence with; a row is added to a file that is there
        #[arg(long, value_name = "FILE")]
        reference_values: Option<PathBuf>,
    },
    /// What an image directory holds
    #[command(after_help = "Example:\n  sealtune-image inspect image-dev")]
    Inspect { directory: PathBuf },
    /// Hash an image directory again; exit status 1 when something differs
    #[command(after_help = "Example:\n  sealtune-image verify image-dev && echo intact")]
    Verify { directory: PathBuf },
    /// Compare two image directories; exit status 1 when they differ
    #[command(after_help = "Example:\n  sealtune-image diff image-0.1.0 image-0.2.0")]
    Diff { a: PathBuf, b: PathBuf },
    /// Keys and manifests of releases
    Release {
        #[command(subcommand)]
        verb: Verb,
    },
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  sealtune-image completions bash > /etc/bash_completion.d/sealtune-image"
    )]
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
struct PackageArgs {
    /// Debian archive to fetch from [default: the one in this machine's apt sources]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Debian security archive [default: the one in this machine's apt sources, if any]
    #[arg(long, value_name = "URL")]
    security_mirror: Option<String>,
    /// Keyring that signed the archive [default: debian-archive-keyring's]
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Where packages are kept between builds
    #[arg(
        long,
        value_name = "DIR",
        default_value = "target/sealtune-cache",
        env = "SEALTUNE_IMAGE_CACHE"
    )]
    cache: PathBuf,
    /// Ask the archive again, for newer packages
    #[arg(long)]
    refresh: bool,
}

impl PackageArgs {
    fn open(self) -> Result<PackageCache, ImageError> {
        let origin = Origin {
            mirror: self.mirror,
            security_mirror: self.security_mirror,
            keyring: self.keyring,
            refresh: self.refresh,
        };
        PackageCache::open(&self.cache, origin)
    }
}

/// Parses the arguments, does what they say, and turns the outcome into an exit status.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && std::env::args_os().any(|word| word == "--json") => {
            let detail = error.to_string();
            return fail(
                true,
                &ImageError::BadArgument {
                    argument: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
                    detail: detail.lines().next().unwrap_or_default().to_owned(),
                },
            );
        }
        Err(error) => error.exit(),
    };
    let json = cli.json;
    match dispatch(cli) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => exit(ExitClass::AnswerIsNo),
        Err(error) => fail(json, &error),
    }
}

fn fail(json: bool, error: &ImageError) -> ExitCode {
    let message = format!("failed to {error}");
    if json {
        let object = ErrorObject {
            error: ErrorFields { code: error.code(), message: &message, fix: error.fix() },
        };
        match serde_json::to_string(&object) {
            Ok(text) => eprintln!("{text}"),
            Err(_) => eprintln!("{message}"),
        }
    } else {
        eprintln!("error {}: {message}\n  fix: {}", error.code(), error.fix());
    }
    exit(error.exit_class())
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    code: &'static str,
    message: &'a str,
    fix: &'static str,
}

fn exit(class: ExitClass) -> ExitCode {
    ExitCode::from(class as u8)
}

pub(crate) enum Answer {
    Yes,
    No,
}

impl Answer {
    fn when(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

fn dispatch(cli: Cli) -> Result<Answer, ImageError> {
    let json = cli.json;
    match cli.command {
        Command::Build { profile, out, agent, suite, packages } => {
            let order = Order { profile, suite: Suite::parse(&suite)?, agent: &agent, out: &out };
            let report = image::build(&order, &packages.open()?)?;
            show(json, &report, || inspect::build_text(&report))?;
        }
        Command::Layer {
            name,
            packages,
            out,
            suite,
            files,
            no_precompile,
            compression,
            packages_from,
        } => {
            let order = LayerOrder::new(
                &name,
                &packages,
                &suite,
                &files,
                !no_precompile,
                compression,
                out,
            )?;
            let report = layer::build(&order, &packages_from.open()?)?;
            show(json, &report, || report.text())?;
        }
        Command::Measure { image, firmware, vcpus, memory_mib, layers, reference_values } => {
            let shape = Shape { memory_mib, vcpus };
            let expected = measure::measure(&image, &firmware, shape)?;
            if let Some(file) = reference_values {
                measure::write_reference_values(&image, &firmware, shape, &layers, &file)?;
            }
            show(json, &expected, || {
                format!(
                    "layout {}\nmrtd   {}\nrtmr0  {}\nrtmr1  {}\nrtmr2  {}\n",
                    expected.layout, expected.mrtd, expected.rtmr0, expected.rtmr1, expected.rtmr2
                )
            })?;
        }
        Command::Inspect { directory } => {
            let found = inspect::inspect(&directory)?;
            show(json, &found, || inspect::inspect_text(&found))?;
        }
        Command::Verify { directory } => {
            let verdict = inspect::verify(&directory)?;
            show(json, &verdict, || inspect::verify_text(&verdict))?;
            return Ok(Answer::when(verdict.intact));
        }
        Command::Diff { a, b } => {
            let difference = inspect::diff(&a, &b)?;
            show(json, &difference, || inspect::diff_text(&difference))?;
            return Ok(Answer::when(difference.same));
        }
        Command::Release { verb } => return release::run(verb, json),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "sealtune-image",
                &mut std::io::stdout(),
            );
        }
    }
    Ok(Answer::Yes)
}

pub(crate) fn show(
    json: bool,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<(), ImageError> {
    use std::io::Write;
    let bytes = if json { image::json(value)? } else { text().into_bytes() };
    // A reader that closed the pipe early is not an error of the build.
    let _closed_pipe = std::io::stdout().write_all(&bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_of_a_build_and_a_layer() {
        let cli = Cli::parse_from(
            "sealtune-image build --profile dev --agent a --out o --json".split(' '),
        );
        assert!(cli.json && matches!(cli.command, Command::Build { profile: Profile::Dev, .. }));
        let cli = Cli::parse_from(
            "x layer --name n --packages a1,b2 --file a:/b --file c:/d --out o".split(' '),
        );
        let Command::Layer { packages, files, .. } = cli.command else { panic!() };
        assert_eq!((packages.len(), files.len()), (2, 2));
        assert!(
            Cli::try_parse_from(
                "x measure --image i --firmware f --vcpus 0 --memory-mib 1".split(' ')
            )
            .is_err()
        );
    }
}
