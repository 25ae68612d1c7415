//! A site's database, and the program on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, SqliteConnection};
use serde_json::Value;
use settings::SecretString;
use shared_models::Database;
use tempfile::TempDir;
use test_servers::Postgres;

/// A database of its own for one test, with a folder to work in.
pub(crate) struct Site {
    pub(crate) engine: &'static str,
    folder: TempDir,
    url: String,
    settings: Vec<(String, String)>,
}

impl Site {
    /// An empty SQLite database, which the program makes when it first needs it.
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("var/jwt.sqlite3").display());
        Self { engine: "SQLite", folder, url, settings: Vec::new() }
    }

    /// An empty PostgreSQL database.
    pub(crate) fn postgres() -> Self {
        let url = Postgres::shared().create_database();
        let folder = tempfile::tempdir().unwrap();
        Self { engine: "PostgreSQL", folder, url, settings: Vec::new() }
    }

    /// One of each, with tables.
    pub(crate) fn both() -> [Self; 2] {
        [Self::sqlite(), Self::postgres()].map(|site| {
            site.json(&["migrate"]);
            site
        })
    }

    /// A setting for what is run from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address of the database.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The file of a SQLite database.
    pub(crate) fn database_file(&self) -> PathBuf {
        self.url.strip_prefix("sqlite://").unwrap().into()
    }

    /// Runs SQL on the database, whatever its tables are.
    pub(crate) fn execute(&self, sql: &str) {
        if self.url.starts_with("sqlite") {
            let path = self.database_file().display().to_string();
            SqliteConnection::establish(&path).unwrap().batch_execute(sql).unwrap();
        } else {
            PgConnection::establish(&self.url).unwrap().batch_execute(sql).unwrap();
        }
    }

    /// The database, to put rows into it.
    pub(crate) fn database(&self) -> Database {
        Database::connect(&SecretString::from(self.url.as_str()), 1).unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, &[])
    }

    /// With settings for this run only.
    pub(crate) fn run_with(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Done {
        let mut command = self.prepared(arguments);
        Done(command.envs(settings.iter().copied()).output().unwrap())
    }

    /// The program, ready to be started on this site.
    pub(crate) fn prepared(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jwt_manage"));
        command.args(arguments);
        self.prepare(&mut command);
        command
    }

    /// Runs another command line on this site.
    pub(crate) fn run_command(&self, command: &mut Command) -> Done {
        self.prepare(command);
        Done(command.output().unwrap())
    }

    /// As [`Site::run_command`], its standard output going to `output`.
    pub(crate) fn run_command_to(&self, command: &mut Command, output: Stdio) -> Done {
        self.prepare(command);
        let child = command.stdout(output).stderr(Stdio::piped()).spawn().unwrap();
        Done(child.wait_with_output().unwrap())
    }

    fn prepare(&self, command: &mut Command) {
        command
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("DATABASE_URL", &self.url)
            .env("USER", "alice")
            // Nothing listens there: what needs no Redis must not notice.
            .env("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
    }

    /// What a command that succeeds says with `--json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let done = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(done.status(), 0, "{}: {arguments:?}: {}", self.engine, done.errors());
        done.json()
    }

    /// What a command that succeeds says to people.
    pub(crate) fn text(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.status(), 0, "{}: {arguments:?}: {}", self.engine, done.errors());
        done.text()
    }
}

/// A command that has ended.
pub(crate) struct Done(Output);

impl Done {
    pub(crate) fn of(output: Output) -> Self {
        Self(output)
    }

    pub(crate) fn status(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub(crate) fn errors(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        let text = self.text();
        assert_eq!(text.lines().count(), 1, "one object in one line: {text}");
        serde_json::from_str(&text).unwrap()
    }
}
