use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use super::forge::{Class, Forge, part};

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The order of the curve's group, little-endian: S and S + L verify the same to a careless eye.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// A number that is spread over a range, the same each time.
fn spread(i: usize, range: usize) -> usize {
    i.wrapping_mul(7_919).wrapping_add(i / 3) % range
}

/// The good token with one part changed.
fn change(forge: &Forge, place: usize, by: impl FnOnce(&str) -> String) -> String {
    let mut parts = forge.parts().map(ToOwned::to_owned);
    parts[place] = by(&parts[place]);
    parts.join(".")
}

/// One bit of the decoded bytes is turned.
fn flip(text: &str, i: usize) -> String {
    let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
    let bit = spread(i, bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    part(bytes)
}

/// One character is another one.
fn swap(text: &str, i: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = spread(i, bytes.len());
    let place = ALPHABET.iter().position(|letter| *letter == bytes[at]).unwrap();
    bytes[at] = ALPHABET[(place + 1 + i % 62) % 64];
    String::from_utf8(bytes).unwrap()
}

fn insert(forge: &Forge, i: usize, text: &str) -> String {
    let mut token = forge.good().to_owned();
    token.insert_str(spread(i, forge.good().len() + 1), text);
    token
}

fn signature(forge: &Forge) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(forge.parts()[2]).unwrap()
}

