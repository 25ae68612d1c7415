//! One transaction of a rotation: decide, apply, remember.

use chrono::{DateTime, TimeDelta, Utc};
use shared_models::{
    AnyConnection, ForcedRotation, KeyPair, KeyState, Layout, NewKeyPair, RowId, TaskSuccess,
    Token, UtcDateTime,
};

use super::plan::{self, Change, Count, Retirement};
use super::{Older, Request, RotationReport, Trigger};
use crate::audit::{Action, Trail};
use crate::jwt::{Algorithm, Fresh, KeyError, KeyRing, Record, check_pair};
use crate::shell::task_name;
use crate::{JwtAuth, JwtError, Mode, RetiredPrivateKeys, isoformat};

/// How long a message may be delivered again after its task was done.
const REMEMBER_FORCED: TimeDelta = TimeDelta::days(90);

/// What one transaction came to.
pub(super) enum Outcome {
    Done(Box<RotationReport>),
    /// Nothing was changed: a key pair of this algorithm is wanted first.
    Wants(Algorithm),
}

/// One transaction of a rotation.
pub(super) struct Turn<'a> {
    pub(super) jwt: &'a JwtAuth,
    pub(super) now: DateTime<Utc>,
    pub(super) request: Request<'a>,
    pub(super) mode: Mode,
    pub(super) layout: Layout,
    pub(super) fresh: Option<&'a Fresh>,
}

/// What the new key pair is.
struct Added {
    id: Option<RowId>,
    kid: Option<String>,
}

