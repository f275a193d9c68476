//! A token → who somebody is. Owns the keys that tokens are checked with; knows neither where they were fetched from
//! nor what anybody may see.
//!
//! The key decides which algorithms its tokens may have, never the token: an RSA key checks RSA signatures and no HMAC
//! over its public half, and `none` is no algorithm of any key.

mod es512;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation, crypto, decode};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Notify;

/// A token of more bytes is not looked at.
const TOKEN_BYTES: usize = 16 * 1024;

/// Who holds a token.
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

impl fmt::Display for Unauthenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A key, and the tokens that it may check.
#[derive(Clone)]
pub struct Key {
    id: Option<String>,
    checks: Checks,
}

/// How a signature is checked.
#[derive(Clone)]
enum Checks {
    Library(DecodingKey, Vec<Algorithm>),
    Es512(es512::Key),
}

/// The first part of a token.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

impl Header {
    fn of(token: &str) -> Option<Self> {
        let (header, _) = token.split_once('.')?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()
    }
}

impl Key {
    /// A shared secret: HS256, HS384, HS512.
    pub fn secret(secret: &str) -> Self {
        let algorithms = vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        Self { id: None, checks: Checks::Library(DecodingKey::from_secret(secret.as_bytes()), algorithms) }
    }

    /// A public key in PEM: RSA, P-256, P-384, P-521 or Ed25519.
    ///
    /// # Errors
    /// What it is not.
    pub fn pem(pem: &str) -> Result<Self, &'static str> {
        if pem.contains("PRIVATE KEY") {
            return Err("this is a private key: give the public one");
        }
        let bytes = pem.as_bytes();
        let checks = if let Some(key) = es512::Key::of_pem(pem) {
            Checks::Es512(key)
        } else if let Ok(key) = DecodingKey::from_rsa_pem(bytes) {
            Checks::Library(key, RSA.to_vec())
        } else if let Ok(key) = DecodingKey::from_ec_pem(bytes) {
            // the crate refuses a signature of the other curve's length
            Checks::Library(key, vec![Algorithm::ES256, Algorithm::ES384])
        } else if let Ok(key) = DecodingKey::from_ed_pem(bytes) {
            Checks::Library(key, vec![Algorithm::EdDSA])
        } else {
            return Err("this is no public key in PEM of RSA, P-256, P-384, P-521 or Ed25519");
        };
        Ok(Self { id: None, checks })
    }

    /// The public keys of a JSON Web Key Set (RFC 7517) that can check a signature. Others, such as those for
    /// encryption or of an unknown type, are passed over, and so are shared secrets: who serves them tells them.
    ///
    /// # Errors
    /// It is no key set.
    pub fn set(json: &str) -> Result<Vec<Self>, String> {
        let set: JwkSet = serde_json::from_str(json).map_err(|e| format!("this is no JSON Web Key Set: {e}"))?;
        let usable = set.keys.iter().filter(|jwk| jwk.common.public_key_use != Some(PublicKeyUse::Encryption));
        Ok(usable
            .filter_map(|jwk| {
                let id = jwk.common.key_id.clone();
                let named = jwk.common.key_algorithm.map(|named| named.to_string());
                let family = match &jwk.algorithm {
                    AlgorithmParameters::RSA(_) => RSA.to_vec(),
                    AlgorithmParameters::EllipticCurve(key) => match key.curve {
                        EllipticCurve::P256 => vec![Algorithm::ES256],
                        EllipticCurve::P384 => vec![Algorithm::ES384],
                        EllipticCurve::P521 if named.as_ref().is_none_or(|named| named == ES512) => {
                            let key = es512::Key::of_coordinates(&key.x, &key.y)?;
                            return Some(Self { id, checks: Checks::Es512(key) });
                        }
                        _ => return None,
                    },
                    AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                        vec![Algorithm::EdDSA]
                    }
                    _ => return None,
                };
                let algorithms: Vec<Algorithm> = match named {
                    None => family,
                    Some(named) => family.into_iter().filter(|a| name_of(*a) == named).collect(),
                };
                let key = DecodingKey::from_jwk(jwk).ok()?;
                (!algorithms.is_empty()).then(|| Self { id, checks: Checks::Library(key, algorithms) })
            })
            .collect())
    }

    /// Whether a token with this header may be one of this key's.
    fn fits(&self, header: &Header) -> bool {
        let knows = match &self.checks {
            Checks::Library(_, algorithms) => algorithms.iter().any(|algorithm| name_of(*algorithm) == header.alg),
            Checks::Es512(_) => header.alg == ES512,
        };
        knows && (self.id.is_none() || header.kid.is_none() || self.id == header.kid)
    }

    /// What a token says, if it is signed with this key and `rules` are kept.
    fn claims(&self, token: &str, rules: &Rules) -> Result<Map<String, Value>, ErrorKind> {
        let data = match &self.checks {
            Checks::Library(key, algorithms) => decode(token, key, &rules.validation(algorithms)),
            Checks::Es512(key) if !key.has_signed(token) => return Err(ErrorKind::InvalidSignature),
            Checks::Es512(_) => {
                // its claims are asked by the library like any other's, under a signature that it knows
                let payload = token.split('.').nth(1).unwrap_or_default();
                let again = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#));
                let (sign, check) = (EncodingKey::from_secret(b"ours"), DecodingKey::from_secret(b"ours"));
                let signature = crypto::sign(again.as_bytes(), &sign, Algorithm::HS256).map_err(|e| e.into_kind())?;
                decode(format!("{again}.{signature}"), &check, &rules.validation(&[Algorithm::HS256]))
            }
        };
        Ok(data.map_err(|e| e.into_kind())?.claims)
    }
}

