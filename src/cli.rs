//! The command line: one module for each verb, and their common parts. The verbs that query or change a running daemon
//! use its admin socket. `run`, `check`, `backup`, `restore`, and `import`, `export` and `purge` of a stopped daemon
//! load the configuration.

mod admin;
mod backup;
mod check;
mod common;
mod completions;
mod explain;
mod export;
mod import;
mod links;
mod log_level;
mod migrate;
mod move_store;
mod output;
mod program;
mod progress;
mod purge;
mod restore;
mod run;
#[cfg(feature = "sandbox")]
mod sandbox;
mod shopify_toml;
mod show;
mod unlink;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};

use self::links::{Choice, List};
use self::program::Program;
use crate::core::model::{Label, Source, UserId};
use crate::exit::{self, Failure};

/// Keeps the public metadata of linked Facebook Pages true in DigitalOcean Spaces.
#[derive(Debug, Parser)]
#[command(name = "pagesyncd", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file
    #[arg(long, global = true, value_name = "PATH", default_value = program::DEFAULT_CONFIG)]
    config: PathBuf,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon in the foreground
    Run,
    /// Load and validate the configuration exactly as `run` does, and print every finding
    Check {
        /// Also ask Graph, and put, head, get and delete a scratch object in Spaces
        #[arg(long)]
        online: bool,
    },
    /// Show the whole system working on this machine: a local Facebook, a local Spaces, the real daemon
    #[cfg(feature = "sandbox")]
    Sandbox(sandbox::Args),
    /// What the running daemon says of itself
    Status {
        /// Again every so many seconds, until Ctrl-C
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2")]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
        watch: Option<u64>,
    },
    /// One line per link: Facebook Pages and Shopify shops
    Links {
        /// Only links of this source
        #[arg(long, value_name = "SOURCE", value_parser = common::source_parser())]
        source: Option<Source>,
        #[command(flatten)]
        choice: Choice,
    },
    /// One line per linked Facebook Page
    Pages(Choice),
    /// Read a page or a shop again now
    Sync {
        /// The page, or the shop with `--source shopify`
        #[arg(value_name = "ID")]
        id: String,
        /// Where it is
        #[arg(long, value_name = "SOURCE", value_parser = common::source_parser(), default_value = "facebook")]
        source: Source,
        /// Only this user's link
        #[arg(long, value_name = "UUID")]
        user: Option<UserId>,
    },
    /// Drop a link: unsubscribe, forget the token, delete the object from Spaces
    Unlink(unlink::Args),
    /// Mint a browser session for a user; prints the cookie value and a one-time login URL
    Session {
        /// The user of the platform
        #[arg(long, value_name = "UUID")]
        user: UserId,
        /// How long the session lives, like 1h or 30d, 400d at most; `session.ttl` when not given
        #[arg(long, value_name = "DURATION", value_parser = ttl)]
        ttl: Option<Duration>,
        /// The name of the user on the pages that a login shows; the UUID when not given
        #[arg(long, value_name = "TEXT")]
        label: Option<Label>,
    },
    /// Import existing links, a JSON object a line: {"user","page_id","access_token","facebook_user_id"?,"name"?}
    Import {
        /// The file; `-` is standard input
        file: PathBuf,
        /// The file that holds the passphrase of an export
        #[arg(long, value_name = "PATH")]
        passphrase_file: Option<PathBuf>,
        /// Replace tokens and logins even where those that stand are newer, or work while the new ones do not
        #[arg(long)]
        replace: bool,
    },
    /// Write all links and logins to a file, tokens sealed with the store key or with a passphrase
    Export {
        /// The file, which must not exist yet; `-` is standard output
        file: PathBuf,
        /// Seal with the passphrase in this file, to import where the store key is another
        #[arg(long, value_name = "PATH")]
        passphrase_file: Option<PathBuf>,
    },
    /// Write all links and logins, sealed with `backup.passphrase`, to the bucket, and delete backups that are too old
    Backup {
        /// Delete backups that are older than this, like 30d; `backup.keep` when not given
        #[arg(long, value_name = "DURATION", value_parser = backup::keep)]
        keep: Option<Duration>,
        /// Only list the backups
        #[arg(long, conflicts_with = "keep")]
        list: bool,
    },
    /// Bring a backup from the bucket back into an empty store
    Restore {
        /// The name of the backup, as `backup --list` prints it, or `latest`
        #[arg(value_name = "NAME", default_value = "latest")]
        name: String,
        /// Into a store with links as well: what works there is kept
        #[arg(long)]
        merge: bool,
    },
    /// Forget persons by a list of app-scoped user ids, one a line, as Meta mails it
    Purge {
        /// The file; `-` is standard input
        file: PathBuf,
        /// Only report what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Bring the tables of the shared database (`store.url`) forward
    Migrate {
        /// Change nothing; end with 78 if there is something to do
        #[arg(long)]
        check: bool,
        /// With all daemons stopped: the bucket of the configuration takes the place of the one before, and every link
        /// is read again
        #[arg(long, conflicts_with = "check")]
        bucket: bool,
    },
    /// Move a stopped store from its folder (`store.path`) into a shared database, or back
    MoveStore(move_store::Args),
    /// Print the configuration of the Shopify app, for `shopify app deploy`
    ShopifyToml,
    /// Show or change the level of the running daemon's log for a while
    LogLevel(log_level::Args),
    /// Print a fresh store key
    Keygen {
        /// Print a fresh secret for events instead (`notify.secret`)
        #[arg(long)]
        notify: bool,
    },
    /// Explain a health, a configuration key, an error code, an exit code or another topic of the documents
    Explain {
        /// The topic, such as `needs_login` or `spaces.max_in_flight`; all topics are listed without one
        #[arg(value_name = "TOPIC", num_args = 0..)]
        topic: Vec<String>,
    },
    /// Print the script with which a shell completes verbs, flags and their values
    Completions {
        /// The shell
        #[arg(value_name = "SHELL", value_enum)]
        shell: completions::Shell,
    },
}

