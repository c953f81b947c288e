//! How servers in Python learn from whom a request comes: they take X-Forwarded-For from addresses that they are
//! told, and over a UNIX socket there is none, so that the client would be nobody.

use std::ffi::OsStr;
use std::path::Path;

use super::environment::Environment;
use crate::config::settings::{Address, App};

/// For uvicorn, and for the scheme in gunicorn: whom they believe.
const ALLOW: &str = "FORWARDED_ALLOW_IPS";

/// For gunicorn: further arguments.
const ARGUMENTS: &str = "GUNICORN_CMD_ARGS";

/// What gunicorn reads where it is given nothing else.
const CONFIGURATION: &str = "/usr/lib/roundsman/gunicorn.conf.py";

/// Tells it in the app's environment, unless that says something of its own.
pub(super) fn tell(app: &App, address: &Address, theirs: &mut Environment) {
    if app.has_address() && matches!(address, Address::Unix(_)) {
        // Nobody but the front has the right to connect there, or is believed if it does.
        theirs.entry(ALLOW.into()).or_insert_with(|| "*".into());
    }
    let is_gunicorn = |word: &String| Path::new(word).file_name() == Some(OsStr::new("gunicorn"));
    if app.has_address() && app.command.iter().any(is_gunicorn) && Path::new(CONFIGURATION).exists()
    {
        let arguments = format!("--config={CONFIGURATION}");
        theirs.entry(ARGUMENTS.into()).or_insert_with(|| arguments.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{Listen, Transport};
    use crate::worker::tests::app;

    #[test]
    fn where_the_front_has_no_address_it_is_believed_without_one() {
        let of = |listen, transport, own: Option<&str>| {
            let app = App { transport, ..app(listen, &["uvicorn", "main:app"]) };
            let mut theirs = Environment::new();
            theirs.extend(own.map(|own| (ALLOW.into(), own.into())));
            tell(&app, &app.worker_address(1), &mut theirs);
            theirs.get(OsStr::new(ALLOW)).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(of(Listen::Fd, Transport::Unix, None).as_deref(), Some("*"));
        assert_eq!(of(Listen::Fd, Transport::Unix, Some("10.0.0.1")).as_deref(), Some("10.0.0.1"));
        assert_eq!(of(Listen::Fd, Transport::Tcp, None), None, "it has 127.0.0.1, as they expect");
        assert_eq!(of(Listen::None, Transport::Unix, None), None);
    }
}
