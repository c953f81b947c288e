//! Reading certificates and keys: files, and what systemd hands to the service.

use std::fs::File;
use std::io;
use std::path::Path;

use libsystemd::credentials::CredentialsLoader;

use super::fault::Fault;
use crate::base::file::{self, Links};
use crate::base::user::User;
use crate::config::settings::SecretSource;

/// No certificate chain or key is nearly as large; a file put there by mistake may be.
const MOST: u64 = 1024 * 1024;

/// The whole content; `what` is "certificate", "key" or "client CA".
pub(super) fn read(source: &SecretSource, what: &str) -> Result<Vec<u8>, Fault> {
    let file = match source {
        SecretSource::File(path) => {
            file::open(path, Links::Follow).map_err(|error| file_fault(path, what, &error))?
        }
        SecretSource::Credential(name) => credential(name, what)?,
    };
    file::content(&file, MOST).map_err(|error| {
        let help = format!("write the path of a file with the {what} in PEM");
        match error.kind() {
            io::ErrorKind::FileTooLarge => {
                Fault::error(format!("the {what} {source} is larger than 1 MiB"), help)
            }
            _ => Fault::unread(&format!("{what} {source}"), &error, &help),
        }
    })
}

fn file_fault(path: &Path, what: &str, error: &io::Error) -> Fault {
    let shown = path.display();
    // Members, and what runs as one, are in the front's group.
    let mend = if what == "key" {
        format!("chown roundsman {shown} && chmod 400 {shown}")
    } else {
        format!("chmod 644 {shown}")
    };
    match error.kind() {
        io::ErrorKind::NotFound => Fault::error(
            format!("the {what} {shown} is not there"),
            format!("put the {what} there, or correct the path"),
        ),
        io::ErrorKind::PermissionDenied => Fault::error(
            format!("{} may not read the {what} {shown}", user()),
            format!(
                "let the front read it{}: `{mend}` (and `chmod o+x` its directories), or hand it over with \
                 LoadCredential={}:{shown} and `credential:{}`; see roundsman.toml(5)",
                if what == "key" { ", and nobody else" } else { "" },
                name_for(path),
                name_for(path),
            ),
        ),
        _ => {
            let help = format!("write the path of a file with the {what} in PEM");
            Fault::unread(&format!("{what} {shown}"), error, &help)
        }
    }
}

/// A credential's name for this file.
fn name_for(path: &Path) -> String {
    path.file_name().map_or_else(|| "NAME".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn user() -> String {
    let id = rustix::process::geteuid().as_raw();
    let name = User::numbered(id).ok().flatten().map(|user| user.name);
    name.map_or_else(|| format!("user {id}"), |name| format!("user {name}"))
}

fn credential(name: &str, what: &str) -> Result<File, Fault> {
    let loader = CredentialsLoader::open().map_err(|_| {
        Fault::error(
            format!("the {what} is credential {name}, and this process was given no credentials"),
            format!(
                "add LoadCredential={name}:/path/of/it to roundsman.service (systemctl edit \
                 roundsman) and restart it, or write a path"
            ),
        )
    })?;
    loader.get(name).map_err(|_| {
        let list = loader.iter().into_iter().flatten().flatten();
        let mut has: Vec<_> =
            list.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        has.sort();
        Fault::error(
            format!("the service has no credential {name} for the {what}"),
            format!(
                "add LoadCredential={name}:/path/of/it to roundsman.service and restart it; it has: {}",
                if has.is_empty() { "none".to_owned() } else { has.join(", ") }
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_explained() {
        let gone = SecretSource::File("/nonexistent/key.pem".into());
        let fault = read(&gone, "key").unwrap_err();
        assert_eq!(fault.title, "the key /nonexistent/key.pem is not there");
        let directory = tempfile::tempdir().unwrap();
        let fault = read(&SecretSource::File(directory.path().into()), "key").unwrap_err();
        assert!(fault.title.contains("is not a regular file"), "{fault:?}");
        let large = directory.path().join("large");
        std::fs::write(&large, vec![b'x'; MOST as usize + 1]).unwrap();
        let fault = read(&SecretSource::File(large), "certificate").unwrap_err();
        assert!(fault.title.ends_with("is larger than 1 MiB"), "{fault:?}");
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let fault = file_fault(Path::new("/etc/x/key.pem"), "key", &denied);
        assert!(fault.help.contains("LoadCredential=key.pem:/etc/x/key.pem"), "{fault:?}");
        assert!(
            fault.help.contains("chown roundsman /etc/x/key.pem && chmod 400 /etc/x/key.pem"),
            "{fault:?}"
        );
    }
}
