//! The commands that only look.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::site::Site;

#[test]
fn health_tells_with_its_exit_status() {
    for site in Site::both() {
        let empty = site.run(&["health", "--json"]);
        assert_eq!(empty.status(), 2);
        assert_eq!(empty.json()["severity"], "critical");
        assert_eq!(empty.json()["health_status"], "warning", "what existing callers know");
        let text = site.run(&["health"]).text();
        assert!(text.starts_with("critical\n"), "{text}");

        site.json(&["create-keypair"]);
        let scopes_missing = site.run(&["health"]);
        assert_eq!(scopes_missing.status(), 1, "{}", scopes_missing.text());

        site.json(&["create-scopes"]);
        let healthy = site.run(&["health"]);
        assert_eq!(healthy.status(), 0, "{}", healthy.text());
        assert!(healthy.text().starts_with("healthy\nTokens: 0 total"), "{}", healthy.text());
    }
}

#[test]
fn status_lists_key_pairs_scopes_and_tokens() {
    for site in Site::both() {
        let none = site.text(&["status"]);
        assert!(none.contains("none: the site can sign nothing"), "{none}");
        site.json(&["init"]);

        let text = site.text(&["status"]);

        let kid = site.json(&["status"])["active_keypairs"][0]["kid"].as_str().unwrap().to_owned();
        let expected = format!(
            "Active key pairs: 1\n  {kid} (ES256), 0 days old, signs\nInactive key pairs: 0\n"
        );
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.contains("  base: Basic access to authenticated endpoints\n"), "{text}");
        assert!(text.ends_with("Tokens: 0 total, 0 active\n"), "{text}");
    }
}

#[test]
fn the_jwk_set_is_printed_or_replaces_a_file() {
    for site in Site::both() {
        site.json(&["init"]);
        let shown = site.json(&["jwks"]);
        let file = site.folder().join("jwks.json");
        fs::write(&file, "what was there before").unwrap();

        let written = site.json(&["jwks", "--write", "jwks.json"]);

        assert_eq!(written["keys"], 1);
        let content: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(content, shown);
        assert_eq!(content["keys"][0]["kty"], "EC");
        assert!(content["keys"][0]["d"].is_null(), "a private key is never shown");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        let left = fs::read_dir(site.folder()).unwrap().filter(|entry| {
            entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".new")
        });
        assert_eq!(left.count(), 0);
        // A link to where the web server looks stays one.
        std::os::unix::fs::symlink(&file, site.folder().join("link")).unwrap();
        fs::write(&file, "old").unwrap();
        site.json(&["jwks", "--write", "link"]);
        assert!(fs::symlink_metadata(site.folder().join("link")).unwrap().is_symlink());
        assert_ne!(fs::read(&file).unwrap(), b"old");
        assert_eq!(serde_json::from_str::<Value>(&site.text(&["jwks"])).unwrap(), shown);
    }
}

#[test]
fn no_colour_reaches_a_pipe() {
    let [site, _] = Site::both();

    let text = site.run(&["health"]).text();

    assert!(!text.contains('\u{1b}'), "{text:?}");
}
