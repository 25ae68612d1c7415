//! Every command meets everything that an operator meets at night: each says what is wrong and
//! what to do, with an exit status of its kind, and leaves nothing half done.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, thread};

use test_servers::{Postgres, RedisServer};

use crate::site::{Done, Site};

/// A token that is none.
const NO_TOKEN: &str = "no-token";

/// What only looks.
const LOOKS: [&[&str]; 7] = [
    &["status"],
    &["health"],
    &["check"],
    &["jwks"],
    &["audit"],
    &["token", "verify", NO_TOKEN],
    &["token", "inspect", NO_TOKEN],
];

/// What changes something in a site of [`site_with_work`].
const CHANGES: [&[&str]; 11] = [
    &["init"],
    &["cleanup"],
    &["rotate", "--force"],
    &["rotate", "--force", "--retire-now"],
    &["create-keypair"],
    &["create-scopes"],
    &["cleanup-keypairs"],
    &["encrypt-keys"],
    &["token", "issue", "--user", "1"],
    &["token", "revoke", "--jti", "held"],
    &["migrate", "--cleanup-indexes"],
];

/// What a worker can do.
const QUEUED: [&[&str]; 7] = [
    &["init"],
    &["cleanup"],
    &["rotate", "--force"],
    &["health"],
    &["create-keypair"],
    &["create-scopes"],
    &["cleanup-keypairs"],
];

/// Makes the site one in which each command has something to do.
fn with_work(site: &mut Site) {
    site.json(&["init"]);
    site.execute(
        "INSERT INTO jwt_auth_jwttoken (token_id, created_at, issued_at, expires_at, is_revoked, \
         purpose, key_pair_id, user_id) SELECT 'held', created_at, created_at, \
         '2999-01-01 00:00:00', false, '', id, 1 FROM jwt_auth_jwtkeypair",
    );
    site.set("JWT_PRIVATE_KEY_PASSWORD", "correct horse");
    fs::write(site.folder().join(NO_TOKEN), "a.b.c").unwrap();
}

/// Runs all at once, so that those that wait wait together.
fn each<'a>(
    commands: impl IntoIterator<Item = &'a [&'a str]>,
    run: impl Fn(&[&str]) -> Done + Sync,
) -> Vec<(Vec<&'a str>, Done)> {
    thread::scope(|scope| {
        let running: Vec<_> =
            commands.into_iter().map(|command| (command, scope.spawn(|| run(command)))).collect();
        running
            .into_iter()
            .map(|(command, running)| (command.to_vec(), running.join().unwrap()))
            .collect()
    })
}

/// The command failed with `status`, said all of `words`, and nothing that a program would take
/// for a result.
fn assert_failed(command: &[&str], done: &Done, status: i32, words: &[&str]) {
    let errors = done.errors();
    assert_eq!(done.status(), status, "{command:?}: {errors}");
    assert_eq!(done.text(), "", "{command:?}");
    assert!(errors.contains("error: "), "{command:?}: {errors}");
    for words in words {
        assert!(errors.contains(words), "{command:?}: {errors}");
    }
}

fn assert_looked(command: &[&str], done: &Done) {
    // The token is refused, and says so; everything else is as it is to be.
    let expected = i32::from(command == ["token", "verify", NO_TOKEN]);
    assert_eq!(done.status(), expected, "{command:?}: {}{}", done.text(), done.errors());
}

#[test]
fn the_database_is_down() {
    let mut site = Site::sqlite();
    fs::write(site.folder().join(NO_TOKEN), "a.b.c").unwrap();
    site.set("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d?connect_timeout=1");
    site.set("JWT_PRIVATE_KEY_PASSWORD", "correct horse");
    for (command, done) in each(LOOKS.into_iter().chain(CHANGES), |line| site.run(line)) {
        let words =
            ["cannot connect to the database", "Connection refused", "look at DATABASE_URL"];
        assert_failed(&command, &done, 74, &words);
        assert!(!done.errors().contains("hunter2"), "{}", done.errors());
    }
}

