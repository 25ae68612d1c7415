//! All key pairs of a site, and what follows from their order.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use shared_models::{AnyConnection, KeyPair, KeyState, Layout};

use super::{Algorithm, AlgorithmChoice, VerificationKey};

/// A key pair and what we know of it.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) pair: KeyPair,
    /// None where Django made the key pair, and we have not touched it yet.
    pub(crate) state: Option<KeyState>,
    pub(crate) kid: String,
}

impl Record {
    fn new(pair: KeyPair, state: Option<KeyState>) -> Self {
        let kid = match pair.name.as_str() {
            "" => VerificationKey::from_pem(&pair.public_key_pem)
                .and_then(|key| key.kid())
                .unwrap_or_else(|_| format!("unreadable, id {}", pair.id)),
            name => name.to_owned(),
        };
        Self { pair, state, kid }
    }

    pub(crate) fn id(&self) -> String {
        self.pair.id.to_string()
    }

    pub(crate) fn created_at(&self) -> DateTime<Utc> {
        self.pair.created_at.into()
    }

    /// Since when it may sign.
    pub(crate) fn active_since(&self) -> DateTime<Utc> {
        let known = self.state.as_ref().and_then(|state| state.activated_at);
        known.unwrap_or(self.pair.created_at).into()
    }

    /// What is stored of it, to be changed and stored again.
    pub(crate) fn known_state(&self) -> KeyState {
        self.state.clone().unwrap_or_else(|| KeyState::new(self.id(), self.kid.clone()))
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.is_withdrawn)
    }

    /// Whether we have retired it, and nobody has made it active again.
    pub(crate) fn is_retired(&self) -> bool {
        let state = self.state.as_ref();
        !self.pair.is_active && state.is_some_and(|state| state.retired_at.is_some())
    }

    /// Whether it has ever signed. One that Django made is taken to have been active.
    fn has_signed(&self) -> bool {
        let state = self.state.as_ref();
        self.pair.is_active || state.is_none_or(|state| state.activated_at.is_some())
    }
}

/// The key pairs, the newest first.
#[derive(Debug, Clone)]
pub(crate) struct KeyRing {
    pub(crate) records: Vec<Record>,
}

impl KeyRing {
    pub(crate) fn load(connection: &mut AnyConnection, layout: &Layout) -> QueryResult<Self> {
        let mut states = KeyState::all(connection)?;
        let records = KeyPair::all(connection, layout)?
            .into_iter()
            .map(|pair| {
                let id = pair.id.to_string();
                let place = states.iter().position(|state| state.key_pair == id);
                let state = place.map(|place| states.swap_remove(place));
                Record::new(pair, state)
            })
            .collect();
        Ok(Self { records })
    }

    /// Those that may sign, the newest first.
    pub(crate) fn active(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.records.iter().filter(|record| record.pair.is_active)
    }

    /// The one that sites sign with.
    pub(crate) fn signing(&self) -> Option<&Record> {
        self.active().next()
    }

    /// The one that was published ahead and waits for its rotation.
    pub(crate) fn pending(&self) -> Option<&Record> {
        self.records
            .iter()
            .take_while(|record| !record.pair.is_active)
            .find(|record| record.state.as_ref().is_some_and(|state| state.is_pending))
    }

    /// Whether it is inactive and newer than every active one: published ahead, or put aside by
    /// hand. Nothing deletes such a one.
    pub(crate) fn is_ahead(&self, record: &Record) -> bool {
        let signing = self.signing().map(|signing| (signing.pair.created_at, signing.pair.id));
        signing.is_some_and(|signing| {
            !record.pair.is_active && (record.pair.created_at, record.pair.id) > signing
        })
    }

    /// When another one began to sign in its place: from then on it has signed nothing.
    pub(crate) fn superseded_at(&self, record: &Record) -> Option<DateTime<Utc>> {
        if let Some(known) = record.state.as_ref().and_then(|state| state.superseded_at) {
            return Some(known.into());
        }
        self.records
            .iter()
            .take_while(|newer| newer.pair.id != record.pair.id)
            .filter(|newer| newer.has_signed())
            .map(Record::active_since)
            .min()
    }

    /// The last time at which it may have signed a token; none while it signs.
    pub(crate) fn last_signed_at(&self, record: &Record) -> Option<DateTime<Utc>> {
        if record.pair.is_active {
            return self.superseded_at(record);
        }
        let retired = record.state.as_ref().and_then(|state| state.retired_at);
        match (self.superseded_at(record), retired) {
            (_, Some(retired)) => Some(retired.into()),
            (Some(superseded), None) => Some(superseded),
            // Nothing newer ever signed, and it was not us who stopped it.
            (None, None) => Some(record.created_at()),
        }
    }

    /// The algorithm of a new key pair.
    pub(crate) fn algorithm(&self, choice: AlgorithmChoice) -> Algorithm {
        match choice {
            AlgorithmChoice::Fixed(algorithm) => algorithm,
            AlgorithmChoice::Auto => self
                .active()
                .find_map(|record| VerificationKey::from_pem(&record.pair.public_key_pem).ok())
                .map_or(Algorithm::Es256, |key| key.algorithm()),
        }
    }
}