/// The command line as clap knows it, for the man page.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The text that `explain` prints about a topic; `None` for a topic that is unknown.
pub fn explanation(topic: &str) -> Option<String> {
    explain::explanation(topic)
}

/// Runs the program.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for and go to standard output; anything else is a wrong command line.
            let printed = error.print();
            if error.use_stderr() {
                return ExitCode::from(exit::USAGE);
            }
            return exit::finish(output::seen(printed));
        }
    };
    let private = keep_memory_private();
    let program = Program::new(arguments.first().map(OsString::as_os_str), &cli.config);
    exit::finish(dispatch(cli, &program, private).map_err(|failure| program.say_failure(failure)))
}

/// The life of a session, within the bounds of `session.ttl`.
fn ttl(text: &str) -> Result<Duration, String> {
    const LIKE: &str = "is not a duration; write a number and a unit, such as 1h or 30d";
    let ttl = humantime::parse_duration(text).map_err(|_| LIKE.to_owned())?;
    crate::config::check_session_ttl(ttl).map(|()| ttl)
}

/// Keeps secrets and tokens in memory from core files, and from other processes of the same user.
fn keep_memory_private() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

fn dispatch(cli: Cli, program: &Program, private: std::io::Result<()>) -> Result<(), Failure> {
    let Cli { config, json, verb } = cli;
    let client = || admin::AdminClient::find(&config);
    match verb {
        Verb::Run => run::run(&config, private),
        Verb::Check { online } => check::check(&config, online, json),
        #[cfg(feature = "sandbox")]
        Verb::Sandbox(args) => sandbox::sandbox(args, program),
        Verb::Status { watch: None } => show::status(&client()?, json),
        Verb::Status { watch: Some(seconds) } => watch::watch(&client()?, Duration::from_secs(seconds), json),
        Verb::Links { source, choice } => links::links(&client()?, program, List::Links(source), &choice, json),
        Verb::Pages(choice) => links::links(&client()?, program, List::Pages, &choice, json),
        Verb::Sync { id, source, user } => {
            let id = common::id_of(source, &id)?;
            show::sync(&client()?, program, &id, user, json)
        }
        Verb::Unlink(args) => unlink::unlink(&client()?, &args, json),
        Verb::Session { user, ttl, label } => show::session(&client()?, user, ttl, label.as_ref(), json),
        Verb::Import { file, passphrase_file, replace } => {
            import::import(&config, &file, passphrase_file.as_deref(), replace, json)
        }
        Verb::Export { file, passphrase_file } => export::export(&config, &file, passphrase_file.as_deref()),
        Verb::Backup { list: true, .. } => backup::list(&config, json),
        Verb::Backup { keep, .. } => backup::backup(&config, keep, json),
        Verb::Restore { name, merge } => restore::restore(&config, &name, merge, json),
        Verb::Purge { file, dry_run } => purge::purge(&config, &file, dry_run, json),
        Verb::Migrate { check, bucket } => migrate::migrate(&config, check, bucket, json),
        Verb::MoveStore(args) => move_store::move_store(&config, &args, json),
        Verb::LogLevel(args) => log_level::log_level(&client()?, &args, json),
        Verb::ShopifyToml => shopify_toml::shopify_toml(&config, json),
        Verb::Keygen { notify } => {
            let none = |e| Failure::new(exit::TRY_AGAIN, format!("no key can be made: {e}"), "");
            let key = crate::store::seal::generate_key().map_err(none)?;
            // 32 random bytes in standard base64 are what both are made of.
            let key = if notify { format!("whsec_{key}") } else { key };
            let text = if json { serde_json::json!({ "key": key }).to_string() } else { key };
            output::line(text)
        }
        Verb::Explain { topic } => explain::explain(&topic, program, json),
        Verb::Completions { shell } => completions::completions(shell, command()),
    }
}
