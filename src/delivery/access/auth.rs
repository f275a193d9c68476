//! A token → its holder. Owns which keys are honoured now and what a token must say; what a key is worth is
//! `key`'s. Knows neither where keys were fetched from nor what anybody may see.

mod es512;
mod key;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::sync;
use key::Header;
pub use key::Key;

const WRONG_SIGNATURE: &str = "the token's signature is wrong";
/// Keys that a token is tried with, where it does not say by which it was signed (`kid`).
const TRIED: usize = 8;
/// A token of more bytes is not looked at: thousands of values in a claim fit, by the command `auth`; headers take a
/// quarter of it.
const TOKEN_BYTES: usize = 64 * 1024;

/// The holder of a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// claim `sub`
    pub user: Option<Arc<str>>,
    /// claim `role`, else `anon`
    pub role: Arc<str>,
    /// all claims
    pub claims: Map<String, Value>,
    /// claim `exp`; none without a token
    pub expires: Option<SystemTime>,
}

impl Identity {
    /// Somebody without a token.
    pub fn anonymous() -> Self {
        Self { user: None, role: ANONYMOUS.into(), claims: Map::new(), expires: None }
    }

    fn of(claims: Map<String, Value>) -> Result<Self, Unauthenticated> {
        let text = |name: &str| match claims.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(Arc::from(text.as_str()))),
            Some(Value::Number(number)) => Ok(Some(number.to_string().into())),
            Some(_) => Err(Unauthenticated("claims sub and role are text")),
        };
        let (user, role) = (text("sub")?, text("role")?);
        let expires = claims.get("exp").and_then(Value::as_f64).filter(|at| (0.0..1e11).contains(at));
        let expires = expires.ok_or(Unauthenticated("exp is not a time in seconds"))?;
        let expires = Some(UNIX_EPOCH + Duration::from_secs_f64(expires));
        Ok(Self { user, role: role.unwrap_or_else(|| ANONYMOUS.into()), claims, expires })
    }
}

/// The role of those whose token names none, and of those without a token.
pub const ANONYMOUS: &str = "anon";

/// Why a token is not believed; for its holder, and says nothing of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unauthenticated(
    /// for people
    pub &'static str,
);

impl Unauthenticated {
    /// Whether a signature was checked in vain: nobody sends such a token by oversight, and it costs the most.
    pub fn is_forged(self) -> bool {
        self.0 == WRONG_SIGNATURE
    }
}

impl fmt::Display for Unauthenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a token must say besides its signature.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// one of these in `aud`; empty: any
    pub audiences: Vec<String>,
    /// one of these in `iss`; empty: any
    pub issuers: Vec<String>,
    /// by which two clocks may differ
    pub leeway: Duration,
}

