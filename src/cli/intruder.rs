//! Who has the address of a worker that did not start.

use crate::base::holder;
use crate::base::listeners::{Listener, Listeners};
use crate::base::unit;
use crate::base::user::User;
use crate::config::settings::{Address, App, Listen};

/// Says it, as a line to add: where systemd is to listen for the worker, anybody may as long as it does
/// not. Empty when nobody does.
pub(super) fn told(app: &App, number: u16) -> String {
    let Some(found) = find(app, number) else { return String::new() };
    let who =
        holder::of_socket(found.inode).map_or_else(|| "a process".into(), |who| who.to_string());
    line(&found, &who, app.listen == Listen::Port)
}

fn find(app: &App, number: u16) -> Option<Listener> {
    let Address::Tcp(address) = app.worker_address(number) else { return None };
    let found = Listeners::open().ok()?.at(address).ok()??;
    let own = unit::service(&app.name, number);
    let is_other = match app.listen {
        Listen::Cluster | Listen::Fd => found.uid != 0,
        // The worker may not have ended yet.
        Listen::Port => holder::of_socket(found.inode).is_some_and(|who| who.unit != Some(own)),
        Listen::Unix | Listen::None => false,
    };
    is_other.then_some(found)
}

fn line(found: &Listener, who: &str, is_apps: bool) -> String {
    let Listener { address, uid, .. } = found;
    let user =
        User::numbered(*uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let what = if is_apps {
        "the app cannot listen there until that has ended; or give the app another port"
    } else {
        "systemd cannot listen there until that has ended"
    };
    format!(
        "\n{who} of the user {user} listens on {address}, which is the worker's address: {what}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_and_who_has_it_are_named() {
        let address = "127.98.172.2:7080".parse().unwrap();
        let said = line(&Listener { address, uid: 0, inode: 1 }, "thief (process 7)", false);
        let expected =
            "\nthief (process 7) of the user root listens on 127.98.172.2:7080, which is";
        assert!(said.starts_with(expected), "{said}");
    }
}