#[test]
fn the_database_asks_for_another_password() {
    let mut site = Site::postgres();
    site.json(&["migrate"]);
    with_work(&mut site);
    let role = Postgres::GUARDED_ROLE;
    site.execute(&format!("CREATE ROLE {role} LOGIN SUPERUSER PASSWORD 'geheim'"));
    let right = site.url().replace("postgres@", &format!("{role}:geheim@"));
    assert_eq!(site.run_with(&["status"], &[("DATABASE_URL", &right)]).status(), 0);

    site.set("DATABASE_URL", &right.replace("geheim", "hunter2"));
    for (command, done) in each(LOOKS.into_iter().chain(CHANGES), |line| site.run(line)) {
        let words = ["password authentication failed", "the password in DATABASE_URL"];
        assert_failed(&command, &done, 74, &words);
        assert!(!done.errors().contains("hunter2"), "{}", done.errors());
    }
}

#[test]
fn a_table_is_missing() {
    for mut site in Site::both() {
        with_work(&mut site);
        site.execute("DROP TABLE jwt_auth_jwttoken_scopes; DROP TABLE jwt_maintenance_key_state");
        let all = LOOKS.into_iter().chain(CHANGES).filter(|line| line[0] != "migrate");
        for (command, done) in each(all, |line| site.run(line)) {
            let words = [
                "\n  table jwt_auth_jwttoken_scopes is missing: migration 0004",
                "\n  table jwt_maintenance_key_state is missing: migration 0005",
                "`jwt_manage migrate`",
            ];
            assert_failed(&command, &done, 70, &words);
        }
        // What is advised helps.
        let made = site.json(&["migrate"]);
        assert_eq!(made["migrations"].as_array().unwrap().len(), 2, "{}: {made}", site.engine);
        for line in LOOKS {
            assert_looked(line, &site.run(line));
        }
        assert_eq!(site.run(&["rotate", "--force"]).status(), 0);
    }
}

#[test]
fn the_server_is_a_standby() {
    let mut site = Site::postgres();
    site.json(&["migrate"]);
    with_work(&mut site);
    site.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', \
         current_database()); END $$",
    );
    for (command, done) in each(LOOKS, |line| site.run(line)) {
        assert_looked(&command, &done);
    }
    for (command, done) in each(CHANGES, |line| site.run(line)) {
        assert_failed(&command, &done, 74, &["read-only transaction", "a standby"]);
    }
}