impl Rules {
    fn validation(&self, algorithms: &[Algorithm]) -> Validation {
        let mut validation = Validation::default();
        validation.algorithms.clear();
        validation.algorithms.extend_from_slice(algorithms);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        validation.validate_aud = !self.audiences.is_empty();
        // a claim that is only compared where it is present could be left out
        let mut required = vec!["exp"];
        if !self.audiences.is_empty() {
            validation.set_audience(&self.audiences);
            required.push("aud");
        }
        if !self.issuers.is_empty() {
            validation.set_issuer(&self.issuers);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// The keys, and the rules.
pub struct Keys {
    /// from the settings
    fixed: Vec<Key>,
    /// from a key set; `None` until it was read for the first time
    fetched: RwLock<Option<Arc<[Key]>>>,
    rules: Rules,
    /// a token named a key that is not here: somebody may have a newer set
    unknown_key: Notify,
    /// users whose tokens of before that moment are no longer good
    revoked: RwLock<HashMap<Box<str>, SystemTime>>,
}

/// A revocation is kept this long; a token should live shorter.
const REVOKED: Duration = Duration::from_secs(24 * 3600);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Keys {
    /// `fixed` never change. With `is_complete` there are no others; else a token that they do not check waits for
    /// [`replace`](Self::replace).
    pub fn new(fixed: Vec<Key>, rules: Rules, is_complete: bool) -> Self {
        let fetched = RwLock::new(is_complete.then(|| Arc::from([])));
        Self { fixed, fetched, rules, unknown_key: Notify::new(), revoked: RwLock::default() }
    }

    /// The key set is this from now on. A key that it no longer has is no longer honoured.
    pub fn replace(&self, keys: Vec<Key>) {
        *sync::write(&self.fetched) = Some(keys.into());
    }

    /// Tokens that were issued to this user until `at` are no longer good. One that does not say when it was issued
    /// (`iat`) counts as issued before. To be told it again, after a restart, changes nothing.
    pub fn revoke(&self, user: &str, at: SystemTime) {
        let now = SystemTime::now();
        let is_forgotten = |at: SystemTime| now.duration_since(at).unwrap_or_default() >= REVOKED;
        let mut revoked = sync::write(&self.revoked);
        revoked.retain(|_, at| !is_forgotten(*at));
        if !is_forgotten(at) {
            let known = revoked.entry(user.into()).or_insert(at);
            *known = at.max(*known);
        }
    }

    /// Whether that befell somebody whose token was good when it was checked.
    pub fn is_revoked(&self, identity: &Identity) -> bool {
        let revoked = sync::read(&self.revoked);
        let Some(at) = identity.user.as_ref().and_then(|user| revoked.get(&**user)) else { return false };
        let issued = identity.claims.get("iat").and_then(Value::as_f64).filter(|at| (0.0..1e11).contains(at));
        issued.is_none_or(|issued| UNIX_EPOCH + Duration::from_secs_f64(issued) <= *at)
    }

    /// Waits until a token has named a key that is not here. Cancel safe.
    pub async fn wait_for_unknown_key(&self) {
        self.unknown_key.notified().await;
    }

    /// The holder of this token.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify(&self, token: &str) -> Result<Identity, Unauthenticated> {
        if token.len() > TOKEN_BYTES {
            return Err(Unauthenticated("the token is too long"));
        }
        let header = Header::of(token).ok_or(Unauthenticated("this is no JSON Web Token"))?;
        if header.crit.is_some() {
            return Err(Unauthenticated("the token asks for extensions (crit) that are not known here"));
        }
        let fetched = sync::read(&self.fetched).clone();
        let known = || self.fixed.iter().chain(fetched.iter().flat_map(|keys| keys.iter()));
        let mut refused = None;
        for key in known().filter(|key| key.fits(&header)).take(TRIED) {
            match key.claims(token, &self.rules) {
                Ok(claims) => {
                    let identity = Identity::of(claims)?;
                    let is_revoked = self.is_revoked(&identity);
                    return if is_revoked { Err(Unauthenticated("the token was revoked")) } else { Ok(identity) };
                }
                // of several keys, the one whose signature fits knows best
                Err(ErrorKind::InvalidSignature) if refused.is_some() => {}
                Err(error) => refused = Some(explain(&error)),
            }
        }
        // a key without an id fits any token of its kind, also one that names a key of a newer set
        if refused.is_none() || (header.kid.is_some() && !known().any(|key| key.is_named(&header))) {
            self.unknown_key.notify_one();
            if fetched.is_none() {
                return Err(Unauthenticated("the server has no keys yet: try again later"));
            }
        }
        Err(Unauthenticated(refused.unwrap_or("the token is of another issuer: no key here checks it")))
    }
}

fn explain(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "exp" => "the token has no exp: it would never expire",
            "aud" => "the token has no aud",
            _ => "the token has no iss",
        },
        ErrorKind::InvalidSignature => WRONG_SIGNATURE,
        _ => "the token cannot be checked",
    }
}

#[cfg(test)]
mod tests;
