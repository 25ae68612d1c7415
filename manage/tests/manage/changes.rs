//! The commands that change something, directly on the database.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use shared_models::{AnyConnection, KeyPair, Layout, NewToken, RowId, Token};

use crate::site::Site;

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn ago(days: i64) -> DateTime<Utc> {
    Utc::now() - TimeDelta::days(days)
}

fn newest_key_pair(connection: &mut AnyConnection, layout: &Layout) -> RowId {
    KeyPair::all(connection, layout).unwrap()[0].id
}

/// A token that is valid until `expires_at`.
fn add_token(site: &Site, id: &str, expires_at: DateTime<Utc>, revoked_at: Option<DateTime<Utc>>) {
    let mut connection = site.database().get().unwrap();
    let layout = connection.layout;
    let key_pair_id = newest_key_pair(&mut connection, &layout);
    let made = ago(200).into();
    let token = NewToken {
        id: None,
        token_id: id,
        created_at: made,
        issued_at: made,
        expires_at: expires_at.into(),
        is_revoked: revoked_at.is_some(),
        revoked_at: revoked_at.map(Into::into),
        purpose: "test",
        key_pair_id,
        user_id: RowId::Int4(1),
    };
    token.insert(&mut connection).unwrap();
}

fn tokens(site: &Site) -> usize {
    Token::all(&mut site.database().get().unwrap()).unwrap().len()
}

#[test]
fn init_makes_scopes_and_a_key_pair_once() {
    for site in Site::both() {
        let planned = site.json(&["init", "--dry-run"]);
        assert_eq!(planned["keypair"]["dry_run"], true);
        assert_eq!(site.json(&["status"])["active_keypairs"].as_array().unwrap().len(), 0);

        let made = site.json(&["init"]);
        let again = site.json(&["init"]);

        assert_eq!(
            strings(&made["scopes"]["created_scopes"]),
            ["base", "image_upload", "event_management", "admin"]
        );
        assert_eq!(made["keypair"]["action"], "rotation_performed");
        assert_eq!(strings(&again["scopes"]["created_scopes"]), [""; 0]);
        assert_eq!(again["keypair"]["action"], "rotation_not_needed");
        let text = site.text(&["init"]);
        assert!(text.contains("No default scope is missing; 4 scopes active"), "{text}");
        assert!(text.contains("A key pair is active already"), "{text}");
    }
}

#[test]
fn create_scopes_makes_those_that_are_missing() {
    for site in Site::both() {
        assert_eq!(site.json(&["create-scopes", "--dry-run"])["dry_run"], true);
        assert_eq!(strings(&site.json(&["create-scopes"])["created_scopes"]).len(), 4);
        assert_eq!(site.json(&["create-scopes"])["total_active_scopes"], 4);
    }
}

#[test]
fn a_rotation_happens_when_it_is_due_or_forced() {
    for site in Site::both() {
        let first = site.json(&["rotate"]);
        let not_due = site.json(&["rotate"]);
        let planned = site.json(&["rotate", "--force", "--dry-run"]);
        let forced = site.json(&["rotate", "--force"]);

        assert_eq!(first["action"], "rotation_performed");
        assert_eq!(not_due["action"], "rotation_not_needed");
        assert_eq!(planned["dry_run"], true);
        assert_eq!(forced["active_keypairs_count"], 2);
        assert_ne!(forced["new_keypair_id"], first["new_keypair_id"]);
        let text = site.text(&["rotate"]);
        assert!(text.starts_with("No rotation is due; 2 key pairs active"), "{text}");
    }
}

#[test]
fn a_leaked_key_is_answered_by_retiring_all_older_ones_at_once() {
    for site in Site::both() {
        site.json(&["init"]);
        add_token(&site, "still-valid", ago(-3), None);

        let done = site.run(&["rotate", "--force", "--retire-now"]);

        let text = done.text();
        assert!(text.contains("1 key pair active"), "{text}");
        assert!(text.contains("1 unexpired token lost the key pair"), "{text}");
        assert!(done.errors().contains("by operator alice"), "{}", done.errors());
        let status = site.json(&["status"]);
        assert_eq!(status["active_keypairs"].as_array().unwrap().len(), 1);
        assert_eq!(status["inactive_keypairs_count"], 1);
    }
}