/// A SQLite database as Django makes it, which its reader may not write to.
#[test]
fn the_file_can_only_be_read() {
    let mut site = Site::sqlite();
    site.json(&["migrate"]);
    with_work(&mut site);
    site.execute("PRAGMA journal_mode = DELETE");
    let folder = site.database_file().parent().unwrap().to_owned();
    // Whoever is root may write everywhere, and so has to be another one; who may then not reach
    // the program where it was built.
    let program = site.folder().join("jwt_manage");
    fs::copy(env!("CARGO_BIN_EXE_jwt_manage"), &program).unwrap();
    for (path, mode) in [(site.folder(), 0o755), (&folder, 0o555), (&site.database_file(), 0o444)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let run = |line: &[&str]| site.run_command(as_reader(&program).args(line));
    for (command, done) in each(LOOKS, run) {
        assert_looked(&command, &done);
    }
    for (command, done) in each(CHANGES, run) {
        let words = ["attempt to write a readonly database", "may not write to"];
        assert_failed(&command, &done, 74, &words);
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
}

fn as_reader(program: &Path) -> Command {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
    command
}

/// A file that may not grow stands for a disk that is full; the signal that would end the program
/// instead of the write is not one that a full disk sends.
#[test]
fn the_disk_is_full() {
    let mut site = Site::sqlite();
    site.json(&["migrate"]);
    with_work(&mut site);
    site.execute("PRAGMA journal_mode = DELETE");
    let before = fs::read(site.database_file()).unwrap();
    let full = |line: &[&str]| {
        let mut command = Command::new("sh");
        command
            .args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_jwt_manage"))
            .args(line);
        site.run_command(&mut command)
    };
    for line in LOOKS {
        assert_looked(line, &full(line));
    }
    for line in CHANGES {
        assert_failed(line, &full(line), 74, &["disk", "is there space left", "half done"]);
        // An uncommitted change is taken back by whoever comes next.
        assert_eq!(site.run(&["check"]).status(), 0);
        assert!(fs::read(site.database_file()).unwrap() == before, "{line:?} left something");
    }
    let done = full(&["jwks", "--write", "/dev/full"]);
    assert_failed(&["jwks"], &done, 71, &["/dev/full cannot be written", "No space left"]);
    assert!(!fs::metadata("/dev/full").unwrap().is_file(), "what is no file is not replaced");
    for line in CHANGES {
        let done = site.run(line);
        assert_eq!(done.status(), 0, "{line:?}: {}", done.errors());
    }
}

#[test]
fn the_output_cannot_be_written() {
    let [mut site, _] = Site::both();
    with_work(&mut site);
    for line in [&["status"][..], &["status", "--json"], &["health", "--watch", "1"], &["--help"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jwt_manage"));
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = site.run_command_to(command.args(line), Stdio::from(full));
        assert_eq!(done.status(), if line == ["--help"] { 64 } else { 71 }, "{line:?}");
    }
}

#[test]
fn the_private_keys_have_another_password() {
    for mut site in Site::both() {
        with_work(&mut site);
        site.json(&["encrypt-keys"]);
        for wrong in ["battery staple", ""] {
            let all = LOOKS.into_iter().chain(CHANGES).chain([&["decrypt-keys"][..]]);
            for line in all.filter(|line| *line != ["rotate", "--force", "--retire-now"]) {
                let done = site.run_with(line, &[("JWT_PRIVATE_KEY_PASSWORD", wrong)]);
                let told = done.text() + &done.errors();
                assert!(!told.contains("battery") && !told.contains("correct"), "{told}");
                let expected = match line {
                    ["health"] => 2,
                    ["rotate", ..] | ["create-keypair"] | ["token", "issue", ..] => 70,
                    ["decrypt-keys"] if wrong.is_empty() => 78,
                    ["encrypt-keys"] if wrong.is_empty() => 78,
                    ["decrypt-keys"] => 70,
                    ["token", "verify", ..] => 1,
                    _ => 0,
                };
                assert_eq!(done.status(), expected, "{line:?}: {told}");
                if expected > 1 {
                    assert!(told.contains("JWT_PRIVATE_KEY_PASSWORD"), "{line:?}: {told}");
                }
            }
        }
        let status = site.json(&["status"]);
        assert_eq!(status["active_keypairs"].as_array().unwrap().len(), 1, "none was made");
    }
}

#[test]
fn redis_is_down_or_asks_for_another_password() {
    let guarded = RedisServer::builder().password("geheim").start();
    let [mut site, _] = Site::both();
    with_work(&mut site);
    let wrong = guarded.url().replace("geheim", "hunter2");
    for (url, words) in
        [("redis://:hunter2@127.0.0.1:1/0", "refused"), (&wrong, "authentication failed")]
    {
        site.set("CELERY_BROKER_URL", url);
        let queued: Vec<Vec<&str>> =
            QUEUED.iter().map(|line| [line, &["--queue", "--timeout", "2"][..]].concat()).collect();
        let looks = [&["queue", "status"][..], &["queue", "dead", "list"]];
        let all = queued.iter().map(Vec::as_slice).chain(looks);
        for (command, done) in each(all, |line| site.run(line)) {
            assert_failed(&command, &done, 69, &[words, "look at CELERY_BROKER_URL"]);
            assert!(!done.errors().contains("hunter2"), "{}", done.errors());
        }
    }
    // What needs no Redis does not notice.
    for line in LOOKS {
        assert_looked(line, &site.run(line));
    }
    for line in CHANGES {
        assert_eq!(site.run(line).status(), 0, "{line:?}");
    }
}
