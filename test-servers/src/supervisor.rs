//! The shell process that owns a server, so that no server outlives its test.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard};

const SCRIPT: &str = include_str!("supervisor.sh");

/// A supervisor without or with a running server.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) folder: PathBuf,
    pipes: Mutex<Option<Pipes>>,
    shell: Child,
}

#[derive(Debug)]
struct Pipes {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Supervisor {
    /// Makes the folder, owned by `user` where one is given. `last_signal` is what ends the server
    /// when the test process is gone.
    pub(crate) fn start(user: Option<&str>, last_signal: &str) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "test-server", user.unwrap_or_default(), last_signal])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its own group: Ctrl-C in the terminal must reach the test only, not the cleaner.
            .process_group(0)
            .spawn()
            .expect("cannot start `sh`, which supervises the test servers");
        let commands = shell.stdin.take().expect("standard input is piped");
        let mut answers = BufReader::new(shell.stdout.take().expect("standard output is piped"));
        let folder = PathBuf::from(read_answer(&mut answers));
        Self { folder, pipes: Mutex::new(Some(Pipes { commands, answers })), shell }
    }

    /// Starts the server, `command` with its arguments, and returns its process id.
    pub(crate) fn spawn(&self, command: &[String]) -> u32 {
        let quoted: Vec<String> = command.iter().map(|word| quote(word)).collect();
        let script = format!("exec {}\n", quoted.join(" "));
        std::fs::write(self.folder.join("start"), script).expect("cannot write the start script");
        self.ask("start").parse().expect("the supervisor answers with the process id")
    }

    /// Sends `signal` (a name without SIG) to the server.
    pub(crate) fn signal(&self, signal: &str) {
        let status = self.ask(signal);
        assert_eq!(status, "0", "cannot send {signal}, the server has ended:\n{}", self.log());
    }

    /// Returns when the server has ended.
    pub(crate) fn wait(&self) {
        self.ask("wait");
    }

    /// What the server has printed.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default()
    }

    fn ask(&self, command: &str) -> String {
        let mut guard = self.pipes();
        let pipes = guard.as_mut().expect("the pipes are closed on drop only");
        writeln!(pipes.commands, "{command}").expect("the supervisor has ended");
        read_answer(&mut pipes.answers)
    }

    fn pipes(&self) -> MutexGuard<'_, Option<Pipes>> {
        self.pipes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Supervisor {
    /// Returns when the server has ended and its folder is gone.
    fn drop(&mut self) {
        *self.pipes() = None;
        // An error here means that the shell is gone already, which is what is wanted.
        let _ = self.shell.wait();
    }
}

fn read_answer(answers: &mut impl BufRead) -> String {
    let mut line = String::new();
    answers.read_line(&mut line).expect("the supervisor has ended");
    line.trim_end().to_owned()
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A port of 127.0.0.1 that was free a moment ago. Another process may take it before the server
/// does, so callers try again with another one.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("cannot listen on 127.0.0.1");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Whether `program` can be started.
pub(crate) fn runs(program: &Path) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
