//! The words of a text of arguments, as PM2 7 makes them: neither a shell's nor a plain split. Seen
//! from what it starts.

use serde_json::Value;

use super::value::text;

/// `"a b"` at the beginning of a word is one word without its quotes, and ends there; `name="a b"` is one
/// with them; anything else goes on to the next space, whatever quotes are in it. Empty words vanish.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, length) = match quoted(rest).or_else(|| assigned(rest)) {
            Some(found) => found,
            None => plain(rest),
        };
        if !word.trim().is_empty() {
            words.push(word.to_owned());
        }
        rest = rest[length..].trim_start();
    }
    words
}

/// What stands in the quotes that it begins with, and how long it is with them.
fn quoted(text: &str) -> Option<(&str, usize)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let end = text[1..].find(quote)?;
    Some((&text[1..=end], end + 2))
}

/// `--name="a b"`.
fn assigned(text: &str) -> Option<(&str, usize)> {
    let equals = text.find(|c: char| c.is_whitespace() || matches!(c, '=' | '"' | '\''))?;
    let value = text[equals..].strip_prefix('=').filter(|_| equals > 0)?;
    let (_, length) = quoted(value)?;
    let end = equals + 1 + length;
    Some((&text[..end], end))
}

fn plain(text: &str) -> (&str, usize) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], end)
}

/// Words of a text, or a list of them.
pub(super) fn of(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => split(text),
        Some(Value::Array(words)) => {
            words.iter().map(|word| text(word).unwrap_or_else(|| word.to_string())).collect()
        }
        Some(other) => text(other).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each was given to PM2 7, and this is what the app got.
    #[test]
    fn the_words_are_those_of_pm2() {
        for (text, words) in [
            ("  spaced   out  ", &["spaced", "out"][..]),
            ("a\tb\nc", &["a", "b", "c"]),
            (r#"--title "Night shift" --tag=red"#, &["--title", "Night shift", "--tag=red"]),
            (r#"--title="Night shift" x"#, &["--title=\"Night shift\"", "x"]),
            ("--filter='a b' --last", &["--filter='a b'", "--last"]),
            (r#"--empty "" '' --last"#, &["--empty", "--last"]),
            (r#"--a {"a b":1}"#, &["--a", "{\"a", "b\":1}"]),
            (r#"--json {"a":1} *.js $HOME"#, &["--json", "{\"a\":1}", "*.js", "$HOME"]),
            (r#"--json '{"a": "b c"}'"#, &["--json", "{\"a\": \"b c\"}"]),
            (r#"foo"bar baz"qux"#, &["foo\"bar", "baz\"qux"]),
            (r#"--x='a' --y="b c"d"#, &["--x='a'", "--y=\"b c\"", "d"]),
            (r"a\ b", &["a\\", "b"]),
            (r#""it's""#, &["it's"]),
            ("'a'b c", &["a", "b", "c"]),
            (r#"--filter=a"b c" d"#, &["--filter=a\"b", "c\"", "d"]),
            (r#"--data='{"a": 1}' --k={"x y"}"#, &["--data='{\"a\": 1}'", "--k={\"x", "y\"}"]),
            (r#""a \" b""#, &["a \\", "b\""]),
            (r#"x="a"#, &["x=\"a"]),
            ("don't do it's", &["don't", "do", "it's"]),
            (r#"e.f="5 6" a+b='c d'"#, &["e.f=\"5 6\"", "a+b='c d'"]),
            (r#""a b""c d""#, &["a b", "c d"]),
            (r#"-x="a b"c='d e'"#, &["-x=\"a b\"", "c='d e'"]),
            (r#"a=b="c d""#, &["a=b=\"c", "d\""]),
            (r#"foo"x="y z""#, &["foo\"x=\"y", "z\""]),
            (r#"é="a b""#, &["é=\"a b\""]),
            (r#""a"="b c""#, &["a", "=\"b", "c\""]),
            (r#"="b c""#, &["=\"b", "c\""]),
            (r#"--a="b c"="d e""#, &["--a=\"b c\"", "=\"d", "e\""]),
        ] {
            assert_eq!(split(text), words, "{text}");
        }
    }

    #[test]
    fn words_of_a_list_are_written_as_javascript_does() {
        let list = serde_json::json!(["a b", null, 7, true]);
        assert_eq!(of(Some(&list)), ["a b", "null", "7", "true"]);
        assert_eq!(of(Some(&serde_json::json!(5))), ["5"]);
        assert!(of(None).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[a-zé=\"' \\\\\n]{0,40}") {
            let words = split(&text);
            proptest::prop_assert!(words.iter().all(|word| !word.trim().is_empty()));
        }
    }
}