impl Turn<'_> {
    /// Changes what is to be changed, or says what is wanted first.
    pub(super) fn take(
        &self,
        connection: &mut AnyConnection,
        trail: &mut Trail<'_>,
    ) -> Result<Outcome, JwtError> {
        if let Some(done) = self.done_before(connection)? {
            return Ok(Outcome::Done(Box::new(done)));
        }
        let ring = KeyRing::load(connection, &self.layout)?;
        let settings = &self.jwt.settings;
        let (mut change, reason) = plan::change(&ring, settings, self.now, &self.request);
        if change == Change::ActivatePending && !self.pending_is_good(connection, &ring)? {
            change = Change::Generate;
        }
        if matches!(change, Change::Generate | Change::PublishAhead) && !self.mode.is_dry_run() {
            self.check_password(connection, &ring)?;
            let algorithm = ring.algorithm(settings.algorithm);
            if self.fresh.is_none_or(|fresh| fresh.algorithm != algorithm) {
                return Ok(Outcome::Wants(algorithm));
            }
        }
        let retirement = self.retirement(connection, &ring, change)?;
        if self.mode.is_dry_run() {
            let added = Added { id: None, kid: None };
            return Ok(self.done(&ring, change, reason, added, &retirement, Vec::new()));
        }
        let added = self.apply_change(connection, trail, &ring, change, &reason)?;
        self.apply_retirement(connection, trail, &ring, &retirement, &reason)?;
        let wiped = self.wipe(connection, trail, &ring, &retirement)?;
        self.remember(connection, trail, &added, &reason)?;
        Ok(self.done(&ring, change, reason, added, &retirement, wiped))
    }

    /// The report of a forced rotation that this task has had already: its message was delivered
    /// again.
    fn done_before(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<Option<RotationReport>, JwtError> {
        let (Trigger::Forced, Some(task_id)) =
            (self.request.trigger, self.request.caller.task_id())
        else {
            return Ok(None);
        };
        let Some(done) = ForcedRotation::find(connection, task_id)? else {
            return Ok(None);
        };
        let ring = KeyRing::load(connection, &self.layout)?;
        let kid = ring.records.iter().find(|record| record.id() == done.key_pair);
        let active = ring.active().count();
        Ok(Some(RotationReport {
            success: true,
            action: "rotation_performed",
            new_kid: kid.map(|record| record.kid.clone()),
            new_keypair_id: Some(done.key_pair),
            active_keypairs_count: active,
            rotation_time: Some(isoformat(done.rotated_at.into())),
            check_time: None,
            reason: "forced; this task had rotated already when it was delivered again".to_owned(),
            published_keypair_id: None,
            retired_keypairs: Vec::new(),
            wiped_keypairs: Vec::new(),
            // Whoever died after it was done has told nobody.
            cap_exceeded: active > self.jwt.settings.max_active as usize,
            orphaned_tokens: 0,
            dry_run: self.mode.is_dry_run(),
        }))
    }

    /// A new private key is encrypted with our password. Where that is not the one of the key pair
    /// that signs now, the site could not open it, and would sign nothing any more. Who gives up
    /// all older ones may be somebody who has lost their password.
    fn check_password(
        &self,
        connection: &mut AnyConnection,
        ring: &KeyRing,
    ) -> Result<(), JwtError> {
        if self.fresh.is_some() || self.request.older == Older::RetireNow {
            return Ok(());
        }
        let Some(signing) = ring.signing() else { return Ok(()) };
        match check_pair(self.jwt, connection, signing)? {
            Err(source @ (KeyError::PasswordMissing | KeyError::PasswordWrong)) => {
                Err(JwtError::KeyPair { kid: signing.kid.clone(), source })
            }
            // One that is broken otherwise is best replaced.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether the key pair that was published ahead can sign. One that cannot is passed over.
    fn pending_is_good(
        &self,
        connection: &mut AnyConnection,
        ring: &KeyRing,
    ) -> Result<bool, JwtError> {
        let Some(pending) = ring.pending() else { return Ok(false) };
        let checked = check_pair(self.jwt, connection, pending)?;
        if let Err(error) = &checked {
            log::error!("key pair {} was published ahead, but {error}: passed over", pending.kid);
        }
        Ok(checked.is_ok())
    }

    fn retirement(
        &self,
        connection: &mut AnyConnection,
        ring: &KeyRing,
        change: Change,
    ) -> Result<Retirement, JwtError> {
        if self.request.trigger == Trigger::Added {
            return Ok(Retirement::none());
        }
        let now: UtcDateTime = self.now.into();
        let usable = |id, count| match count {
            Count::Any => Token::any_usable(connection, id, now).map(i64::from),
            Count::Exact => Token::count_usable(connection, id, now),
        };
        let Request { older, .. } = self.request;
        Ok(plan::retirement(ring, &self.jwt.settings, self.now, older, change, usable)?)
    }

    /// Stores or activates the new key pair. It comes before any retirement, so that there is no
    /// instant without an active one.
    fn apply_change(
        &self,
        connection: &mut AnyConnection,
        trail: &mut Trail<'_>,
        ring: &KeyRing,
        change: Change,
        reason: &str,
    ) -> Result<Added, JwtError> {
        let now: UtcDateTime = self.now.into();
        let added = match (change, self.fresh, ring.pending()) {
            (Change::Generate | Change::PublishAhead, Some(fresh), _) => {
                let created_at = self.created_at(ring);
                let pair = NewKeyPair::active(
                    &self.layout,
                    &fresh.kid,
                    &fresh.private_pem,
                    &fresh.public_pem,
                    created_at,
                );
                let ahead = change == Change::PublishAhead;
                let id = if ahead { pair.inactive() } else { pair }.insert(connection)?;
                let mut state = KeyState::new(id.to_string(), fresh.kid.clone());
                state.is_pending = ahead;
                state.activated_at = (!ahead).then_some(now);
                state.save(connection)?;
                let id_text = id.to_string();
                trail.add(connection, Action::Created, &id_text, &fresh.kid, reason);
                let next = if ahead { Action::Published } else { Action::Activated };
                trail.add(connection, next, &id_text, &fresh.kid, reason);
                Added { id: Some(id), kid: Some(fresh.kid.clone()) }
            }
            (Change::ActivatePending, _, Some(pending)) => {
                KeyPair::set_active(pending.pair.id, true, connection)?;
                let mut state = pending.known_state();
                state.is_pending = false;
                state.activated_at = Some(now);
                state.save(connection)?;
                trail.add(connection, Action::Activated, &pending.id(), &pending.kid, reason);
                Added { id: Some(pending.pair.id), kid: Some(pending.kid.clone()) }
            }
            _ => Added { id: None, kid: None },
        };
        if let (true, Some(signing)) = (change.adds_signing_key(), ring.signing()) {
            let mut state = signing.known_state();
            state.superseded_at = Some(now);
            state.save(connection)?;
        }
        Ok(added)
    }

    /// Sites sign with the newest, so a new one has to be that, even where a clock was ahead when
    /// the one before was made.
    fn created_at(&self, ring: &KeyRing) -> UtcDateTime {
        let newest = ring.records.first().map(Record::created_at);
        newest
            .map(|newest| newest + TimeDelta::microseconds(1))
            .filter(|after| *after > self.now)
            .unwrap_or(self.now)
            .into()
    }

    fn apply_retirement(
        &self,
        connection: &mut AnyConnection,
        trail: &mut Trail<'_>,
        ring: &KeyRing,
        retirement: &Retirement,
        reason: &str,
    ) -> Result<(), JwtError> {
        let now: UtcDateTime = self.now.into();
        let withdrawn = self.request.older == Older::RetireNow;
        for record in retirement.records(ring) {
            KeyPair::set_active(record.pair.id, false, connection)?;
            let mut state = record.known_state();
            let signed_until_now = ring.signing().is_some_and(|one| one.pair.id == record.pair.id);
            if signed_until_now {
                state.superseded_at = Some(now);
            }
            state.retired_at = Some(now);
            state.is_withdrawn |= withdrawn;
            state.save(connection)?;
            let (action, why) = if withdrawn {
                (Action::Withdrawn, format!("{reason}, and all older ones retired at once"))
            } else {
                (Action::Deactivated, "over the maximum, and no longer needed".to_owned())
            };
            trail.add(connection, action, &record.id(), &record.kid, &why);
        }
        if let (true, Some(pending)) = (withdrawn, ring.pending()) {
            let mut state = pending.known_state();
            state.is_pending = false;
            state.is_withdrawn = true;
            state.retired_at = Some(now);
            state.save(connection)?;
            let why = format!("{reason}, before it ever signed");
            trail.add(connection, Action::Withdrawn, &pending.id(), &pending.kid, &why);
        }
        Ok(())
    }

    /// Overwrites the private half of everything that we have retired, now or before. One that
    /// the site's people have put aside themselves is theirs to use again.
    fn wipe(
        &self,
        connection: &mut AnyConnection,
        trail: &mut Trail<'_>,
        ring: &KeyRing,
        retirement: &Retirement,
    ) -> Result<Vec<String>, JwtError> {
        let mut wiped = Vec::new();
        if self.jwt.settings.retired_private_keys == RetiredPrivateKeys::Keep {
            return Ok(wiped);
        }
        let withdrawn = ring.pending().filter(|_| self.request.older == Older::RetireNow);
        let before = ring.records.iter().filter(|record| record.is_retired());
        for record in retirement.records(ring).chain(withdrawn).chain(before) {
            if KeyPair::wipe_private_key(record.pair.id, connection)? {
                let reason = "retired, and JWT_WIPE_RETIRED_KEYS is set";
                trail.add(connection, Action::Wiped, &record.id(), &record.kid, reason);
                wiped.push(record.kid.clone());
            }
        }
        Ok(wiped)
    }

    fn remember(
        &self,
        connection: &mut AnyConnection,
        trail: &mut Trail<'_>,
        added: &Added,
        reason: &str,
    ) -> Result<(), JwtError> {
        let now: UtcDateTime = self.now.into();
        if let (Trigger::Forced, Some(id), Some(kid)) = (self.request.trigger, added.id, &added.kid)
        {
            trail.add(connection, Action::ForcedRotation, &id.to_string(), kid, reason);
            if let Some(task_id) = self.request.caller.task_id() {
                let task_id = task_id.to_owned();
                ForcedRotation { task_id, rotated_at: now, key_pair: id.to_string() }
                    .insert(connection)?;
            }
        }
        ForcedRotation::delete_before(connection, (self.now - REMEMBER_FORCED).into())?;
        if matches!(self.request.trigger, Trigger::IfDue | Trigger::Forced) {
            TaskSuccess::record(connection, task_name::ROTATE, now)?;
        }
        Ok(())
    }

    fn done(
        &self,
        ring: &KeyRing,
        change: Change,
        reason: String,
        added: Added,
        retirement: &Retirement,
        wiped_keypairs: Vec<String>,
    ) -> Outcome {
        let performed = change.adds_signing_key();
        let ahead = change == Change::PublishAhead;
        let time = isoformat(self.now);
        let id = added.id.map(|id| id.to_string());
        let active = ring.active().count() + usize::from(performed);
        Outcome::Done(Box::new(RotationReport {
            success: true,
            action: if performed { "rotation_performed" } else { "rotation_not_needed" },
            new_keypair_id: id.clone().filter(|_| performed),
            active_keypairs_count: active - retirement.places.len(),
            rotation_time: performed.then(|| time.clone()),
            check_time: (!performed).then_some(time),
            reason,
            new_kid: added.kid.filter(|_| performed),
            published_keypair_id: id.filter(|_| ahead),
            retired_keypairs: retirement.records(ring).map(|record| record.kid.clone()).collect(),
            wiped_keypairs,
            cap_exceeded: retirement.cap_exceeded,
            orphaned_tokens: retirement.orphaned_tokens,
            dry_run: self.mode.is_dry_run(),
        }))
    }
}
