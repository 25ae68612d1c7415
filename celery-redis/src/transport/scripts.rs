//! The Lua scripts, each one step that cannot be interrupted.

use std::sync::LazyLock;

use redis::Script;

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file, ".lua"))));
    };
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
