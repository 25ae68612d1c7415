//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use chrono::TimeDelta;
use clap::{Args, Parser, Subcommand};
use settings::logging;

use crate::beat::BeatCommand;

/// Where a task goes that is sent without naming a queue.
const DEFAULT_QUEUE: &str = "celery";

const AFTER_HELP: &str = "\
Exit status:
  0   done; health: healthy
  1   health: warning; token verify: refused
  2   health: critical
  64  the command line is wrong
  69  Redis cannot be reached
  70  the work failed: the task, the command, or the tables are not what is needed
  71  the system refused something, such as reading or writing a file
  74  the database cannot be reached
  75  no result came in time
  78  a setting is wrong

With --json, one JSON object is written to standard output; messages go to standard error.
Settings are read from the environment, over a file of the same names (--settings, SETTINGS_FILE).";

/// Maintains the JWT key pairs, scopes and tokens of a Django site.
///
/// Works directly on the database (DATABASE_URL), so also while Redis is down. With --queue, a
/// worker does the work instead.
#[derive(Debug, Parser)]
#[command(name = "jwt_manage", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Write one JSON object instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// A TOML file of settings; the environment comes first
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// What to log to standard error: error, warning, info, debug or trace [default: warning]
    #[arg(short = 'l', long, global = true, value_name = "LEVEL", value_parser = level)]
    pub(crate) loglevel: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create the missing default scopes, and a key pair if none is active
    Init(Change),
    /// Revoke expired tokens, and delete those that were revoked long ago
    Cleanup(Change),
    /// Make a new signing key pair, if one is due
    Rotate(Rotate),
    /// Judge key pairs, tokens and scopes; the exit status tells
    Health(Health),
    /// List key pairs, scopes and tokens
    Status,
    /// Make a new signing key pair now
    CreateKeypair(Change),
    /// Create the missing default scopes
    CreateScopes(Change),
    /// Delete old inactive key pairs that no token refers to
    CleanupKeypairs(Change),
    /// Make the tables that are missing; those that exist stay as they are
    Migrate(Migrate),
    /// Compare the tables with what is needed
    Check,
    /// Show the public keys that tokens may have to be verified with, as a JWK set
    Jwks(Jwks),
    /// Encrypt the stored private keys with JWT_PRIVATE_KEY_PASSWORD
    EncryptKeys(DryRun),
    /// Store the private keys without encryption again
    DecryptKeys(DryRun),
    /// Show who did what to key pairs and tokens, when and why
    Audit(Audit),
    /// Issue, verify, inspect or revoke a token, for support and for tests
    #[command(subcommand)]
    Token(TokenCommand),
    /// Look at the queues and the workers
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Look at the periodic tasks, and switch them
    #[command(subcommand)]
    Beat(BeatCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Sign a token for a user and record it; prints the token
    Issue(TokenIssue),
    /// Say whether a token is accepted, and why not; the exit status tells
    Verify(TokenVerify),
    /// Show everything that is known of a token
    Inspect(TokenInspect),
    /// Have a token refused from now on
    Revoke(TokenRevoke),
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Show the messages that wait and that are being worked on, and the workers
    Status(QueueStatus),
    /// Look after the messages that nobody can execute
    #[command(subcommand)]
    Dead(DeadCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// Show the newest, with the reason of each
    List(DeadList),
    /// Show one with its original bytes, arguments included
    Show {
        /// Its name in the list
        name: String,
    },
    /// Put the exact bytes back into the queue that they came from
    Retry(DeadNames),
    /// Delete for good
    Drop(DeadNames),
}

#[derive(Debug, Args)]
pub(crate) struct DeadList {
    /// The most to show
    #[arg(long, value_name = "NUMBER", default_value = "50")]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct DeadNames {
    /// Their names in the list
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Health {
    #[command(flatten)]
    pub(crate) via: Via,
    /// Report again and again until Ctrl-C, every so many seconds [default: 10]
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "10",
        value_parser = seconds
    )]
    pub(crate) watch: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// The most events to show, of the newest
    #[arg(long, value_name = "NUMBER", default_value = "50")]
    pub(crate) limit: u32,
    /// Only those of the last so many days
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: Option<u32>,
    /// Only those of this key pair, by its kid or its id
    // A kid is base64url, and may begin with a hyphen.
    #[arg(long, value_name = "KID", allow_hyphen_values = true)]
    pub(crate) keypair: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenIssue {
    /// The key of the user, as the site's user table has it
    #[arg(long, value_name = "ID")]
    pub(crate) user: String,
    /// What the token is to permit; may be given several times
    #[arg(long = "scope", value_name = "NAME")]
    pub(crate) scopes: Vec<String>,
    /// How long it is to live [default: JWT_DEFAULT_EXPIRY_HOURS]
    #[arg(long, value_name = "HOURS", value_parser = hours)]
    pub(crate) expires_in: Option<TimeDelta>,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) purpose: String,
    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

/// A token is a secret, and a command line is not: it comes from a file or from standard input.
#[derive(Debug, Args)]
pub(crate) struct TokenFile {
    /// The file with the token; `-`: standard input
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TokenVerify {
    #[command(flatten)]
    pub(crate) token: TokenFile,
    /// What the token has to permit; may be given several times
    #[arg(long = "scope", value_name = "NAME")]
    pub(crate) scopes: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenInspect {
    #[command(flatten)]
    pub(crate) token: TokenFile,
    /// What is recorded of the token with this jti, instead
    #[arg(long, value_name = "JTI", conflicts_with = "file", allow_hyphen_values = true)]
    pub(crate) jti: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRevoke {
    #[command(flatten)]
    pub(crate) token: TokenFile,
    /// The token with this jti, instead
    #[arg(long, value_name = "JTI", conflicts_with = "file", allow_hyphen_values = true)]
    pub(crate) jti: Option<String>,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

/// How a task is done: here, or by a worker.
#[derive(Debug, Args)]
pub(crate) struct Via {
    /// Send a task to this queue [default: celery] and wait for a worker's result
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = DEFAULT_QUEUE)]
    pub(crate) queue: Option<String>,
    /// With --queue: the longest wait for the result
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    #[command(flatten)]
    pub(crate) via: Via,
    /// Only say what would be done
    #[arg(long, conflicts_with = "queue")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DryRun {
    /// Only say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    pub(crate) change: Change,
    /// Also when none is due
    #[arg(long)]
    pub(crate) force: bool,
    /// Deactivate all older key pairs at once, for a key that has leaked: their tokens are lost
    #[arg(long, requires = "force")]
    pub(crate) retire_now: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    #[command(flatten)]
    pub(crate) dry_run: DryRun,
    /// Also add the indexes that make the cleanup of many tokens cheap
    #[arg(long)]
    pub(crate) cleanup_indexes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Jwks {
    /// Replace this file, in one step, for a web server to serve
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct QueueStatus {
    /// Queues to show beside those that workers and producers are known to use
    #[arg(value_name = "QUEUE", default_value = DEFAULT_QUEUE)]
    pub(crate) queues: Vec<String>,
}

fn level(name: &str) -> Result<String, String> {
    logging::parse_level(name).map(|_| name.to_owned())
}

fn hours(text: &str) -> Result<TimeDelta, String> {
    let hours: Option<f64> = text.parse().ok();
    hours
        .filter(|hours| *hours > 0.0 && *hours <= 876_000.0)
        .map(|hours| TimeDelta::seconds((hours * 3600.0).round() as i64))
        .filter(|life| !life.is_zero())
        .ok_or_else(|| "it must be a number of hours above 0".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .filter(|wait| !wait.is_zero())
        .ok_or_else(|| "it must be a number of seconds above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_queue_may_be_named_or_not() {
        for (line, expected) in [
            ("jwt_manage cleanup", None),
            ("jwt_manage cleanup --queue", Some("celery")),
            ("jwt_manage cleanup --queue --json --timeout 5", Some("celery")),
            ("jwt_manage cleanup --queue night --timeout 5", Some("night")),
        ] {
            let Command::Cleanup(change) = parsed(line).unwrap().command else { panic!("{line}") };
            assert_eq!(change.via.queue.as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_kid_may_begin_with_a_hyphen() {
        let arguments = parsed("jwt_manage audit --keypair -pKHw --json").unwrap();
        let Command::Audit(audit) = arguments.command else { panic!("audit") };
        assert_eq!((audit.keypair.as_deref(), arguments.json), (Some("-pKHw"), true));
        let arguments = parsed("jwt_manage token revoke --jti -1 --dry-run").unwrap();
        assert!(matches!(arguments.command, Command::Token(TokenCommand::Revoke(_))));
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        for line in [
            "jwt_manage cleanup --queue --dry-run",
            "jwt_manage rotate --retire-now",
            "jwt_manage cleanup --timeout 0",
            "jwt_manage cleanup --timeout NaN",
            "jwt_manage status --queue",
            "jwt_manage health --watch 0",
            "jwt_manage token issue",
            "jwt_manage token issue --user 1 --expires-in 0",
            "jwt_manage token revoke file --jti x",
            "jwt_manage audit --days 0",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
