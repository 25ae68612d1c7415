//! A private PostgreSQL cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::supervisor::{Supervisor, free_port, runs};

const START_LIMIT: Duration = Duration::from_secs(60);
const ATTEMPTS: u32 = 5;
/// PostgreSQL refuses to run as root; Debian's package brings this user.
const SERVER_USER: &str = "postgres";

/// A PostgreSQL cluster without passwords but for [one role](Self::GUARDED_ROLE), for connections from 127.0.0.1 only, and without the
/// promise that anything survives a crash.
#[derive(Debug)]
pub struct Postgres {
    supervisor: Supervisor,
    programs: PathBuf,
    user: Option<&'static str>,
    port: u16,
    databases: AtomicU32,
}

impl Postgres {
    /// The one role that has to give its password. A test makes it, with `CREATE ROLE`.
    pub const GUARDED_ROLE: &str = "guarded";

    /// The one cluster of this test process, started at the first call.
    ///
    /// # Panics
    ///
    /// As [`Postgres::start`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a cluster of its own, for tests that stop the server.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is not installed, or does not start.
    pub fn start() -> Self {
        let programs = programs();
        let user = running_as_root().then_some(SERVER_USER);
        let mut log = String::new();
        for _ in 0..ATTEMPTS {
            let cluster = Self {
                // QUIT: the postmaster ends its own children at once and frees its memory.
                supervisor: Supervisor::start(user, "QUIT"),
                programs: programs.clone(),
                user,
                port: free_port(),
                databases: AtomicU32::new(0),
            };
            cluster.initialize();
            match cluster.launch() {
                Ok(()) => return cluster,
                Err(output) => log = output,
            }
        }
        panic!("PostgreSQL does not start:\n{log}");
    }

    /// Makes an empty database and returns its URL.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub fn create_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::SeqCst));
        let mut command = Command::new(self.programs.join("createdb"));
        command.args(self.connection_args()).arg(&name);
        run(&mut command);
        format!("postgresql://postgres@127.0.0.1:{}/{name}", self.port)
    }

    /// The port on 127.0.0.1; a restart keeps it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the server and every connection to it, in order, so that nothing is lost.
    pub fn stop(&self) {
        self.supervisor.signal("INT");
        self.supervisor.wait();
    }

    /// Starts the server again after [`Postgres::stop`], with all its databases.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start_again(&self) {
        if let Err(log) = self.launch() {
            panic!("PostgreSQL does not start again:\n{log}");
        }
    }

    fn initialize(&self) {
        let words = [
            self.program("initdb"),
            format!("--pgdata={}", self.data().display()),
            format!("--username={SERVER_USER}"),
            "--auth=trust".to_owned(),
            "--encoding=UTF8".to_owned(),
            "--locale=C".to_owned(),
            "--no-sync".to_owned(),
        ];
        let words = self.as_server_user(words);
        run(Command::new(&words[0]).args(&words[1..]).current_dir(&self.supervisor.folder));
        self.guard();
    }

    /// Rules are read in order: this one comes before those that trust everybody.
    fn guard(&self) {
        let path = self.data().join("pg_hba.conf");
        let rules = fs::read_to_string(&path).expect("initdb writes pg_hba.conf");
        let rule = format!("host all {} 127.0.0.1/32 scram-sha-256\n", Self::GUARDED_ROLE);
        fs::write(&path, rule + &rules).expect("cannot write pg_hba.conf");
    }

    fn launch(&self) -> Result<(), String> {
        let logged = self.supervisor.log().len();
        let settings = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", self.supervisor.folder.display()),
            "max_connections=200".to_owned(),
            "fsync=off".to_owned(),
            "synchronous_commit=off".to_owned(),
            "full_page_writes=off".to_owned(),
        ];
        let mut words = vec![self.program("postgres"), "-D".to_owned()];
        words.push(self.data().display().to_string());
        words.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
        let words: Vec<String> = self.as_server_user(words);
        self.supervisor.spawn(&words);

        let deadline = Instant::now() + START_LIMIT;
        loop {
            let log = self.supervisor.log().split_off(logged);
            if log.contains("ready to accept connections") {
                return Ok(());
            }
            if log.contains("FATAL") || Instant::now() > deadline {
                return Err(log);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// `words` so that they run as the server's user, in the same process.
    fn as_server_user(&self, words: impl IntoIterator<Item = String>) -> Vec<String> {
        let prefix = self.user.map(|user| {
            ["setpriv".to_owned(), format!("--reuid={user}"), format!("--regid={user}")]
                .into_iter()
                .chain(["--clear-groups".to_owned(), "--".to_owned()])
        });
        prefix.into_iter().flatten().chain(words).collect()
    }

    fn connection_args(&self) -> [String; 3] {
        let port = format!("--port={}", self.port);
        ["--host=127.0.0.1".to_owned(), port, format!("--username={SERVER_USER}")]
    }

    fn program(&self, name: &str) -> String {
        self.programs.join(name).display().to_string()
    }

    fn data(&self) -> PathBuf {
        self.supervisor.folder.join("data")
    }
}

/// The folder of the newest installed PostgreSQL's programs.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
        .map(|(version, folder)| (version, folder.join("bin")))
        .filter(|(_, folder)| runs(&folder.join("initdb")))
        .max();
    if let Some((_, folder)) = newest {
        return folder;
    }
    // Elsewhere than on Debian the programs are in the search path.
    let output = Command::new("pg_config").arg("--bindir").output();
    let folder = output
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|folder| PathBuf::from(folder.trim()))
        .filter(|folder| runs(&folder.join("initdb")));
    folder.expect("PostgreSQL's initdb is missing: install the Debian package postgresql")
}

fn running_as_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(Path::new("/proc/self")).is_ok_and(|process| process.uid() == 0)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
