use aws_lc_rs::hmac::{HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use serde_json::{Value, json};

use super::forge::{Class, Forge, part};

/// A head with a member changed; signed with the node's own key unless it says otherwise.
fn with(forge: &Forge, member: &str, value: Value) -> String {
    let mut head = forge.head();
    head[member] = value;
    forge.signed_raw(&head.to_string(), forge.honest().to_string().as_bytes())
}

fn without(forge: &Forge, member: &str) -> String {
    let mut head = forge.head();
    head.as_object_mut().unwrap().remove(member).unwrap();
    forge.signed_raw(&head.to_string(), forge.honest().to_string().as_bytes())
}

fn unsigned(forge: &Forge, alg: &str) -> String {
    let head = json!({ "alg": alg, "typ": "at+jwt", "kid": forge.kid });
    format!("{}.{}.", part(head.to_string()), part(forge.honest().to_string()))
}

fn head_of(forge: &Forge, alg: &str) -> String {
    json!({ "alg": alg, "typ": "at+jwt", "kid": forge.kid }).to_string()
}

fn of_list(list: &[&str], i: usize) -> Value {
    let text = list[i % list.len()];
    if i < list.len() { text.into() } else { format!("{text}{}", i / list.len()).into() }
}

fn jwk(public: &[u8]) -> Value {
    json!({ "kty": "OKP", "crv": "Ed25519", "x": part(public) })
}

pub const CLASSES: &[Class] = &[
    ("alg none without signature", |f, _| unsigned(f, "none")),
    ("alg none in other cases", |f, i| unsigned(f, ["None", "NONE", "nOnE", "NoNe"][i % 4])),
    ("alg none with our signature", |f, _| with(f, "alg", "none".into())),
    ("alg empty", |f, i| with(f, "alg", ["", " ", "\u{0}"][i % 3].into())),
    ("alg missing", |f, _| without(f, "alg")),
    ("alg of another kind", |f, i| {
        with(f, "alg", [json!(1), Value::Null, json!(["EdDSA"]), json!({ "alg": "EdDSA" })][i % 4].clone())
    }),
    ("alg in other letters", |f, i| with(f, "alg", ["eddsa", "EDDSA", "EdDsa", "EdDSA "][i % 4].into())),
    ("alg Ed25519 or Ed448", |f, i| with(f, "alg", ["Ed25519", "Ed448"][i % 2].into())),
    ("alg RS256 or PS256 with our signature", |f, i| {
        with(f, "alg", ["RS256", "RS512", "PS256"][i % 3].into())
    }),
    ("alg ES256 with our signature", |f, i| with(f, "alg", ["ES256", "ES384", "ES512"][i % 3].into())),
    ("alg nobody knows", |f, i| with(f, "alg", of_list(&["X", "HS1", "dir", "A256KW"], i))),
    ("HS256 keyed with our public key", |f, i| {
        let head = head_of(f, "HS256");
        let key = if i % 2 == 0 { f.public().to_vec() } else { part(f.public()).into_bytes() };
        f.coded(HMAC_SHA256, &head, &key)
    }),
    ("HS256 keyed with our public key as a document", |f, _| {
        let spki = [&b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"[..], f.public()].concat();
        f.coded(HMAC_SHA256, &head_of(f, "HS256"), &spki)
    }),
    ("HS384 keyed with our public key", |f, _| f.coded(HMAC_SHA384, &head_of(f, "HS384"), f.public())),
    ("HS512 keyed with our public key", |f, _| f.coded(HMAC_SHA512, &head_of(f, "HS512"), f.public())),
    ("HS256 keyed with nothing", |f, _| f.coded(HMAC_SHA256, &head_of(f, "HS256"), b"")),
    ("HS256 keyed with a word", |f, i| {
        let word = ["secret", "password", "eml", "changeme", "0123456789abcdef"][i % 5];
        f.coded(HMAC_SHA256, &head_of(f, "HS256"), format!("{word}{}", i / 5).as_bytes())
    }),
    ("HS256 under the right head", |f, i| {
        f.coded(HMAC_SHA256, &f.right_head(), if i % 2 == 0 { f.public() } else { b"secret" })
    }),
    ("HS256 of the cluster's kind", |f, _| {
        f.coded(HMAC_SHA256, r#"{"typ":"JWT","alg":"HS256"}"#, &f.cluster_secret)
    }),
    ("typ missing", |f, _| without(f, "typ")),
    ("typ JWT", |f, i| with(f, "typ", ["JWT", "jwt", "JWS"][i % 3].into())),
    ("typ in other letters", |f, i| {
        with(f, "typ", ["AT+JWT", "at+JWT", "application/at+jwt", "at jwt"][i % 4].into())
    }),
    ("typ of another token", |f, i| {
        with(f, "typ", ["id_token", "refresh+jwt", "logout+jwt", "dpop+jwt", "secevent+jwt"][i % 5].into())
    }),
    ("typ of another kind", |f, i| with(f, "typ", [json!(7), Value::Null, json!(["at+jwt"])][i % 3].clone())),
    ("kid missing", |f, _| without(f, "kid")),
    ("kid of nobody", |f, i| with(f, "kid", format!("{i:032x}").into())),
    ("kid in other letters", |f, i| {
        let kid: String = f
            .kid
            .char_indices()
            .map(|(at, c)| if at % 32 == i % 32 { c.to_ascii_uppercase() } else { c })
            .collect();
        with(f, "kid", if kid == f.kid { kid.to_uppercase() + " " } else { kid }.into())
    }),
    ("kid that leads to a file", |f, i| {
        with(f, "kid", of_list(&["../../../dev/null", "/dev/null", "file:///etc/passwd", "..\\key"], i))
    }),
    ("kid that asks a database", |f, i| {
        with(f, "kid", of_list(&["' OR '1'='1", "x' UNION SELECT 'key'--", "1; DROP TABLE records"], i))
    }),
    ("kid that runs a command", |f, i| with(f, "kid", of_list(&["|id", "`id`", "$(id)", "key\u{0}"], i))),
    ("kid of another kind", |f, i| {
        with(f, "kid", [json!(1), Value::Null, json!([]), json!({})][i % 4].clone())
    }),
    ("kid with more behind it", |f, i| with(f, "kid", format!("{}{}", f.kid, " ".repeat(i + 1)).into())),
    ("another's key under its own name", |f, _| f.foreign()),
    ("another's key under our name", |f, _| f.foreign_under(&f.right_head())),
    ("another's key that the head brings along", |f, i| {
        let mut head = f.head();
        head["jwk"] = jwk(f.their_public());
        head["kid"] = if i % 2 == 0 { f.kid.clone() } else { "theirs".to_owned() }.into();
        f.foreign_under(&head.to_string())
    }),
    ("another's key at an address that the head names", |f, i| {
        let mut head = f.head();
        head[["jku", "x5u"][i % 2]] = format!("https://evil.example/{i}/keys.json").into();
        f.foreign_under(&head.to_string())
    }),
    ("another's key in a certificate", |f, i| {
        let mut head = f.head();
        head["x5c"] = json!([part(f.their_public()), i]);
        f.foreign_under(&head.to_string())
    }),
    ("jwk of our own key", |f, _| with(f, "jwk", jwk(f.public()))),
    ("jku with our signature", |f, _| with(f, "jku", "https://evil.example/keys.json".into())),
    ("x5t with our signature", |f, i| with(f, ["x5t", "x5t#S256"][i % 2], part([1; 20]).into())),
    ("crit with what must be understood", |f, i| {
        with(
            f,
            "crit",
            [json!(["exp"]), json!(["b64"]), json!(["x"]), json!([]), json!("exp")][i % 5].clone(),
        )
    }),
    ("b64 false", |f, _| {
        let mut head = f.head();
        head["b64"] = false.into();
        head["crit"] = json!(["b64"]);
        f.signed_raw(&head.to_string(), f.honest().to_string().as_bytes())
    }),
    ("zip", |f, _| with(f, "zip", "DEF".into())),
    ("cty of a token in a token", |f, _| with(f, "cty", "JWT".into())),
    ("an encrypted token's head", |f, i| with(f, "enc", ["A256GCM", "A128CBC-HS256"][i % 2].into())),
    ("members that nobody asked for", |f, i| with(f, &format!("x{i}"), i.into())),
    ("members in another order", |f, i| {
        let orders = [
            format!(r#"{{"typ":"at+jwt","alg":"EdDSA","kid":"{}"}}"#, f.kid),
            format!(r#"{{"kid":"{}","alg":"EdDSA","typ":"at+jwt"}}"#, f.kid),
            format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"at+jwt"}}"#, f.kid),
        ];
        f.headed(&orders[i % 3])
    }),
    ("blanks in the head", |f, i| {
        let blank = [" ", "\n", "\t", "  "][i % 4];
        f.headed(&f.right_head().replacen(',', &format!(",{blank}"), 1 + i % 2))
    }),
    ("members twice", |f, i| {
        let head = f.right_head();
        let twice = [
            head.replacen("{", r#"{"alg":"none","#, 1),
            head.replace('}', r#","alg":"none"}"#),
            head.replace('}', r#","alg":"EdDSA"}"#),
            head.replace('}', r#","kid":"x"}"#),
        ];
        f.headed(&twice[i % 4])
    }),
    ("escaped letters in the head", |f, i| {
        f.headed(&f.right_head().replacen("EdDSA", ["\\u0045dDSA", "Ed\\u0044SA"][i % 2], 1))
    }),
    ("a head that is no object", |f, i| {
        f.headed(["[]", "null", "7", "\"EdDSA\"", "", "{", "{}", "[{\"alg\":\"EdDSA\"}]"][i % 8])
    }),
    ("a head with more behind it", |f, i| {
        f.headed(&format!("{}{}", f.right_head(), ["{}", " ", "\n", "x"][i % 4]))
    }),
];