const ES512: &str = "ES512";

/// As a token's header has it.
fn name_of(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

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
        *self.fetched.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(keys.into());
    }

    /// Tokens that were issued to this user until now are no longer good. One that does not say when it was issued
    /// (`iat`) counts as issued before.
    pub fn revoke(&self, user: &str) {
        let now = SystemTime::now();
        let mut revoked = self.revoked.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        revoked.retain(|_, at| now.duration_since(*at).unwrap_or_default() < REVOKED);
        revoked.insert(user.into(), now);
    }

    /// Whether that befell somebody whose token was good when it was checked.
    pub fn is_revoked(&self, identity: &Identity) -> bool {
        let revoked = self.revoked.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(at) = identity.user.as_ref().and_then(|user| revoked.get(&**user)) else { return false };
        let issued = identity.claims.get("iat").and_then(Value::as_f64).filter(|at| (0.0..1e11).contains(at));
        issued.is_none_or(|issued| UNIX_EPOCH + Duration::from_secs_f64(issued) <= *at)
    }

    /// Waits until a token has named a key that is not here. Cancel safe.
    pub async fn misses_one(&self) {
        self.unknown_key.notified().await;
    }

    /// Who holds this token.
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
        let fetched = self.fetched.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let known = self.fixed.iter().chain(fetched.iter().flat_map(|keys| keys.iter()));
        let mut refused = None;
        for key in known.filter(|key| key.fits(&header)) {
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
        if refused.is_none() {
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
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        _ => "the token cannot be checked",
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Header, encode};
    use serde_json::json;

    use super::*;

    fn now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    fn signed(algorithm: Algorithm, secret: &[u8], claims: &Value) -> String {
        encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    fn keys(rules: Rules) -> Keys {
        Keys::new(vec![Key::secret("s3cret")], rules, true)
    }

    fn refused(keys: &Keys, token: &str) -> &'static str {
        keys.verify(token).unwrap_err().0
    }

    #[test]
    fn a_token_says_who_somebody_is() {
        let token = signed(
            Algorithm::HS512,
            b"s3cret",
            &json!({"sub": 123, "role": "vet", "exp": now() + 60, "clinics": [1, 2]}),
        );
        let identity = keys(Rules::default()).verify(&token).unwrap();
        assert_eq!((identity.user.as_deref(), &*identity.role), (Some("123"), "vet"));
        assert_eq!(identity.claims["clinics"], json!([1, 2]));
        let token = signed(Algorithm::HS256, b"s3cret", &json!({"exp": now() + 60}));
        assert_eq!(&*keys(Rules::default()).verify(&token).unwrap().role, "anon");
    }

    #[test]
    fn a_token_that_is_not_good_says_why() {
        let rules =
            Rules { audiences: vec!["rowcast".into()], issuers: vec!["clinic".into()], leeway: Duration::from_secs(5) };
        let keys = keys(rules);
        let good = json!({"exp": now() + 60, "aud": "rowcast", "iss": "clinic"});
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            if claims[name].is_null() {
                claims.as_object_mut().unwrap().remove(name);
            }
            signed(Algorithm::HS256, b"s3cret", &claims)
        };
        assert!(keys.verify(&with("x", json!(1))).is_ok());
        assert!(keys.verify(&with("exp", json!(now() - 3))).is_ok(), "within the leeway");
        for (token, reason) in [
            (with("exp", json!(now() - 60)), "expired"),
            (with("exp", Value::Null), "no exp"),
            (with("exp", json!(now() * 1000)), "not a time in seconds"),
            (with("exp", json!("soon")), "no exp"),
            (with("nbf", json!(now() + 60)), "not valid yet"),
            (with("aud", json!("other")), "another audience"),
            (with("aud", Value::Null), "no aud"),
            (with("iss", json!("other")), "another issuer"),
            (with("iss", Value::Null), "no iss"),
            (with("sub", json!({"a": 1})), "cannot be checked"),
            (with("role", json!(["admin"])), "sub and role are text"),
            (signed(Algorithm::HS256, b"other", &good), "signature is wrong"),
            ("a.b".into(), "no JSON Web Token"),
            (format!("x{}", "y".repeat(TOKEN_BYTES)), "too long"),
        ] {
            let told = refused(&keys, &token);
            assert!(told.contains(reason), "{reason}: {told}");
        }
        let mut tampered: Vec<String> = with("x", json!(1)).split('.').map(str::to_owned).collect();
        tampered[1] = URL_SAFE_NO_PAD.encode(json!({"exp": now() + 60, "role": "admin"}).to_string());
        assert_eq!(refused(&keys, &tampered.join(".")), "the token's signature is wrong");
    }

    #[test]
    fn a_revoked_user_needs_a_newer_token() {
        let keys = keys(Rules::default());
        let token =
            |iat: Value| signed(Algorithm::HS256, b"s3cret", &json!({"sub": "5", "exp": now() + 60, "iat": iat}));
        assert!(keys.verify(&token(json!(now()))).is_ok());
        keys.revoke("5");
        for old in [json!(now() - 1), Value::Null] {
            assert_eq!(refused(&keys, &token(old)), "the token was revoked");
        }
        assert!(keys.verify(&token(json!(now() + 2))).is_ok());
    }

    const RSA_PUBLIC: &str = include_str!("../../tests/keys/rsa.public.pem");

    #[test]
    fn the_key_says_which_algorithm_never_the_token() {
        let rsa = Keys::new(vec![Key::pem(RSA_PUBLIC).unwrap()], Rules::default(), true);
        let claims = json!({"exp": now() + 60});
        // the public key, which everybody knows, taken as the secret of an HMAC
        let confused = signed(Algorithm::HS256, RSA_PUBLIC.as_bytes(), &claims);
        assert!(refused(&rsa, &confused).contains("no key here"));
        let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        for none in ["none", "None", "NONE", ""] {
            let token = format!("{}.{}.", part(json!({"alg": none, "typ": "JWT"})), part(claims.clone()));
            assert!(rsa.verify(&token).is_err() && keys(Rules::default()).verify(&token).is_err(), "{none}");
        }
    }

    #[test]
    fn each_kind_of_key_checks_its_tokens() {
        for (algorithm, private, public) in [
            (Algorithm::RS256, "rsa", RSA_PUBLIC),
            (Algorithm::PS384, "rsa", RSA_PUBLIC),
            (Algorithm::RS512, "rsa", RSA_PUBLIC),
            (Algorithm::ES256, "p256", include_str!("../../tests/keys/p256.public.pem")),
            (Algorithm::ES384, "p384", include_str!("../../tests/keys/p384.public.pem")),
            (Algorithm::EdDSA, "ed25519", include_str!("../../tests/keys/ed25519.public.pem")),
        ] {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys");
            let pem = std::fs::read(format!("{folder}/{private}.private.pem")).unwrap();
            let key = match private {
                "rsa" => EncodingKey::from_rsa_pem(&pem),
                "ed25519" => EncodingKey::from_ed_pem(&pem),
                _ => EncodingKey::from_ec_pem(&pem),
            };
            let token =
                encode(&Header::new(algorithm), &json!({"exp": now() + 60, "sub": "1"}), &key.unwrap()).unwrap();
            let keys = Keys::new(vec![Key::pem(public).unwrap()], Rules::default(), true);
            assert!(keys.verify(&token).is_ok(), "{algorithm:?}");
            let others = Keys::new(vec![Key::secret("s3cret")], Rules::default(), true);
            assert!(others.verify(&token).is_err(), "{algorithm:?}");
        }
        assert!(Key::pem("nonsense").is_err());
        assert!(Key::pem("-----BEGIN PRIVATE KEY-----").err().unwrap().contains("public"));
    }

    #[test]
    fn a_key_set_is_honoured_as_it_is_now() {
        let private = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/rsa.private.pem")).unwrap();
        let token = |id: &str| {
            let header = Header { kid: Some(id.into()), ..Header::new(Algorithm::RS256) };
            encode(&header, &json!({"exp": now() + 60}), &EncodingKey::from_rsa_pem(&private).unwrap()).unwrap()
        };
        let set = include_str!("../../tests/keys/jwks.json");
        let keys = Keys::new(vec![], Rules::default(), false);
        assert!(refused(&keys, &token("one")).contains("no keys yet"));
        keys.replace(Key::set(set).unwrap());
        assert!(keys.verify(&token("one")).is_ok());
        assert!(refused(&keys, &token("two")).contains("no key here"));
        keys.replace(Key::set(&set.replace("\"one\"", "\"two\"")).unwrap());
        assert!(keys.verify(&token("two")).is_ok() && keys.verify(&token("one")).is_err(), "rotated");
        let pinned = set.replace("\"use\":\"sig\"", "\"use\":\"sig\",\"alg\":\"RS512\"");
        keys.replace(Key::set(&pinned).unwrap());
        assert!(keys.verify(&token("one")).is_err(), "the set names another algorithm");
        keys.replace(Key::set(&set.replace("\"sig\"", "\"enc\"")).unwrap());
        assert!(keys.verify(&token("one")).is_err(), "a key for encryption");
        assert!(Key::set("{}").is_err() && Key::set(r#"{"keys":[]}"#).unwrap().is_empty());
    }

    #[test]
    fn a_key_on_p521_checks_es512() {
        use p521::ecdsa::signature::Signer as _;
        use p521::pkcs8::DecodePrivateKey as _;
        let private = p521::SecretKey::from_pkcs8_pem(include_str!("../../tests/keys/p521.private.pem")).unwrap();
        let signer = p521::ecdsa::SigningKey::from_bytes(&private.to_bytes()).unwrap();
        let sign = |header: Value, claims: Value| {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let signed = format!("{}.{}", part(&header), part(&claims));
            let signature: p521::ecdsa::Signature = signer.sign(signed.as_bytes());
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
        };
        let point = p521::elliptic_curve::sec1::ToEncodedPoint::to_encoded_point(&private.public_key(), false);
        let coordinate = |bytes: Option<&p521::FieldBytes>| URL_SAFE_NO_PAD.encode(bytes.unwrap());
        let set = json!({"keys": [{"kty": "EC", "crv": "P-521", "kid": "a", "x": coordinate(point.x()), "y": coordinate(point.y())}]});
        let good = sign(json!({"alg": "ES512", "kid": "a"}), json!({"sub": "5", "exp": now() + 60}));
        for key in [
            Key::pem(include_str!("../../tests/keys/p521.public.pem")).unwrap(),
            Key::set(&set.to_string()).unwrap().remove(0),
        ] {
            let keys = Keys::new(vec![key], Rules { audiences: Vec::new(), ..Rules::default() }, true);
            assert_eq!(keys.verify(&good).unwrap().user.as_deref(), Some("5"));
            let old = sign(json!({"alg": "ES512"}), json!({"sub": "5", "exp": now() - 60}));
            assert_eq!(refused(&keys, &old), "the token has expired");
            let endless = sign(json!({"alg": "ES512"}), json!({"sub": "5"}));
            assert_eq!(refused(&keys, &endless), "the token has no exp: it would never expire");
            let (signed, _) = good.rsplit_once('.').unwrap();
            assert_eq!(
                refused(&keys, &format!("{signed}.{}", URL_SAFE_NO_PAD.encode([1; 132]))),
                "the token's signature is wrong"
            );
            let tampered = sign(json!({"alg": "ES512"}), json!({"sub": "6", "exp": now() + 60}));
            let mixed = format!("{}.{}", tampered.rsplit_once('.').unwrap().0, good.rsplit_once('.').unwrap().1);
            assert_eq!(refused(&keys, &mixed), "the token's signature is wrong");
            let other = signed_by("ours", now());
            assert!(keys.verify(&other).is_err(), "the library's own signature is none of this key");
        }
    }

    fn signed_by(secret: &str, now: u64) -> String {
        signed(Algorithm::HS256, secret.as_bytes(), &json!({"sub": "5", "exp": now + 60}))
    }
}
