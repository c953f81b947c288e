//! One entry on its way: read from one server, written to another, or as a line of a file.

use serde::{Deserialize, Serialize};

use super::client::{Client, RemoteError, Value};
use crate::base::text;

/// A key with all that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Item {
    /// The key.
    pub key: Text,
    /// What it holds.
    #[serde(flatten)]
    pub content: Content,
    /// When it expires, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Content {
    /// A string.
    String(Text),
    /// Fields with their values.
    Hash(Vec<(Text, Text)>),
    /// Members.
    Set(Vec<Text>),
}

/// Bytes, shown as text where they are: `"abc"`, otherwise `{"hex": "00ff"}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Shown", into = "Shown")]
pub(crate) struct Text(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Shown {
    Text(String),
    Hex { hex: Hex },
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Hex(Vec<u8>);

impl From<Shown> for Text {
    fn from(shown: Shown) -> Self {
        match shown {
            Shown::Text(text) => Self(text.into_bytes()),
            Shown::Hex { hex } => Self(hex.0),
        }
    }
}

impl From<Text> for Shown {
    fn from(Text(bytes): Text) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Hex { hex: Hex(error.into_bytes()) },
        }
    }
}

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.as_bytes().chunks(2);
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        };
        let bytes = digits.map(byte).collect::<Option<_>>();
        bytes.map(Self).ok_or_else(|| format!("'{text}' is not pairs of hex digits"))
    }
}

impl From<Hex> for String {
    fn from(hex: Hex) -> Self {
        text::hex(hex.0)
    }
}

/// Fields or members of one command: a collection of any size passes in requests of bounded size.
const PIECE: usize = 1000;

/// Reads these keys; those that are gone, or hold what is not supported here, are left out and
/// counted. A value and its expiry are of one moment each, and of nearly the same.
pub(crate) fn read(client: &mut Client, keys: &[Vec<u8>]) -> Result<(Vec<Item>, u64), RemoteError> {
    for key in keys {
        client.queue(&[&b"TYPE"[..], key]);
    }
    let kinds = client.replies()?;
    let mut reads = Vec::new();
    let mut unsupported = 0;
    for (key, kind) in keys.iter().zip(&kinds) {
        let command: &[u8] = match kind {
            Value::Simple(kind) if kind == "string" => b"GET",
            Value::Simple(kind) if kind == "hash" => b"HGETALL",
            Value::Simple(kind) if kind == "set" => b"SMEMBERS",
            Value::Simple(kind) if kind == "none" => continue,
            Value::Simple(_) => {
                unsupported += 1;
                continue;
            }
            other => return Err(client.unexpected(other)),
        };
        client.queue(&[b"PTTL", &key[..]]);
        client.queue(&[command, &key[..]]);
        reads.push((key, command));
    }
    let now = crate::session::now();
    let replies = client.replies()?;
    let mut items = Vec::with_capacity(reads.len());
    for ((key, command), pair) in reads.into_iter().zip(replies.chunks(2)) {
        let [ttl, value] = pair else { break };
        let expires = match ttl {
            Value::Integer(-2) => continue,
            Value::Integer(-1) => None,
            Value::Integer(left) => Some(now.saturating_add(left.unsigned_abs())),
            other => return Err(client.unexpected(other)),
        };
        let content = match (command, value) {
            // Gone, or made anew as something else, since it was looked at: the next pass sees it.
            (_, Value::Null) => continue,
            (_, Value::Error(text)) if text.starts_with("WRONGTYPE") => continue,
            (b"GET", Value::Bulk(bytes)) => Content::String(Text(bytes.clone())),
            (b"HGETALL", Value::Array(parts)) => {
                let parts = texts(client, parts)?;
                Content::Hash(parts.chunks_exact(2).map(|p| (p[0].clone(), p[1].clone())).collect())
            }
            (_, Value::Array(parts)) => Content::Set(texts(client, parts)?),
            (_, other) => return Err(client.unexpected(other)),
        };
        if !matches!(&content, Content::Hash(parts) if parts.is_empty())
            && !matches!(&content, Content::Set(parts) if parts.is_empty())
        {
            items.push(Item { key: Text(key.clone()), content, expires });
        }
    }
    Ok((items, unsupported))
}