#[test]
fn create_keypair_adds_one_that_signs() {
    for site in Site::both() {
        site.json(&["init"]);

        let created = site.json(&["create-keypair"]);

        assert_eq!(created["active_keypairs_count"], 2);
        let active = &site.json(&["status"])["active_keypairs"];
        assert_eq!(active[0]["kid"], created["kid"]);
        assert_eq!(active[0]["signs"], true);
        assert_eq!(active[1]["signs"], false);
    }
}

#[test]
fn cleanup_revokes_what_expired_and_deletes_what_is_long_gone() {
    for site in Site::both() {
        site.json(&["init"]);
        add_token(&site, "valid", ago(-1), None);
        add_token(&site, "expired", ago(1), None);
        add_token(&site, "revoked-long-ago", ago(100), Some(ago(100)));

        let planned = site.json(&["cleanup", "--dry-run"]);
        assert_eq!(tokens(&site), 3, "a dry run changes nothing");
        let text = site.text(&["cleanup"]);

        assert_eq!(planned["expired_tokens_revoked"], 1);
        assert_eq!(planned["old_tokens_deleted"], 1);
        assert_eq!(text, "Revoked 1 expired token, deleted 1 old one\n");
        assert_eq!(tokens(&site), 2);
        assert_eq!(site.json(&["cleanup"])["expired_tokens_revoked"], 0);
    }
}

#[test]
fn cleanup_keypairs_deletes_nothing_that_may_be_needed() {
    for site in Site::both() {
        site.json(&["init"]);
        site.json(&["rotate", "--force", "--retire-now"]);

        assert_eq!(site.json(&["cleanup-keypairs", "--dry-run"])["keypairs_deleted"], 0);
        assert_eq!(site.text(&["cleanup-keypairs"]), "Deleted 0 inactive key pairs\n");
        assert_eq!(site.json(&["status"])["inactive_keypairs_count"], 1);
    }
}

#[test]
fn private_keys_are_encrypted_and_decrypted_again() {
    for mut site in Site::both() {
        site.json(&["init"]);
        let without = site.run(&["encrypt-keys"]);
        assert_eq!(without.status(), 78);
        assert!(without.errors().contains("JWT_PRIVATE_KEY_PASSWORD"), "{}", without.errors());
        site.set("JWT_PRIVATE_KEY_PASSWORD", "correct horse");

        assert_eq!(strings(&site.json(&["encrypt-keys", "--dry-run"])["converted"]).len(), 1);
        assert_eq!(strings(&site.json(&["encrypt-keys"])["converted"]).len(), 1);
        assert_eq!(site.json(&["encrypt-keys"])["unchanged"], 1);
        assert_eq!(site.run(&["health"]).status(), 0);

        let wrong = site.run_with(&["decrypt-keys"], &[("JWT_PRIVATE_KEY_PASSWORD", "wrong")]);
        assert_eq!(wrong.status(), 70);
        assert!(wrong.text().contains("stays as it is"), "{}", wrong.text());

        let text = site.text(&["decrypt-keys"]);
        assert!(text.starts_with("Decrypted 1 private key; 0 not encrypted already"), "{text}");
    }
}

#[test]
fn migrating_twice_changes_nothing_and_a_dry_run_changes_nothing_at_all() {
    for site in [Site::sqlite(), Site::postgres()] {
        let planned = site.text(&["migrate", "--dry-run"]);
        assert!(planned.contains("would make table jwt_auth_jwtkeypair"), "{planned}");
        assert_eq!(site.run(&["check"]).status(), 70, "nothing was made");

        assert_eq!(site.json(&["migrate"])["migrations"][0]["found"], false);
        assert_eq!(site.text(&["migrate"]), "Every migration has been applied.\n");
        assert_eq!(site.json(&["check"])["token_expiry_index"], false);
        site.text(&["migrate", "--cleanup-indexes"]);
        assert_eq!(site.json(&["check"])["token_expiry_index"], true);
    }
}
