//! The Lua scripts, each one step that cannot be interrupted.

use std::sync::LazyLock;

use redis::{Cmd, Script, ToRedisArgs};

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file, ".lua"))));
    };
}

/// A call of a script, written as the one command that it is: for those that are called for every
/// message, where `ScriptInvocation` would copy each argument by itself.
pub(super) struct Call {
    pub(super) script: &'static Script,
    pub(super) command: Cmd,
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
