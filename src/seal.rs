//! What makes a cursor one that a server of this database gave out. Owns the key and its use on a token's text; what a
//! token says is `cursor`'s.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// Begins a token.
pub(crate) const VERSION: char = '1';
/// Of a seal, which stands behind a token's fields. To find one takes 2^63 requests.
pub(crate) const SEAL_BYTES: usize = 8;

/// What the servers of a database seal cursors with.
#[derive(Clone)]
pub struct Seal {
    key: Arc<[u8]>,
    /// has read the key, which fills a block: a token costs one block more, or two
    begun: Sha256,
}

impl Seal {
    /// With this key, which is the database's: 64 bytes.
    pub fn new(key: &[u8]) -> Self {
        Self { key: key.into(), begun: Sha256::new_with_prefix(key) }
    }

    /// The first bytes of SHA-256 over the key and the fields, which SQL can compute too. That a hash may be taken on over
    /// more bytes is of no use where three quarters of it are not told.
    fn over(&self, fields: &[u8]) -> [u8; SEAL_BYTES] {
        let hash = self.begun.clone().chain_update(fields).finalize();
        let mut seal = [0; SEAL_BYTES];
        seal.copy_from_slice(&hash[..SEAL_BYTES]);
        seal
    }

    /// The token of a position for clients; also one without its id. The id is not sealed: it says which part of a cut is
    /// known, and all of the cut may be asked for. Once for a cut, not for a message.
    pub fn put(&self, token: &str) -> String {
        let (fields, id) = token.split_at(token.find('.').unwrap_or(token.len()));
        let Some(mut bytes) = fields.strip_prefix(VERSION).and_then(|fields| URL_SAFE_NO_PAD.decode(fields).ok())
        else {
            return token.to_owned();
        };
        let seal = self.over(&bytes);
        bytes.extend(seal);
        let mut token = String::from(VERSION);
        URL_SAFE_NO_PAD.encode_string(&bytes, &mut token);
        token.push_str(id);
        token
    }

    /// Whether a token is one that was sealed with this.
    pub fn is_on(&self, token: &str) -> bool {
        let fields = token.split_once('.').map_or(token, |(fields, _)| fields);
        let sealed = fields.strip_prefix(VERSION).and_then(|fields| URL_SAFE_NO_PAD.decode(fields).ok());
        sealed.as_deref().and_then(<[u8]>::split_last_chunk::<SEAL_BYTES>).is_some_and(|(fields, seal)| {
            // all bytes, also after the first that differs: how long it takes says nothing
            seal.iter().zip(self.over(fields)).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
        })
    }
}

impl PartialEq for Seal {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Seal {}

/// The key is in no log.
impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Serialize for Seal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(&self.key))
    }
}

impl<'de> Deserialize<'de> for Seal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        URL_SAFE_NO_PAD.decode(text).map(|key| Self::new(&key)).map_err(de::Error::custom)
    }
}