pub const CLASSES: &[Class] = &[
    ("a bit of the head is turned", |f, i| change(f, 0, |text| flip(text, i))),
    ("a bit of the claims is turned", |f, i| change(f, 1, |text| flip(text, i))),
    ("a bit of the signature is turned", |f, i| change(f, 2, |text| flip(text, i))),
    ("a letter of the head is another", |f, i| change(f, 0, |text| swap(text, i))),
    ("a letter of the claims is another", |f, i| change(f, 1, |text| swap(text, i))),
    ("a letter of the signature is another", |f, i| change(f, 2, |text| swap(text, i))),
    ("cut off at the end", |f, i| f.good()[..f.good().len() - 1 - i].to_owned()),
    ("cut off anywhere", |f, i| f.good()[..spread(i, f.good().len())].to_owned()),
    ("cut off at the beginning", |f, i| f.good()[1 + i..].to_owned()),
    ("more behind it", |f, i| format!("{}{}", f.good(), char::from(ALPHABET[i % 64]))),
    ("more before it", |f, i| format!("{}{}", char::from(ALPHABET[i % 64]), f.good())),
    ("a letter too many", |f, i| insert(f, i, &char::from(ALPHABET[i % 64]).to_string())),
    ("padding", |f, i| change(f, i % 3, |text| format!("{text}{}", "=".repeat(1 + i % 4)))),
    ("padding as it should be", |f, i| {
        let token: Vec<String> = f
            .parts()
            .iter()
            .map(|text| BASE64_URL_SAFE.encode(BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()))
            .collect();
        format!("{}{}", token.join("."), "=".repeat(i % 2))
    }),
    ("the other alphabet", |f, i| {
        let mut text = BASE64_STANDARD.encode(signature(f));
        if !text.contains(['+', '/']) {
            text.insert(i % 80, '+');
        }
        change(f, 2, |_| text)
    }),
    ("bits beyond the last byte", |f, i| {
        // 64 bytes leave four bits of the last letter unused.
        change(f, 2, |text| {
            let last = ALPHABET.iter().position(|letter| *letter == text.as_bytes()[text.len() - 1]).unwrap();
            format!("{}{}", &text[..text.len() - 1], char::from(ALPHABET[last + 1 + i % 15]))
        })
    }),
    ("blanks inside", |f, i| insert(f, i, [" ", "\t", "\u{a0}", "\u{2009}"][i % 4])),
    ("line ends inside", |f, i| insert(f, i, ["\n", "\r", "\r\n", "\u{2028}"][i % 4])),
    ("blanks around", |f, i| {
        let blank = [" ", "\t", "\n", "\u{feff}", "\u{200b}"][i % 5];
        if i % 2 == 0 { format!("{blank}{}", f.good()) } else { format!("{}{blank}", f.good()) }
    }),
    ("NUL inside", |f, i| insert(f, i, "\u{0}")),
    ("percent signs", |f, i| insert(f, i, ["%", "%2E", "%00", "%20"][i % 4])),
    ("dots percent-encoded", |f, i| f.good().replacen('.', "%2E", 1 + i % 2)),
    ("dots that only look so", |f, i| {
        f.good().replace('.', ["\u{3002}", "\u{ff0e}", "\u{2024}", "·"][i % 4])
    }),
    ("letters that only look so", |f, i| {
        let look = ["\u{0435}", "\u{0430}", "\u{ff45}", "\u{1d41e}"][i % 4];
        f.good().replacen('e', look, 1 + i / 4)
    }),
    ("letters of the other case", |f, i| match i % 3 {
        0 => f.good().to_uppercase(),
        1 => f.good().to_lowercase(),
        _ => change(f, 0, str::to_lowercase),
    }),
    ("quotes around", |f, i| {
        let quote = ["\"", "'", "`", "<"][i % 4];
        format!("{quote}{}{quote}", f.good())
    }),
    ("two parts", |f, i| {
        let [head, body, signature] = f.parts();
        [format!("{head}.{body}"), format!("{body}.{signature}"), format!("{head}.{signature}")][i % 3]
            .clone()
    }),
    ("one part", |f, i| f.parts()[i % 3].to_owned()),
    ("four parts", |f, i| format!("{}.{}", f.good(), ["", "x", f.parts()[2]][i % 3])),
    ("five parts, as if encrypted", |f, i| {
        let [head, body, signature] = f.parts();
        format!("{head}.{}.{body}.{}.{signature}", part([i as u8; 12]), part([i as u8; 16]))
    }),
    ("empty parts", |f, i| {
        let [head, body, signature] = f.parts();
        [
            format!(".{body}.{signature}"),
            format!("{head}..{signature}"),
            format!("{head}.{body}."),
            "..".to_owned(),
        ][i % 4]
            .clone()
    }),
    ("parts in another order", |f, i| {
        let [a, b, c] = f.parts();
        [[a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]][i % 5].join(".")
    }),
    ("the signature of another token", |f, _| {
        let other = f.signed(&f.honest());
        change(f, 2, |_| other.rsplit('.').next().unwrap().to_owned())
    }),
    ("the claims of another token", |f, _| {
        let other = f.signed(&f.honest());
        change(f, 1, |_| other.split('.').nth(1).unwrap().to_owned())
    }),
    ("more rights, the same signature", |f, i| {
        let mut claims = f.honest();
        claims["roles"] = json!(["admin", "supervisor", format!("r{i}")]);
        change(f, 1, |_| part(claims.to_string()))
    }),
    ("a longer life, the same signature", |f, i| {
        let mut claims = f.honest();
        claims["exp"] = (claims["exp"].as_i64().unwrap() + 1 + i as i64).into();
        change(f, 1, |_| part(claims.to_string()))
    }),
    ("the same claims in another order", |f, i| {
        let text = f.honest().to_string();
        let spaced = text.replacen(',', &format!(",{}", " ".repeat(1 + i)), 1);
        change(f, 1, |_| part(spaced))
    }),
    ("S beyond the order of the group", |f, i| {
        let mut bytes = signature(f);
        for _ in 0..=i % 7 {
            let mut carry = 0_u16;
            for (byte, add) in bytes[32..].iter_mut().zip(ORDER) {
                let sum = u16::from(*byte) + u16::from(add) + carry;
                *byte = sum.to_le_bytes()[0];
                carry = sum >> 8;
            }
        }
        change(f, 2, |_| part(bytes))
    }),
    ("a signature of nothing", |f, i| change(f, 2, |_| part(vec![0_u8; [64, 0, 63, 65, 32, 128][i % 6]]))),
    ("a signature of ones", |f, i| change(f, 2, |_| part(vec![0xff_u8; 64 - i % 3]))),
    ("R of small order", |f, i| {
        let mut bytes = vec![0_u8; 64];
        bytes[0] = [1, 0, 0xec, 0xee, 0xed][i % 5];
        if i % 5 > 1 {
            bytes[1..31].fill(0xff);
            bytes[31] = 0x7f;
        }
        bytes[32] = (i / 5) as u8;
        change(f, 2, |_| part(bytes))
    }),
    ("R and S exchanged", |f, i| {
        let mut bytes = signature(f);
        bytes.rotate_left(32 - (i % 2));
        change(f, 2, |_| part(bytes))
    }),
    ("the signature in hex", |f, i| change(f, 2, |_| hex::encode(signature(f))[..128 - i % 2].to_owned())),
    ("the signature twice", |f, i| change(f, 2, |text| text.repeat(2 + i % 2))),
    ("far too long", |f, i| change(f, 1 + i % 2, |text| text.repeat(40 + i))),
    ("chance in three parts", |_, i| {
        let bytes = |n: usize| (0..n).map(|at| (at * 31 + i * 17 + n) as u8).collect::<Vec<_>>();
        format!("{}.{}.{}", part(bytes(60 + i)), part(bytes(200 + i)), part(bytes(64)))
    }),
    ("dots only", |_, i| ".".repeat(i + 1)),
    ("words", |_, i| {
        ["null", "undefined", "true", "admin", "Bearer", "{}", "[object Object]", "-"][i % 8]
            .repeat(1 + i / 8)
    }),
    ("the scheme twice", |f, i| format!("{}{}", "Bearer ".repeat(1 + i), f.good())),
    ("two tokens", |f, i| format!("{}{}{}", f.good(), [",", " ", ";", "."][i % 4], f.good())),
    ("as JSON", |f, i| {
        let [head, body, signature] = f.parts();
        if i % 2 == 0 {
            json!({ "protected": head, "payload": body, "signature": signature }).to_string()
        } else {
            json!({ "payload": body, "signatures": [{ "protected": head, "signature": signature }] })
                .to_string()
        }
    }),
    ("a refresh token", |f, i| format!("{}{}", &f.refresh_token, "x".repeat(i % 2))),
    ("a ticket", |_, i| hex::encode([i as u8; 24])),
    ("our key's name", |f, i| format!("{}{}", f.kid, "0".repeat(i))),
    ("a token inside a token", |f, _| {
        let mut claims = f.honest();
        claims["jwt"] = f.good().into();
        change(f, 1, |_| part(claims.to_string()))
    }),
];
