//! The command line: one file per command.

mod audit;
mod check_config;
mod demo;
mod doctor;
mod explain;
mod failure;
mod host;
mod key;
mod loadgen;
mod login;
mod migrate;
mod move_store;
mod node;
mod output;
mod sample;
mod serve;
mod simulated;
mod span;
mod tail;
mod token;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::Failure;
pub use sample::{Sample, SampleAgent};

use crate::config::{self, Loaded};

/// EML runs a call centre: calls, agents and queues as supervised actors.
#[derive(Debug, Parser)]
#[command(name = "eml", version, about, max_term_width = 100)]
struct Arguments {
    /// Configuration file; ./config.toml when it is there.
    #[arg(long, global = true, env = "EML_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the embedded store and the signing key live.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Form of the log: auto, json or pretty.
    #[arg(long, global = true, value_name = "FORM")]
    log_format: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a node (also without a command).
    Serve(serve::Arguments),
    /// Runs a node with a simulated carrier, sample queues and simulated agents.
    Demo(demo::Arguments),
    /// Checks the configuration.
    CheckConfig(check_config::Arguments),
    /// Shows the configuration.
    #[command(subcommand)]
    Config(check_config::Show),
    /// Follows the events of the node that uses the same store.
    Tail(tail::Arguments),
    /// Checks each configured part: connect, version, write and read back, clock, migrations.
    Doctor(doctor::Arguments),
    /// Shows or applies changes of the store's tables.
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Copies the embedded store to another one, with counts and checksums.
    Move(move_store::Arguments),
    /// Puts load on a demo node: it plays both outer sides, carrier and agents.
    Loadgen(loadgen::Arguments),
    /// The nodes of the cluster.
    #[command(subcommand)]
    Node(node::Command),
    /// The audit trail.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Users.
    #[command(subcommand)]
    User(user::Command),
    /// Signs in to a node with a browser anywhere, and keeps the tokens for you.
    Login(login::Arguments),
    /// Gives the tokens of `login` back.
    Logout(login::Place),
    /// Access tokens.
    #[command(subcommand)]
    Token(token::Command),
    /// The keys that tokens are signed with.
    #[command(subcommand)]
    Key(key::Command),
    /// Prints the `OpenAPI` document.
    Openapi,
    /// Explains an error code.
    Explain(explain::Arguments),
    /// Prints version and commit.
    Version(explain::Version),
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::failed(format!("runtime: {error}")).report(),
    };
    let done = runtime.block_on(run(arguments));
    // What still runs beside the commands has nothing to finish.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { config, data_dir, log_format, command } = arguments;
    let load = |listen: Option<String>| {
        let flags = [
            ("--listen", "server.listen", listen),
            ("--data-dir", "node.data_dir", data_dir.as_ref().map(|folder| folder.display().to_string())),
            ("--log-format", "telemetry.log_format", log_format.clone()),
        ];
        load_config(config.as_deref(), flags)
    };
    match command.unwrap_or(Command::Serve(serve::Arguments::default())) {
        Command::Serve(arguments) => serve::run(load(arguments.listen.clone())?.settings).await,
        Command::Demo(arguments) => {
            let settings = load(arguments.listen.clone())?.settings;
            demo::run(arguments, settings).await
        }
        Command::CheckConfig(arguments) => check_config::run(&arguments, load(None)).await,
        Command::Config(show) => check_config::show(&show, load(None)),
        Command::Tail(arguments) => tail::run(arguments, load(None)?.settings).await,
        Command::Doctor(arguments) => Box::pin(doctor::run(arguments, load(None)?.settings)).await,
        Command::Migrate(command) => migrate::run(command, load(None)?.settings).await,
        Command::Move(arguments) => move_store::run(arguments, load(None)?.settings).await,
        Command::Loadgen(arguments) => loadgen::run(arguments, load(None)?.settings).await,
        Command::Node(command) => node::run(command, load(None)?.settings).await,
        Command::Audit(command) => audit::run(command, load(None)?.settings).await,
        Command::User(command) => user::run(command, load(None)?.settings).await,
        Command::Login(arguments) => login::run(arguments, load(None)?.settings).await,
        Command::Logout(place) => login::out(place, load(None)?.settings).await,
        Command::Token(command) => token::run(command, load(None)?.settings).await,
        Command::Key(command) => key::run(command, load(None)?.settings).await,
        Command::Openapi => {
            let document = crate::edge::openapi().to_pretty_json();
            output::line(document.map_err(|error| Failure::failed(error.to_string()))?);
            Ok(())
        }
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Version(arguments) => {
            explain::version(&arguments);
            Ok(())
        }
    }
}

fn load_config<const N: usize>(
    file: Option<&std::path::Path>,
    flags: [(&'static str, &str, Option<String>); N],
) -> Result<Loaded, Failure> {
    // What is not UTF-8 cannot be one of our keys.
    let text = |name: std::ffi::OsString| name.into_string().ok();
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
    let environment = variables.collect();
    let mut sources = config::gather(file, environment).map_err(|problem| Failure::config(&[problem]))?;
    let given = flags.into_iter().filter_map(|(flag, key, value)| Some((flag, key.to_owned(), value?)));
    sources.flags.extend(given);
    config::load(&sources).map_err(|problems| Failure::config(&problems))
}
