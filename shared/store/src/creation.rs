//! Rules for new projects and keys, and the errors that operators get when they are broken. Pure, and the
//! same for every store. This module must never print a key.

use crate::admin::{KeyOptions, NewKey};
use crate::error::StoreError;
use millrace_event::key;
use millrace_event::policy::KeyScope;
use millrace_event::web_origin::{self, ORIGINS_MAX};

/// Longest name of a project, in characters.
const NAME_CHARS_MAX: usize = 200;

/// # Errors
/// The rule that the name breaks.
pub(super) fn check_project_name(name: &str) -> Result<(), StoreError> {
    let chars = name.chars().count();
    if chars == 0 || chars > NAME_CHARS_MAX || name.chars().any(char::is_control) || name.trim() != name {
        let message = format!(
            "a project's name has 1 to {NAME_CHARS_MAX} visible characters, without a blank before or after them"
        );
        return Err(StoreError::Invalid(message));
    }
    Ok(())
}

pub(super) fn project_is_taken(name: &str) -> StoreError {
    StoreError::Conflict(format!("there is a project named {name:?} already; choose another name"))
}

pub(super) fn no_such_project(name: &str) -> StoreError {
    StoreError::Missing(format!("there is no project named {name:?}; create it first"))
}

pub(super) fn no_such_plan(plan: &str) -> StoreError {
    StoreError::Invalid(format!(
        "there is no plan named {plan:?}; free, pro and enterprise come with Millrace"
    ))
}

pub(super) fn key_is_taken() -> StoreError {
    StoreError::Conflict("this key exists already; choose another one".to_owned())
}

/// A key that is not stored yet. Has no `Debug`, so that it is not printed by accident.
pub(super) struct UnsavedKey {
    key: String,
    secret: Option<[u8; 32]>,
    pub(super) scope: KeyScope,
    /// As browsers write them, each once.
    pub(super) allowed_origins: Vec<String>,
}

impl UnsavedKey {
    /// The chosen key or a random one, with a signing secret if requests must be signed.
    ///
    /// # Errors
    /// Why the chosen key or an origin is not allowed.
    pub(super) fn new(options: &KeyOptions) -> Result<Self, StoreError> {
        let key = match &options.chosen {
            Some(chosen) => {
                key::check_chosen_key(chosen).map_err(StoreError::Invalid)?;
                chosen.clone()
            }
            None => key::random_key(),
        };
        let origins = options.allowed_origins.iter().map(|origin| web_origin::normalize(origin));
        let mut allowed_origins: Vec<_> = origins.collect::<Result<_, _>>().map_err(StoreError::Invalid)?;
        allowed_origins.sort_unstable();
        allowed_origins.dedup();
        if allowed_origins.len() > ORIGINS_MAX {
            return Err(StoreError::Invalid(format!("a key has at most {ORIGINS_MAX} origins")));
        }
        let secret = options.signed.then(key::random_secret);
        Ok(Self { key, secret, scope: options.scope, allowed_origins })
    }

    /// The part of the key that is stored.
    pub(super) fn hash(&self) -> [u8; 32] {
        key::hash_key(&self.key)
    }

    pub(super) fn secret(&self) -> Option<&[u8]> {
        self.secret.as_ref().map(<[u8; 32]>::as_slice)
    }

    /// The key to show to its owner, with the id it was stored under.
    pub(super) fn into_new_key(self, key_id: i64) -> NewKey {
        NewKey { key_id, key: self.key, signing_secret: self.secret.map(|secret| key::show_secret(&secret)) }
    }
}
