use eml::domain::id::{CallId, ClientId};
use serde_json::{Value, json};

use super::forge::{Class, Forge};

fn now(forge: &Forge) -> i64 {
    forge.honest()["iat"].as_i64().unwrap()
}

/// Values that are no text.
fn no_text(i: usize) -> Value {
    [json!(i), Value::Null, json!([i]), json!({ "x": i }), json!(true)][i % 5].clone()
}

/// Values that are no whole number.
fn no_number(i: usize) -> Value {
    [json!(i.to_string()), Value::Null, json!([i]), json!({}), json!(i as f64 + 0.5), json!(false)][i % 6]
        .clone()
}

fn raw(forge: &Forge, body: &[u8]) -> String {
    forge.signed_raw(&forge.right_head(), body)
}

/// What stands in the body is written by hand.
fn spelt(forge: &Forge, change: impl Fn(&str) -> String) -> String {
    raw(forge, change(&forge.honest().to_string()).as_bytes())
}

pub const CLASSES: &[Class] = &[
    ("iss of another", |f, i| {
        f.with("iss", ["", "EML", "eml ", "https://eml.example", "eml\u{0}", "e\u{200b}ml"][i % 6].into())
    }),
    ("iss missing", |f, _| f.without("iss")),
    ("iss of another kind", |f, i| f.with("iss", if i % 2 == 0 { json!(["eml"]) } else { no_text(i) })),
    ("aud of another", |f, i| {
        f.with("aud", ["", "EML", "eml-cluster", "account", "eml,other", "*"][i % 6].into())
    }),
    ("aud missing", |f, _| f.without("aud")),
    ("aud of several", |f, i| {
        f.with("aud", [json!(["eml"]), json!(["eml", "x"]), json!([]), json!({})][i % 4].clone())
    }),
    ("expired", |f, i| f.with("exp", (now(f) - i as i64).into())),
    ("exp missing", |f, _| f.without("exp")),
    ("exp that is no number", |f, i| f.with("exp", no_number(i))),
    ("exp far away", |f, i| {
        let far = [json!(i64::MAX), json!(u64::MAX), json!(1e300), json!(now(f) + 86_401 + i as i64)];
        f.with("exp", far[i % 4].clone())
    }),
    ("exp below zero", |f, i| f.with("exp", [json!(-1), json!(i64::MIN), json!(0)][i % 3].clone())),
    ("exp in milliseconds", |f, i| f.with("exp", (now(f) * 1000 + i as i64).into())),
    ("not good yet", |f, i| f.with("nbf", (now(f) + 30 + i as i64).into())),
    ("nbf missing", |f, _| f.without("nbf")),
    ("nbf that is no number", |f, i| f.with("nbf", no_number(i))),
    ("nbf behind its end", |f, i| f.with("nbf", (now(f) + 90_000 + i as i64).into())),
    ("made in the future", |f, i| f.with("iat", (now(f) + 60 + i as i64).into())),
    ("made long ago, and still good", |f, i| f.with("iat", (now(f) - 86_400 - i as i64).into())),
    ("iat missing", |f, _| f.without("iat")),
    ("iat at the end of numbers", |f, i| {
        f.with("iat", [json!(i64::MIN), json!(-1), json!(0)][i % 3].clone())
    }),
    ("sub missing", |f, _| f.without("sub")),
    ("sub of another kind of thing", |f, i| {
        f.with(
            "sub",
            if i % 2 == 0 {
                CallId::fresh().to_string()
            } else {
                "agt_01h455vb4pex5vsknk084sn02q".to_owned()
            }
            .into(),
        )
    }),
    ("sub that is no id", |f, i| {
        f.with(
            "sub",
            ["", "admin", "usr_", "usr_1", "*", "usr_81h455vb4pex5vsknk084sn02q", "root\u{0}"][i % 7].into(),
        )
    }),
    ("sub of another type", |f, i| f.with("sub", no_text(i))),
    ("sub twice", |f, i| {
        let other = "usr_01h455vb4pex5vsknk084sn02q";
        spelt(f, |body| {
            if i % 2 == 0 {
                body.replacen('{', &format!(r#"{{"sub":"{other}","#), 1)
            } else {
                body.replace('}', &format!(r#","sub":"{other}"}}"#))
            }
        })
    }),
    ("exp twice", |f, i| {
        let far = now(f) + 80_000 + i as i64;
        spelt(f, |body| body.replacen('{', &format!(r#"{{"exp":{far},"#), 1))
    }),
    ("roles twice", |f, _| spelt(f, |body| body.replacen('{', r#"{"roles":["admin"],"#, 1))),
    ("roles that are no list", |f, i| {
        f.with("roles", ["admin".into(), json!({ "admin": true }), Value::Null, json!(7)][i % 4].clone())
    }),
    ("roles with impossible names", |f, i| {
        f.with(
            "roles",
            [json!(["Admin"]), json!(["admin", ""]), json!(["*"]), json!([1]), json!(["admin admin"])][i % 5]
                .clone(),
        )
    }),
    ("a scope of nothing known", |f, i| {
        f.with(
            "scope",
            ["*", "all", "openid", "calls:*", "setup:write admin", "own,calls:read"][i % 6].into(),
        )
    }),
    ("a scope of another kind", |f, i| f.with("scope", if i % 2 == 0 { json!(["own"]) } else { no_text(i) })),
    ("an epoch that is none", |f, i| {
        f.with("epoch", [json!(-1), json!(1.5), json!("0"), Value::Null, json!(1e30)][i % 5].clone())
    }),
    ("an agent that is none", |f, i| {
        f.with("agent", ["", "agt_", "usr_01h455vb4pex5vsknk084sn02q", "1"][i % 4].into())
    }),
    ("a session that is none", |f, i| {
        f.with("sid", ["", "sid_", "ses_01h455vb4pex5vsknk084sn02q", "1"][i % 4].into())
    }),
    ("a client that is none", |f, i| {
        f.with("client_id", ["", "cli_", "eml", "usr_01h455vb4pex5vsknk084sn02q"][i % 4].into())
    }),
    ("a client as a user with another prefix", |f, i| {
        f.with("sub", format!("cli_{}", &ClientId::fresh().to_string()[4..29 - i % 3]).into())
    }),
    ("jti missing", |f, _| f.without("jti")),
    ("auth_time missing", |f, _| f.without("auth_time")),
    ("auth_time that is no number", |f, i| f.with("auth_time", no_number(i))),
    ("amr that is no list", |f, i| {
        f.with("amr", ["otp".into(), json!({}), json!([1]), Value::Null][i % 4].clone())
    }),
    ("of a session that was ended", |f, _| {
        let mut claims = f.honest();
        claims["sid"] = f.revoked_session.to_string().into();
        f.signed(&claims)
    }),
    ("of an epoch that is over", |f, i| {
        let mut claims = f.honest();
        claims["sub"] = f.revoked_user.to_string().into();
        claims["epoch"] = (i % 7).into();
        f.signed(&claims)
    }),
    ("claims that are no object", |f, i| {
        raw(f, [&b"[]"[..], b"null", b"7", b"\"x\"", b"", b"true", b"{", b"[{}]"][i % 8])
    }),
    ("claims with more behind them", |f, i| {
        spelt(f, |body| format!("{body}{}", ["x", "{}", ",", "]", "\u{0}"][i % 5]))
    }),
    ("claims that are no UTF-8", |f, i| {
        let mut body = f.honest().to_string().into_bytes();
        let at = body.len() / 2 + i % 20;
        body[at] = [0xff, 0xc0, 0x80, 0xfe][i % 4];
        raw(f, &body)
    }),
    ("claims in UTF-16", |f, _| {
        let units = f.honest().to_string();
        let bytes: Vec<u8> = units.encode_utf16().flat_map(u16::to_le_bytes).collect();
        raw(f, &bytes)
    }),
    ("claims behind a byte order mark", |f, _| raw(f, format!("\u{feff}{}", f.honest()).as_bytes())),
    ("claims nested beyond all depth", |f, i| {
        let depth = 200 + i * 20;
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        spelt(f, |body| body.replace(r#"["admin"]"#, &nested))
    }),
    ("claims in single quotes or with comments", |f, i| {
        spelt(f, |body| if i % 2 == 0 { body.replace('"', "'") } else { body.replacen('{', "{/* */", 1) })
    }),
    ("numbers as JSON does not write them", |f, i| {
        let exp = (now(f) + 3_600).to_string();
        let other = ["0x7fffffff", "+1900000000", "019", "Infinity", "NaN", "1_900_000_000"][i % 6];
        spelt(f, |body| {
            let at = body.find("\"exp\":").unwrap() + 6;
            let end = at + body[at..].find([',', '}']).unwrap();
            assert!(end - at == exp.len(), "{body}");
            format!("{}{other}{}", &body[..at], &body[end..])
        })
    }),
    ("nothing at all", |f, _| raw(f, b"{}")),
];
