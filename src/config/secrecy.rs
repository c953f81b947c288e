//! What looks like a secret: passwords in URLs, and variables that are named like one.

/// Words in a variable's name that say that it holds a secret.
const SURE: [&str; 8] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "CREDENTIAL",
    "APIKEY",
    "PRIVATEKEY",
    "ACCESSKEY",
];

/// Whole words that say so, where the value is more than a number or a switch.
const LIKELY: [&str; 7] = ["PASS", "PW", "PWD", "TOKEN", "TOKENS", "SALT", "PEPPER"];

/// Whether a variable looks as if nobody should see its value.
pub(crate) fn is_secret(name: &str, value: &str) -> bool {
    if value.is_empty() || matches!(name, "PWD" | "OLDPWD") {
        return false;
    }
    if has_password(value) {
        return true;
    }
    let upper = name.to_ascii_uppercase();
    let words: Vec<&str> = upper.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let joined = words.concat();
    if SURE.iter().any(|sure| joined.contains(sure)) {
        return true;
    }
    let plain = value.parse::<f64>().is_ok() || matches!(value, "true" | "false");
    let key = words.len() > 1
        && matches!(words.last(), Some(&"KEY" | &"KEYS"))
        && !words.contains(&"PUBLIC");
    !plain && (key || words.iter().any(|word| LIKELY.contains(word)))
}

/// Whether there is a URL with a password in a text.
pub(crate) fn has_password(text: &str) -> bool {
    text.match_indices("://").any(|(at, mark)| {
        let rest = &text[at + mark.len()..];
        let end = rest.find(|c: char| "/?#\"'".contains(c) || c.is_whitespace());
        let authority = &rest[..end.unwrap_or(rest.len())];
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in [
            "DB_PASSWORD",
            "SESSION_SECRET",
            "STRIPE_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "API_KEY",
            "apiKey",
            "MYSQL_PWD",
            "JWT_PRIVATE_KEY",
            "SMTP_PASS",
        ] {
            assert!(is_secret(name, "abc"), "{name}");
            assert!(!is_secret(name, ""), "{name}");
        }
        for (name, value) in [
            ("PORT", "3000"),
            ("NODE_ENV", "production"),
            ("PWD", "/srv"),
            ("KEY", "x"),
            ("PUBLIC_KEY", "x"),
            ("MONKEY", "x"),
            ("TOKEN_LIFETIME", "3600"),
            ("USE_TOKEN", "true"),
            ("COMPASS", "north"),
        ] {
            assert!(!is_secret(name, value), "{name}");
        }
    }

    #[test]
    fn and_by_passwords_in_urls() {
        for url in [
            "redis://:pw@10.0.0.5",
            "postgres://u:p@db/shop",
            "a=1,amqp://u:p@q/",
            "mongodb+srv://u:p%40@x",
            "http://u:a@b@host",
        ] {
            assert!(has_password(url) && is_secret("URL", url), "{url}");
        }
        for url in [
            "redis://10.0.0.5:6379",
            "http://u@host",
            "http://u:@host",
            "http://h/a:b@c",
            "x@y:z",
            "://",
            "",
        ] {
            assert!(!has_password(url), "{url}");
        }
    }
}
