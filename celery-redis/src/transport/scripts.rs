//! The Lua scripts, each one step that cannot be interrupted.

use std::sync::LazyLock;

use redis::{Cmd, Script, ToRedisArgs};

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file, ".lua"))));
    };
}

/// Scripts that are called in transactions. There each is sent whole: one that Redis did not know
/// would be left out, and the transaction's other commands done.
pub(super) const CLAIM_APART: &str = include_str!("scripts/claim_apart.lua");
pub(super) const RECORD_APART: &str = include_str!("scripts/record_apart.lua");
pub(super) const SETTLE_IN_TRANSACTION: &str = include_str!("scripts/settle.lua");

/// A call of a script, written as the one command that it is: for those that are called for every
/// message, where `ScriptInvocation` would copy each argument by itself.
pub(super) struct Call {
    pub(super) script: &'static Script,
    pub(super) command: Cmd,
}

/// The command that calls a script by its text, for a transaction.
pub(super) fn whole<K: AsRef<str>>(text: &str, keys: &[K]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(keys.len());
    for key in keys {
        command.arg(key.as_ref());
    }
    command
}

impl Call {
    /// A call with these keys.
    pub(super) fn new<K: AsRef<str>>(script: &'static Script, keys: &[K]) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(keys.len());
        for key in keys {
            command.arg(key.as_ref());
        }
        Self { script, command }
    }

    /// Adds an argument.
    pub(super) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        self.command.arg(argument);
        self
    }
}

script!(CLAIM, "claim");
script!(SETTLE, "settle");
script!(STORE_RESULT, "store_result");
script!(STORE_REVOKED, "store_revoked");
script!(REGISTER, "register");
script!(DESCRIBE, "describe");
script!(RENEW, "renew");
script!(RECLAIM, "reclaim");
script!(REQUEUE, "requeue");
script!(DEFER, "defer");
script!(PROMOTE, "promote");
script!(BURY, "bury");
script!(PASS, "pass");
script!(CALL_IN, "call_in");
script!(EXHUME, "exhume");
