//! `token` and `audit` as an operator types them. What they mean is compared with Python's own
//! tokens in interop/tests/test_token_commands.py.

use std::io::Write;
use std::process::Stdio;

use crate::site::{Done, Site};

/// Runs a command with `input` on its standard input.
fn fed(site: &Site, arguments: &[&str], input: &str) -> Done {
    let mut child = site
        .prepared(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Done::of(child.wait_with_output().unwrap())
}

#[test]
fn a_token_is_issued_verified_inspected_and_revoked() {
    for site in Site::both() {
        site.json(&["init"]);

        let token = site.text(&["token", "issue", "--user", "7", "--scope", "base"]);

        assert_eq!(token.lines().count(), 1, "the token alone, for a shell to take");
        let good = fed(&site, &["token", "verify"], &token);
        assert_eq!(good.status(), 0, "{}", good.text());
        assert_eq!(good.text(), "valid: subject \"7\", scopes [\"base\"]\n");
        let copied = fed(&site, &["token", "verify"], &format!("Bearer {token}\n"));
        assert_eq!(copied.status(), 0, "as it stands in a header");
        let scope = fed(&site, &["token", "verify", "--scope", "admin"], &token);
        assert_eq!(scope.status(), 1);
        assert_eq!(scope.text(), "refused\n  it does not grant: admin [missing_scope]\n");
        let shown = fed(&site, &["token", "inspect"], &token).text();
        assert!(shown.contains("\nRecord\n  jti: "), "{shown}");

        let line = ["token", "revoke", "-", "--reason", "lost phone"];
        let revoked = fed(&site, &line, &token);
        assert!(revoked.text().starts_with("Revoked token "), "{}", revoked.text());
        let again = fed(&site, &line, &token).text();
        assert!(again.contains(" is revoked already since "), "{again}");
        let refused = fed(&site, &["token", "verify"], &token);
        assert_eq!(refused.status(), 1);
        assert!(refused.text().contains("it is revoked since "), "{}", refused.text());
    }
}

#[test]
fn the_trail_tells_who_did_what_when_and_why() {
    for site in Site::both() {
        assert_eq!(site.text(&["audit"]), "No event is recorded.\n");
        site.json(&["init"]);
        site.json(&["rotate", "--force", "--retire-now"]);

        let events = site.json(&["audit"])["events"].clone();
        let first = &events[events.as_array().unwrap().len() - 1];
        assert_eq!(first["action"], "created");
        assert_eq!(first["actor"], "operator alice");
        assert_eq!(first["task_id"], serde_json::Value::Null);
        assert_eq!(first["reason"], "no key pair was active");

        let text = site.text(&["audit", "--limit", "2", "--days", "1"]);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.lines().last().unwrap().contains("forced rotation"), "{text}");
        let kid = first["kid"].as_str().unwrap();
        let of_one = site.json(&["audit", "--keypair", kid]);
        let actions: Vec<&str> = of_one["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["action"].as_str().unwrap())
            .collect();
        assert_eq!(actions, ["withdrawn", "activated", "created"]);
        assert_eq!(site.text(&["audit", "--keypair", "nobody"]), "No event is recorded.\n");
    }
}

#[test]
fn a_token_that_is_not_there_is_told() {
    let [site, _] = Site::both();
    let empty = fed(&site, &["token", "verify"], "\n");
    assert_eq!(empty.status(), 64);
    assert!(empty.errors().contains("no token was given"), "{}", empty.errors());
    let missing = site.run(&["token", "verify", "nowhere"]);
    assert_eq!(missing.status(), 71);
    assert!(missing.errors().contains("cannot be read from nowhere"), "{}", missing.errors());
    let unknown = site.run(&["token", "inspect", "--jti", "nobody"]);
    assert_eq!(unknown.status(), 70);
    assert!(unknown.errors().contains("nobody is recorded"), "{}", unknown.errors());
}
