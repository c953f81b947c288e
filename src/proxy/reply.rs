//! Answers of our own: a page for people, JSON for programs.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::field;
use super::https::Hsts;
use super::rewrite::Connection;
use crate::front::Reason;

/// Seconds after which a client may try again when no server is up.
const RETRY_AFTER: u32 = 5;

/// What an own answer depends on.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) reason: Reason,
    pub(crate) id: &'a str,
    pub(crate) json: bool,
    /// Answers a `HEAD` request: no body.
    pub(crate) bodiless: bool,
    pub(crate) connection: Connection,
    /// The administrator's own page for this status.
    pub(crate) page: Option<&'a str>,
    /// What browsers are told about TLS.
    pub(crate) hsts: Option<Hsts>,
}

/// Whether JSON is wanted rather than a page, by the `Accept` field.
pub(crate) fn wants_json(accept: &[u8]) -> bool {
    for member in field::list(accept) {
        let kind = field::trim(member.split(|b| *b == b';').next().unwrap_or_default());
        if kind.eq_ignore_ascii_case(b"text/html") {
            return false;
        }
        if kind.eq_ignore_ascii_case(b"application/json")
            || kind.eq_ignore_ascii_case(b"application/problem+json")
        {
            return true;
        }
    }
    false
}

/// Writes an answer that sends the client elsewhere for good.
pub(crate) fn redirect(out: &mut Vec<u8>, status: u16, location: &[u8], connection: Connection) {
    let phrase = phrase(status);
    let date = httpdate::fmt_http_date(SystemTime::now());
    let head = format!("HTTP/1.1 {status} {phrase}\r\nDate: {date}\r\nLocation: ");
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(location);
    out.extend_from_slice(b"\r\nContent-Length: 0\r\n");
    out.extend_from_slice(connection_field(connection).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes the answer of the last one that a request comes to (RFC 9110 7.6.2, 9.3.8): to `TRACE` with the
/// head that a server would have got, without what says who somebody is.
pub(crate) fn last(out: &mut Vec<u8>, request: &[u8], connection: Connection) {
    const SECRET: [&[u8]; 2] = [b"cookie:", b"authorization:"];
    let is_secret = |line: &[u8]| {
        let begins =
            |with: &&[u8]| line.get(..with.len()).is_some_and(|l| l.eq_ignore_ascii_case(with));
        SECRET.iter().any(begins)
    };
    let lines = request.split_inclusive(|byte| *byte == b'\n');
    let (kind, body) = if request.starts_with(b"TRACE ") {
        (
            "Content-Type: message/http\r\n",
            lines.filter(|line| !is_secret(line)).collect::<Vec<_>>().concat(),
        )
    } else {
        ("", Vec::new())
    };
    let date = httpdate::fmt_http_date(SystemTime::now());
    let head =
        format!("HTTP/1.1 200 OK\r\nDate: {date}\r\n{kind}Content-Length: {}\r\n", body.len());
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(connection_field(connection).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body);
}

fn connection_field(connection: Connection) -> &'static str {
    match connection {
        Connection::Close => "Connection: close\r\n",
        Connection::KeepAlive => "Connection: keep-alive\r\n",
        _ => "",
    }
}

impl Reply<'_> {
    /// Writes the whole answer.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let status = self.reason.status();
        let phrase = phrase(status);
        let body = if self.json {
            self.json(phrase)
        } else {
            self.page.map_or_else(|| self.html(phrase), |page| self.fill(page, phrase))
        };
        let kind = if self.json { "application/json" } else { "text/html; charset=utf-8" };
        let date = httpdate::fmt_http_date(SystemTime::now());
        let mut head = String::with_capacity(512);
        let length = body.len();
        let _ = write!(
            head,
            "HTTP/1.1 {status} {phrase}\r\nDate: {date}\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\nCache-Control: no-store\r\nX-Request-Id: {}\r\n",
            self.id
        );
        if status == 503 {
            let _ = write!(head, "Retry-After: {RETRY_AFTER}\r\n");
        }
        if status == 405 {
            head.push_str("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n");
        }
        head.push_str(connection_field(self.connection));
        out.extend_from_slice(head.as_bytes());
        if let Some(hsts) = self.hsts {
            hsts.write(out);
        }
        out.extend_from_slice(b"\r\n");
        if !self.bodiless {
            out.extend_from_slice(body.as_bytes());
        }
    }

    fn json(&self, phrase: &str) -> String {
        serde_json::json!({
            "status": self.reason.status(),
            "title": phrase,
            "detail": self.reason.text(),
            "reason": self.reason.name(),
            "request-id": self.id,
        })
        .to_string()
    }

    fn fill(&self, page: &str, phrase: &str) -> String {
        page.replace("{status}", &self.reason.status().to_string())
            .replace("{title}", phrase)
            .replace("{detail}", self.reason.text())
            .replace("{request-id}", self.id)
    }

    fn html(&self, phrase: &str) -> String {
        let status = self.reason.status();
        let (detail, id) = (self.reason.text(), self.id);
        let help = if self.reason == Reason::NothingConfigured { ADD_AN_APP } else { "" };
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{status} {phrase}</title>\n\
             <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;\
             padding:0 1rem}}pre{{background:#8882;padding:1rem;overflow:auto}}\
             small{{color:#888}}</style>\n</head>\n<body>\n<h1>{status} {phrase}</h1>\n\
             <p>{detail}</p>\n{help}<p><small>Request {id}</small></p>\n</body>\n</html>\n"
        )
    }
}

const ADD_AN_APP: &str = "<p>Roundsman runs. To add an application, type:</p>
<pre>roundsman start /srv/hello/server.js</pre>
<p>That writes <code>/etc/roundsman/apps/hello.toml</code>, which may be written by hand, too:</p>
<pre>command = [\"node\", \"server.js\"]
directory = \"/srv/hello\"
workers = 2</pre>
<p>and then <code>roundsman apply</code>.</p>
";

fn phrase(status: u16) -> &'static str {
    match status {
        301 => "Moved Permanently",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(reason: Reason, json: bool) -> String {
        let mut out = Vec::new();
        let connection = Connection::Close;
        Reply { reason, id: "abc", json, bodiless: false, connection, page: None, hsts: None }
            .write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_for_whoever_prefers_it() {
        assert!(wants_json(b"application/json, text/html;q=0.5"));
        assert!(!wants_json(b"text/html, application/json"));
        assert!(!wants_json(b"*/*"));
        let reply = reply(Reason::NoRoute, true);
        let (_, body) = reply.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["request-id"], "abc");
        assert_eq!(body["status"], 404);
    }

    #[test]
    fn every_reason_has_a_phrase_and_an_empty_front_says_how_to_fill_it() {
        for reason in Reason::ALL {
            assert_ne!(phrase(reason.status()), "Error", "{reason:?}");
        }
        assert!(reply(Reason::NothingConfigured, false).contains("/etc/roundsman/apps/"));
        assert!(reply(Reason::NoServer, false).contains("Retry-After: "));
    }
}
