//! Where the credentials of the service are for somebody who looks from outside, and which files only
//! root and the service can look at.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use crate::base::paths;
use crate::config::Problem;
use crate::config::settings::{Front, Secret, SecretSource};

/// Puts the files that systemd made of credentials in the place of their names. What is not there
/// cannot be looked at, which is no error: systemd hands it over at the next start of the service.
pub(super) fn find(front: &mut Front) -> Vec<Problem> {
    find_in(Path::new(paths::CREDENTIALS), front)
}

fn find_in(directory: &Path, front: &mut Front) -> Vec<Problem> {
    let mut unseen = Vec::new();
    for listener in front.listeners.values_mut() {
        listener.certificates.retain_mut(|files| {
            let certificate = locate(directory, &mut files.certificate, &mut unseen);
            locate(directory, &mut files.key, &mut unseen) && certificate
        });
        listener.client_ca.take_if(|ca| !locate(directory, ca, &mut unseen));
    }
    unseen
}

/// Whether the secret can be looked at.
fn locate(directory: &Path, secret: &mut Secret, unseen: &mut Vec<Problem>) -> bool {
    let name = match &secret.source {
        SecretSource::Credential(name) => name,
        SecretSource::File(path) => {
            let error = File::open(path).err();
            let is_closed = error.is_some_and(|e| e.kind() == ErrorKind::PermissionDenied);
            if is_closed && let Some(place) = &secret.place {
                let title = format!("{} was not looked at: you may not read it", path.display());
                let help = "`roundsman check` as root looks at it, too";
                unseen.push(Problem::warning(place, title, "").help(help));
            }
            return !is_closed;
        }
    };
    let path = directory.join(name);
    if File::open(&path).is_ok() {
        secret.source = SecretSource::File(path);
        return true;
    }
    if let Some(place) = &secret.place {
        let title = format!("credential {name} was not looked at: only the service gets it");
        unseen.push(Problem::warning(place, title, "").help(
            "it needs LoadCredential= in roundsman.service; `systemctl restart roundsman` reads it, and \
             `systemctl status roundsman` says so if it cannot be used",
        ));
    }
    false
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::{self, Sources};

    #[test]
    fn what_systemd_has_handed_over_is_looked_at_and_the_rest_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let text = "[listen.https]\ncertificates = [\n\
                    { certificate = \"credential:a.pem\", key = \"credential:a.key\" },\n\
                    { certificate = \"credential:b.pem\", key = \"/b.key\" }]\n\
                    client-ca = \"credential:ca.pem\"\n";
        std::fs::write(at("roundsman.toml"), text).unwrap();
        for name in ["a.pem", "a.key"] {
            std::fs::write(at(name), "").unwrap();
        }
        let mut loaded = config::load(&Sources::directory(directory.path()));
        assert_eq!(loaded.problems.errors(), 0);
        let unseen = find_in(directory.path(), &mut loaded.settings.front);
        let titles: Vec<_> = unseen.iter().map(|p| (p.is_error(), p.title())).collect();
        let said = |name| format!("credential {name} was not looked at: only the service gets it");
        assert_eq!(titles, [(false, &*said("b.pem")), (false, &*said("ca.pem"))]);
        let listener = &loaded.settings.front.listeners["https"];
        assert_eq!(listener.certificates.len(), 1);
        let files = &listener.certificates[0];
        assert_eq!(files.certificate.source, SecretSource::File(at("a.pem")));
        assert_eq!(files.key.source, SecretSource::File(at("a.key")));
        assert!(listener.client_ca.is_none());
    }

    /// Root may read all of them, whatever its tests run as.
    #[test]
    fn what_only_the_service_may_read_is_no_error_of_the_files() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key.pem");
        std::fs::write(&key, "").unwrap();
        std::fs::set_permissions(&key, Permissions::from_mode(0o000)).unwrap();
        let text = format!(
            "[listen.https]\ncertificates = [{{ certificate = \"/a.pem\", key = {key:?} }}]\n"
        );
        std::fs::write(directory.path().join("roundsman.toml"), text).unwrap();
        let mut loaded = config::load(&Sources::directory(directory.path()));
        let is_root = File::open(&key).is_ok();
        let unseen = find_in(directory.path(), &mut loaded.settings.front);
        assert_eq!(unseen.is_empty(), is_root, "{unseen:?}");
        let certificates = &loaded.settings.front.listeners["https"].certificates;
        assert_eq!(certificates.len(), usize::from(is_root));
    }
}