fn texts(client: &Client, parts: &[Value]) -> Result<Vec<Text>, RemoteError> {
    parts
        .iter()
        .map(|part| match part {
            Value::Bulk(bytes) => Ok(Text(bytes.clone())),
            other => Err(client.unexpected(other)),
        })
        .collect()
}

/// Writes these items over whatever their keys hold; those whose time is over are left out.
/// Each is there whole or not at all.
pub(crate) fn write(client: &mut Client, items: &[Item]) -> Result<u64, RemoteError> {
    let now = crate::session::now();
    let mut written = 0;
    for Item { key: Text(key), content, expires } in items {
        let left = expires.map(|at| at.saturating_sub(now));
        if left == Some(0) {
            continue;
        }
        let left = left.map(|left| left.to_string());
        written += 1;
        let collect = |texts: &mut dyn Iterator<Item = &Text>, command: &'static [u8]| {
            let mut words: Vec<Vec<u8>> = vec![command.to_vec(), key.clone()];
            words.extend(texts.map(|text| text.0.clone()));
            words
        };
        match content {
            Content::String(Text(value)) => {
                let mut words: Vec<&[u8]> = vec![b"SET", key, value];
                if let Some(left) = &left {
                    words.extend([b"PX", left.as_bytes()]);
                }
                client.queue(&words);
                continue;
            }
            Content::Hash(_) | Content::Set(_) => {
                client.queue(&["MULTI"]);
                client.queue(&[&b"DEL"[..], key]);
            }
        }
        match content {
            Content::Hash(fields) => {
                for piece in fields.chunks(PIECE) {
                    let mut parts = piece.iter().flat_map(|(field, value)| [field, value]);
                    client.queue(&collect(&mut parts, b"HSET"));
                }
            }
            Content::Set(members) => {
                for piece in members.chunks(PIECE) {
                    client.queue(&collect(&mut piece.iter(), b"SADD"));
                }
            }
            Content::String(_) => {}
        }
        if let Some(left) = &left {
            client.queue(&[b"PEXPIRE", &key[..], left.as_bytes()]);
        }
        client.queue(&["EXEC"]);
    }
    for reply in client.replies()? {
        if let Value::Error(_) | Value::Null = reply {
            return Err(client.unexpected(&reply));
        }
        if let Value::Array(results) = &reply
            && let Some(error) = results.iter().find(|result| matches!(result, Value::Error(_)))
        {
            return Err(client.unexpected(error));
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back_as_what_it_was_made_of() {
        let text = |text: &str| Text(text.as_bytes().to_vec());
        for item in [
            Item { key: text("a"), content: Content::String(text("{\"x\":1}")), expires: Some(7) },
            Item { key: Text(vec![0xff, 0]), content: Content::String(text("")), expires: None },
            Item {
                key: text("h"),
                content: Content::Hash(vec![(text("f"), Text(vec![0x80]))]),
                expires: None,
            },
            Item {
                key: text("s"),
                content: Content::Set(vec![text("m"), text("n")]),
                expires: None,
            },
        ] {
            let line = serde_json::to_string(&item).expect("it can be written");
            assert!(!line.contains('\n'));
            assert_eq!(
                serde_json::from_str::<Item>(&line).expect("it can be read"),
                item,
                "{line}"
            );
        }
    }

    #[test]
    fn the_form_of_a_line_is_what_files_depend_on() {
        let line = r#"{"key":"sess:1","string":{"hex":"00ff"},"expires":1700000000000}"#;
        let item: Item = serde_json::from_str(line).expect("it can be read");
        assert_eq!(item.content, Content::String(Text(vec![0, 0xff])));
        assert_eq!(serde_json::to_string(&item).expect("it can be written"), line);
        for bad in [
            r#"{"key":"a"}"#,
            r#"{"key":"a","string":{"hex":"0"}}"#,
            "[]",
            r#"{"key":"a","list":[]}"#,
        ] {
            assert!(serde_json::from_str::<Item>(bad).is_err(), "{bad}");
        }
    }
}
