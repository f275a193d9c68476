//! ES512: signatures over P-521 (RFC 7518, section 3.4), which the token library does not know. Owns the signature
//! alone; what a token must say is asked by the same rules as of any other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p521::ecdsa::signature::Verifier as _;
use p521::ecdsa::{Signature, VerifyingKey};
use p521::elliptic_curve::sec1::ToEncodedPoint as _;
use p521::pkcs8::DecodePublicKey as _;
use p521::{EncodedPoint, FieldBytes, PublicKey};

/// A public key on P-521.
#[derive(Clone)]
pub(super) struct P521Key(VerifyingKey);

impl P521Key {
    pub(super) fn of_pem(pem: &str) -> Option<Self> {
        let key = PublicKey::from_public_key_pem(pem).ok()?;
        Self::of_point(&key.to_encoded_point(false))
    }

    /// Coordinates as a JSON Web Key has them.
    pub(super) fn of_coordinates(x: &str, y: &str) -> Option<Self> {
        let field = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            (bytes.len() == 66).then(|| bytes.into_iter().collect::<FieldBytes>())
        };
        Self::of_point(&EncodedPoint::from_affine_coordinates(&field(x)?, &field(y)?, false))
    }

    fn of_point(point: &EncodedPoint) -> Option<Self> {
        VerifyingKey::from_encoded_point(point).ok().map(Self)
    }

    /// Whether this key's holder has signed the token.
    pub(super) fn has_signed(&self, token: &str) -> bool {
        let Some((signed, signature)) = token.rsplit_once('.') else { return false };
        let signature = URL_SAFE_NO_PAD.decode(signature).ok();
        let signature = signature.and_then(|bytes| Signature::from_slice(&bytes).ok());
        signature.is_some_and(|signature| self.0.verify(signed.as_bytes(), &signature).is_ok())
    }
}
