//! A private redis-server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::supervisor::{Supervisor, free_port, runs};

const START_LIMIT: Duration = Duration::from_secs(20);
const ATTEMPTS: u32 = 5;

/// A Redis of its own for one test. It ends with this value, or with the test process.
#[derive(Debug)]
pub struct RedisServer {
    supervisor: Supervisor,
    options: RedisServerBuilder,
    port: u16,
    /// 0 while the server is stopped.
    pid: AtomicU32,
}

/// Options of a [`RedisServer`].
#[derive(Clone, Debug, Default)]
pub struct RedisServerBuilder {
    args: Vec<String>,
    password: Option<String>,
}

impl RedisServerBuilder {
    /// Adds arguments of redis-server, for example `["--appendonly", "yes"]`.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Asks clients for this password.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Starts the server, and returns when it answers.
    ///
    /// # Panics
    ///
    /// When there is no redis-server, or it does not start.
    pub fn start(self) -> RedisServer {
        assert!(
            runs(Path::new("redis-server")),
            "redis-server is missing: install the Debian package redis-server"
        );
        let mut log = String::new();
        for _ in 0..ATTEMPTS {
            let server = RedisServer {
                supervisor: Supervisor::start(None, "KILL"),
                options: self.clone(),
                port: free_port(),
                pid: AtomicU32::new(0),
            };
            match server.launch() {
                Ok(()) => return server,
                Err(output) => log = output,
            }
        }
        panic!("redis-server does not start:\n{log}");
    }
}

impl RedisServer {
    /// Starts an empty server without persistence or password.
    ///
    /// # Panics
    ///
    /// As [`RedisServerBuilder::start`].
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A server with options.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// `redis://` with the password, the address and database 0.
    pub fn url(&self) -> String {
        match &self.options.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}/0", self.port),
            None => format!("redis://127.0.0.1:{}/0", self.port),
        }
    }

    /// The port on 127.0.0.1; a restart keeps it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the running server.
    ///
    /// # Panics
    ///
    /// When the server is stopped.
    pub fn pid(&self) -> u32 {
        let pid = self.pid.load(Ordering::SeqCst);
        assert_ne!(pid, 0, "the server is stopped");
        pid
    }

    /// The server's folder, where its append-only file and dumps are.
    pub fn folder(&self) -> &Path {
        &self.supervisor.folder
    }

    /// Ends the server in order (TERM) and waits for it; nothing happens when it is stopped.
    pub fn stop(&self) {
        self.end("TERM");
    }

    /// Ends the server at once (KILL) and waits for it; nothing happens when it is stopped.
    pub fn kill(&self) {
        self.end("KILL");
    }

    /// Stops the server in order where it still runs, and starts it on the same port with the same
    /// options. Keys survive only with persistence, for example `--appendonly yes`.
    ///
    /// # Panics
    ///
    /// When it does not start again.
    pub fn restart(&self) {
        self.stop();
        let deadline = Instant::now() + START_LIMIT;
        while let Err(log) = self.launch() {
            assert!(Instant::now() < deadline, "redis-server does not start again:\n{log}");
        }
    }

    /// Halts the server (STOP): it keeps its connections, and answers nothing.
    pub fn pause(&self) {
        self.supervisor.signal("STOP");
    }

    /// Ends a [pause](Self::pause).
    pub fn resume(&self) {
        self.supervisor.signal("CONT");
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        self.supervisor.log()
    }

    /// Runs one command over a fresh connection and returns the raw reply; for assertions in
    /// suites that need no Redis client. Words are separated by spaces.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub fn command(&self, command: &str) -> String {
        self.try_command(command).expect("redis-server answers")
    }

    fn end(&self, signal: &str) {
        if self.pid.swap(0, Ordering::SeqCst) != 0 {
            // First, so that a paused server hears the signal; after it, it may be gone.
            self.supervisor.signal("CONT");
            self.supervisor.signal(signal);
            self.supervisor.wait();
        }
    }

    fn launch(&self) -> Result<(), String> {
        let logged = self.supervisor.log().len();
        let pid = self.supervisor.spawn(&self.command_line());
        self.pid.store(pid, Ordering::SeqCst);
        let deadline = Instant::now() + START_LIMIT;
        // Only the answer of our own process counts: another server may have taken the port. And
        // one that still loads its data refuses most commands.
        let ours = format!("process_id:{pid}\r\n");
        let is_ready = |reply: &str| reply.contains(&ours) && reply.contains("\nloading:0\r\n");
        while !self.try_command("INFO").is_ok_and(|reply| is_ready(&reply)) {
            let log = self.supervisor.log().split_off(logged);
            let failed = log.contains("Failed listening") || log.contains("FATAL");
            if failed || Instant::now() > deadline {
                self.kill();
                return Err(log);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn command_line(&self) -> Vec<String> {
        let port = self.port.to_string();
        let folder = self.supervisor.folder.display().to_string();
        let mut words: Vec<String> =
            ["redis-server", "--bind", "127.0.0.1", "--port", &port, "--dir", &folder]
                .map(str::to_owned)
                .into();
        words.extend(["--save", "", "--appendonly", "no", "--daemonize", "no"].map(str::to_owned));
        if let Some(password) = &self.options.password {
            words.extend(["--requirepass".to_owned(), password.clone()]);
        }
        words.extend(self.options.args.iter().cloned());
        words
    }

    fn try_command(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let auth = match &self.options.password {
            Some(password) => format!("AUTH {password}\r\n"),
            None => String::new(),
        };
        stream.write_all(format!("{auth}{command}\r\nQUIT\r\n").as_bytes())?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }
}
