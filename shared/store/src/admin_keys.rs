//! Keys of programs that manage the installation over HTTP: what every store keeps of them, and the trait of
//! those who use it. Only [`NewAdminKey`] may contain the text of a key.

use async_trait::async_trait;
use millrace_event::key::{self, hash_key};
use time::OffsetDateTime;

use crate::error::StoreError;

/// Longest name of an admin key, in characters.
const NAME_CHARS_MAX: usize = 100;
/// The time of the last use is written at most once in this time, in seconds.
pub(super) const USE_NOTED_EVERY_S: i64 = 60;

/// An admin key without its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminKeyInfo {
    pub admin_key_id: i64,
    /// What the key is for.
    pub name: String,
    pub created_at: OffsetDateTime,
    /// To the minute.
    pub last_used_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
}

/// An admin key that was just created. Its text is stored nowhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewAdminKey {
    pub admin_key_id: i64,
    pub key: String,
}

/// A live admin key, as it was found by its hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminKey {
    pub admin_key_id: i64,
    pub name: String,
    /// SHA-256 of the key. The caller compares it in constant time.
    pub key_hash: [u8; 32],
}

/// For the HTTP interface of operators, and for those who manage its keys.
#[async_trait]
pub trait AdminKeys: Send + Sync {
    /// Creates a key: this text, or a random one.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name or a text that is not allowed, [`StoreError::Conflict`] for a key
    /// that exists.
    async fn create_admin_key(&self, name: &str, chosen: Option<&str>) -> Result<NewAdminKey, StoreError>;

    /// Every key, also those that are revoked; oldest first.
    async fn admin_keys(&self) -> Result<Vec<AdminKeyInfo>, StoreError>;

    /// False when there is no such key or it is revoked already.
    async fn revoke_admin_key(&self, admin_key_id: i64) -> Result<bool, StoreError>;

    /// The live key with this hash. Notes its use.
    async fn admin_key(&self, key_hash: &[u8; 32]) -> Result<Option<AdminKey>, StoreError>;
}

/// A key that is not stored yet. Has no `Debug`, so that it is not printed by accident.
pub(super) struct UnsavedAdminKey {
    pub(super) name: String,
    key: String,
}

impl UnsavedAdminKey {
    /// # Errors
    /// Why the name or the chosen key is not allowed.
    pub(super) fn new(name: &str, chosen: Option<&str>) -> Result<Self, StoreError> {
        let chars = name.chars().count();
        if chars == 0 || chars > NAME_CHARS_MAX || name.chars().any(char::is_control) {
            let message = format!("an admin key's name has 1 to {NAME_CHARS_MAX} visible characters");
            return Err(StoreError::Invalid(message));
        }
        let key = match chosen {
            Some(chosen) => {
                key::check_chosen_admin_key(chosen).map_err(StoreError::Invalid)?;
                chosen.to_owned()
            }
            None => key::random_admin_key(),
        };
        Ok(Self { name: name.to_owned(), key })
    }

    /// The part of the key that is stored.
    pub(super) fn hash(&self) -> [u8; 32] {
        hash_key(&self.key)
    }

    /// The key to show to its owner, with the number it was stored under.
    pub(super) fn into_new_key(self, admin_key_id: i64) -> NewAdminKey {
        NewAdminKey { admin_key_id, key: self.key }
    }
}
