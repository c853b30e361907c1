//! Form bodies and query strings, in order, with blanks and empty values kept.

/// Names and values in the order in which they came.
pub type Fields = Vec<(String, String)>;

/// The body is not a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("form is not valid UTF-8 after decoding")]
pub struct NotAForm;

/// Reads `application/x-www-form-urlencoded`, also the form of query strings.
///
/// # Errors
/// When the decoded bytes are not UTF-8.
pub fn parse(text: &[u8]) -> Result<Fields, NotAForm> {
    let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(place) => (&pair[..place], &pair[place + 1..]),
                None => (pair, &[][..]),
            };
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

fn decode(text: &[u8]) -> Result<String, NotAForm> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.first_chunk::<2>().and_then(|pair| Some((digit(pair[0])?, digit(pair[1])?)));
        match (first, hex) {
            (b'+', _) => bytes.push(b' '),
            (b'%', Some((high, low))) => {
                bytes.push(high << 4 | low);
                rest = &tail[2..];
                continue;
            }
            (other, _) => bytes.push(*other),
        }
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| NotAForm)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The first value of a field.
#[must_use]
pub fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_pluses_and_empty_values_are_kept() {
        let fields = parse(b"a=1&b=&c=x+y%2Bz&a=2&d&e=%F0%9F%99%82&%=%zz").unwrap();
        let plain: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            plain,
            [("a", "1"), ("b", ""), ("c", "x y+z"), ("a", "2"), ("d", ""), ("e", "🙂"), ("%", "%zz")]
        );
        assert_eq!(parse(b"a=%FF"), Err(NotAForm));
        assert_eq!(parse(b""), Ok(Vec::new()));
    }
}
