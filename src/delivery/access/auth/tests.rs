//! Tokens of each kind, good and not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
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
    let token =
        signed(Algorithm::HS512, b"s3cret", &json!({"sub": 123, "role": "vet", "exp": now() + 60, "clinics": [1, 2]}));
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
    let token = |iat: Value| signed(Algorithm::HS256, b"s3cret", &json!({"sub": "5", "exp": now() + 60, "iat": iat}));
    assert!(keys.verify(&token(json!(now()))).is_ok());
    keys.revoke("5", SystemTime::now());
    for old in [json!(now() - 1), Value::Null] {
        assert_eq!(refused(&keys, &token(old)), "the token was revoked");
    }
    assert!(keys.verify(&token(json!(now() + 2))).is_ok());
}

#[test]
fn a_token_that_names_a_key_of_a_newer_set_has_it_read_again() {
    let keys = Keys::new(vec![Key::secret("s3cret")], Rules::default(), false);
    let header = Header { kid: Some("rotated".into()), ..Header::new(Algorithm::HS256) };
    let token = encode(&header, &json!({"exp": now() + 60}), &EncodingKey::from_secret(b"the newer one")).unwrap();
    assert_eq!(refused(&keys, &token), "the server has no keys yet: try again later");
    assert!(keys.wait_for_unknown_key().now_or_never().is_some());
    keys.replace(Vec::new());
    assert_eq!(refused(&keys, &token), WRONG_SIGNATURE);
    assert!(keys.wait_for_unknown_key().now_or_never().is_some());
    let forged = signed(Algorithm::HS256, b"guessed", &json!({"exp": now() + 60}));
    assert_eq!(refused(&keys, &forged), WRONG_SIGNATURE);
    assert!(keys.wait_for_unknown_key().now_or_never().is_none());
}

const RSA_PUBLIC: &str = include_str!("../../../../tests/keys/rsa.public.pem");

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
        (Algorithm::ES256, "p256", include_str!("../../../../tests/keys/p256.public.pem")),
        (Algorithm::ES384, "p384", include_str!("../../../../tests/keys/p384.public.pem")),
        (Algorithm::EdDSA, "ed25519", include_str!("../../../../tests/keys/ed25519.public.pem")),
    ] {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys");
        let pem = std::fs::read(format!("{folder}/{private}.private.pem")).unwrap();
        let key = match private {
            "rsa" => EncodingKey::from_rsa_pem(&pem),
            "ed25519" => EncodingKey::from_ed_pem(&pem),
            _ => EncodingKey::from_ec_pem(&pem),
        };
        let token = encode(&Header::new(algorithm), &json!({"exp": now() + 60, "sub": "1"}), &key.unwrap()).unwrap();
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
    let set = include_str!("../../../../tests/keys/jwks.json");
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
    let private = p521::SecretKey::from_pkcs8_pem(include_str!("../../../../tests/keys/p521.private.pem")).unwrap();
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
        Key::pem(include_str!("../../../../tests/keys/p521.public.pem")).unwrap(),
        Key::set(&set.to_string()).unwrap().remove(0),
    ] {
        let keys = Keys::new(vec![key], Rules { audiences: Vec::new(), ..Rules::default() }, true);
        assert_eq!(keys.verify(&good).unwrap().user.as_deref(), Some("5"));
        let old = sign(json!({"alg": "ES512"}), json!({"sub": "5", "exp": now() - 60}));
        assert_eq!(refused(&keys, &old), "the token has expired");
        let endless = sign(json!({"alg": "ES512"}), json!({"sub": "5"}));
        assert_eq!(refused(&keys, &endless), "the token has no exp: it would never expire");
        let (unsigned, _) = good.rsplit_once('.').unwrap();
        assert_eq!(
            refused(&keys, &format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode([1; 132]))),
            "the token's signature is wrong"
        );
        let tampered = sign(json!({"alg": "ES512"}), json!({"sub": "6", "exp": now() + 60}));
        let mixed = format!("{}.{}", tampered.rsplit_once('.').unwrap().0, good.rsplit_once('.').unwrap().1);
        assert_eq!(refused(&keys, &mixed), "the token's signature is wrong");
        let other = signed(Algorithm::HS256, b"ours", &json!({"sub": "5", "exp": now() + 60}));
        assert!(keys.verify(&other).is_err(), "the library's own signature is none of this key");
    }
}
