//! How servers in Python learn from whom a request comes: they take X-Forwarded-For from addresses that they are
//! told. Over a UNIX socket there is none, so that the client would be nobody; over TCP the front has several.

use std::ffi::OsStr;
use std::path::Path;

use super::environment::Environment;
use crate::base::worker_address;
use crate::config::settings::{Address, App};

/// For uvicorn, and for the scheme in gunicorn: whom they believe.
const ALLOW: &str = "FORWARDED_ALLOW_IPS";

/// For gunicorn: further arguments.
const ARGUMENTS: &str = "GUNICORN_CMD_ARGS";

/// What gunicorn reads where it is given nothing else.
const CONFIGURATION: &str = "/usr/lib/roundsman/gunicorn.conf.py";

/// Tells it in the app's environment, unless that says something of its own.
pub(super) fn tell(app: &App, address: &Address, theirs: &mut Environment) {
    if app.has_address() {
        let of_front = match address {
            // Nobody but the front has the right to connect there, or is believed if it does.
            Address::Unix(_) => "*".to_owned(),
            // Each by itself: not all versions know networks.
            Address::Tcp(_) => worker_address::near_addresses()
                .map(|address| address.to_string())
                .collect::<Vec<_>>()
                .join(","),
        };
        theirs.entry(ALLOW.into()).or_insert_with(|| of_front.into());
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
    use crate::base::worker_address;
    use crate::config::settings::{Listen, Transport};
    use crate::worker::tests::app;

    #[test]
    fn the_front_is_believed_wherever_it_connects_from() {
        let of = |listen, transport, own: Option<&str>| {
            let app = App { transport, ..app(listen, &["uvicorn", "main:app"]) };
            let mut theirs = Environment::new();
            theirs.extend(own.map(|own| (ALLOW.into(), own.into())));
            tell(&app, &app.worker_address(1), &mut theirs);
            theirs.get(OsStr::new(ALLOW)).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(of(Listen::Fd, Transport::Unix, None).as_deref(), Some("*"));
        assert_eq!(of(Listen::Fd, Transport::Unix, Some("10.0.0.1")).as_deref(), Some("10.0.0.1"));
        let over_tcp = of(Listen::Fd, Transport::Tcp, None).unwrap();
        assert!(over_tcp.starts_with("127.0.0.1,127.0.0.2,"), "{over_tcp}");
        assert_eq!(over_tcp.split(',').count(), worker_address::near_addresses().count());
        assert_eq!(of(Listen::None, Transport::Unix, None), None);
    }
}
