//! A key: which signatures it checks, and what a token says that it has signed. Pure.
//!
//! The key decides which algorithms its tokens may have, never the token: an RSA key checks RSA signatures and no HMAC
//! over its public half, and `none` is no algorithm of any key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto, decode};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::delivery::access::auth::{Rules, es512};

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
    Es512(es512::P521Key),
}

/// The first part of a token.
#[derive(Deserialize)]
pub(super) struct Header {
    alg: String,
    pub(super) kid: Option<String>,
    /// extensions that must be understood
    pub(super) crit: Option<Value>,
}

impl Header {
    pub(super) fn of(token: &str) -> Option<Self> {
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
        let checks = if let Some(key) = es512::P521Key::of_pem(pem) {
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
    /// encryption or of an unknown type, are passed over, and so are shared secrets: a server that hands them out gives
    /// them away.
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
                            let key = es512::P521Key::of_coordinates(&key.x, &key.y)?;
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
    pub(super) fn fits(&self, header: &Header) -> bool {
        let knows = match &self.checks {
            Checks::Library(_, algorithms) => algorithms.iter().any(|algorithm| name_of(*algorithm) == header.alg),
            Checks::Es512(_) => header.alg == ES512,
        };
        knows && (self.id.is_none() || header.kid.is_none() || self.id == header.kid)
    }

    /// Whether it has the id that this header names.
    pub(super) fn is_named(&self, header: &Header) -> bool {
        self.id.is_some() && self.id == header.kid
    }

    /// What a token says, if it is signed with this key and `rules` are kept.
    pub(super) fn claims(&self, token: &str, rules: &Rules) -> Result<Map<String, Value>, ErrorKind> {
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
