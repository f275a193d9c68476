//! What makes a cursor one that a server of this database gave out. Owns the key and its use on a token's text; what a
//! token says is `cursor`'s.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

/// Begins a token that is not sealed.
pub(crate) const VERSION: char = '1';
/// Begins one that is.
pub(crate) const SEALED: char = '2';
/// Of a seal in a token. To find one takes 2^63 requests.
pub(crate) const SEAL_BYTES: usize = 8;

/// What the servers of a database seal cursors with.
#[derive(Clone, PartialEq, Eq)]
pub struct Seal(Arc<[u8]>);

impl Seal {
    /// With this key, which is the database's.
    pub fn new(key: &[u8]) -> Self {
        Self(key.into())
    }

    /// The first bytes of SHA-256 over the key and SHA-256 over the key and the fields: what SQL can compute too.
    fn over(&self, fields: &[u8]) -> [u8; SEAL_BYTES] {
        let inner = Sha256::new().chain_update(&self.0).chain_update(fields).finalize();
        let outer = Sha256::new().chain_update(&self.0).chain_update(inner).finalize();
        let mut seal = [0; SEAL_BYTES];
        seal.copy_from_slice(&outer[..SEAL_BYTES]);
        seal
    }

    /// The token of a place for clients; also one without its id. The id is not sealed: it says which part of a cut is
    /// known, and all of the cut may be asked for. Once for a cut, not for a message.
    pub fn put(&self, token: &str) -> String {
        let (fields, id) = token.split_at(token.find('.').unwrap_or(token.len()));
        let Some(counted) = fields.strip_prefix(VERSION).and_then(|fields| URL_SAFE_NO_PAD.decode(fields).ok()) else {
            return token.to_owned();
        };
        let mut sealed = self.over(&counted).to_vec();
        sealed.extend(counted);
        let mut token = String::from(SEALED);
        URL_SAFE_NO_PAD.encode_string(&sealed, &mut token);
        token.push_str(id);
        token
    }

    /// Whether a token is one that was sealed with this.
    pub fn is_on(&self, token: &str) -> bool {
        let fields = token.split_once('.').map_or(token, |(fields, _)| fields);
        let sealed = fields.strip_prefix(SEALED).and_then(|fields| URL_SAFE_NO_PAD.decode(fields).ok());
        sealed.as_deref().and_then(<[u8]>::split_first_chunk::<SEAL_BYTES>).is_some_and(|(seal, counted)| {
            // all bytes, also after the first that differs: how long it takes says nothing
            seal.iter().zip(self.over(counted)).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
        })
    }
}

/// The key is in no log.
impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Serialize for Seal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Seal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        URL_SAFE_NO_PAD.decode(text).map(|key| Self(key.into())).map_err(de::Error::custom)
    }
}
