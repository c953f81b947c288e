//! An app that chooses itself where it listens: what `start` makes of it, and what there is to type.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::task::JoinSet;

use super::edit::Edit;
use super::failure::{Chosen, Done};
use super::manage::say;
use crate::config::settings::{App, Listen};
use crate::start::file::Change;
use crate::worker::{LISTENS_ELSEWHERE, speaks_http};

/// What is said to those whose workers want the same port.
const HAVE_IT: &str = "have it take HOST and PORT from its environment";

/// From where a worker says that it listens. It must still run: of several ports each is asked.
pub(super) async fn listens(app: &App, status: &str) -> Option<Chosen> {
    let ports = ports(status);
    match (app.workers, ports.is_empty()) {
        (_, true) => None,
        (1, false) => server(&ports).await.map(Chosen::Port),
        (_, false) => Some(Chosen::OneWorker),
    }
}

/// From what a worker said before it ended.
pub(super) fn said(app: &App, said: &str) -> Option<Chosen> {
    clashes(app, said).then_some(Chosen::OneWorker)
}

/// The file of a new app with which it may run as it is.
pub(super) fn taken(chosen: Chosen, app: &App, edit: &Edit) -> Done<(App, Edit)> {
    let name = &app.name;
    let change = match chosen {
        Chosen::OneWorker => {
            say(&format!(
                "several workers cannot have a port that {name} chooses itself, so it is started with \
                 one: workers = 1 in its file. For more, {HAVE_IT}"
            ));
            Change { workers: Some(1), ..Change::default() }
        }
        Chosen::Port(port) => {
            say(&format!(
                "{name} is taken where it listens, which one worker alone can do: listen = \"port\", \
                 port = {port} and surge = 0 in its file"
            ));
            let port = i64::from(port).into();
            let more = vec![("port".to_owned(), port), ("surge".to_owned(), 0_i64.into())];
            Change { listen: Some("port".to_owned()), more, ..Change::default() }
        }
    };
    let edit = edit.and(&change)?;
    Ok((edit.judge_app(name)?, edit))
}

/// Which of its ports is its server's: the only one, or the only one that answers as a server of HTTP does.
async fn server(ports: &BTreeSet<u16>) -> Option<u16> {
    if ports.len() == 1 {
        return ports.first().copied();
    }
    let mut asked = JoinSet::new();
    for port in ports.iter().copied() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        asked.spawn(async move { speaks_http(address).await.then_some(port) });
    }
    let answered: Vec<u16> = asked.join_all().await.into_iter().flatten().collect();
    match *answered {
        [port] => {
            say(&format!("of its ports {} only {port} answers HTTP", list(ports, " and ")));
            Some(port)
        }
        _ => None,
    }
}

fn list(ports: &BTreeSet<u16>, between: &str) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// The ports of which a worker says that it listens there, where the front does not reach it.
pub(super) fn all(status: &str) -> BTreeSet<u16> {
    addresses(status).iter().map(SocketAddr::port).collect()
}

/// Those of them at which the front could reach it.
fn ports(status: &str) -> BTreeSet<u16> {
    let home = IpAddr::from(Ipv4Addr::LOCALHOST);
    let is_reached = |address: &&SocketAddr| address.ip().is_unspecified() || address.ip() == home;
    addresses(status).iter().filter(is_reached).map(SocketAddr::port).collect()
}

fn addresses(status: &str) -> Vec<SocketAddr> {
    let list = status.strip_prefix(LISTENS_ELSEWHERE).and_then(|rest| rest.split(", where").next());
    let addresses = list.unwrap_or_default().split(" and ");
    addresses.filter_map(|address| address.parse().ok()).collect()
}

/// What to type for an app that listens elsewhere.
pub(super) fn way_out(app: &App, status: &str) -> String {
    let ports = ports(status);
    match ports.first() {
        None => String::new(),
        Some(_) if app.workers > 1 => {
            format!(". Or with one worker, as two cannot have {}: -n 1", list(&ports, " or "))
        }
        Some(port) if ports.len() == 1 => {
            format!(". As options of start: --listen port --port {port}")
        }
        Some(_) => format!(
            ". As options of start, with the one that is its server: --listen port --port {}",
            list(&ports, " or --port ")
        ),
    }
}

/// Whether a worker did not get a port that another worker has.
fn clashes(app: &App, said: &str) -> bool {
    const IN_USE: [&str; 4] = ["already in use", "eaddrinuse", "addrinuse", "in use?"];
    let said = said.to_lowercase();
    // Node's cluster workers have their ports in common.
    app.workers > 1
        && !matches!(app.listen, Listen::Cluster | Listen::None)
        && IN_USE.iter().any(|sign| said.contains(sign))
}

/// What to do about a reason that many have: workers that want the same port, a folder that is root's.
pub(super) fn remedy(app: &App, said: &str) -> String {
    if clashes(app, said) {
        let have_it = HAVE_IT.replacen('h', "H", 1);
        return format!(
            "; several workers cannot have a port that the app chooses itself. {have_it}, or start one worker: \
             -n 1"
        );
    }
    let said = said.to_lowercase();
    let is_read_only = said.contains("read-only file system") || said.contains("erofs");
    match &app.directory {
        Some(directory) if is_read_only && app.user.is_none() => format!(
            "; an app in a folder of root's may write to /tmp alone. If it has to write there, give the folder to a \
             user, as whom it then runs: chown -R USER {}",
            directory.display()
        ),
        _ => String::new(),
    }
}

/// What to do about an extra worker of a deploy that did not get its port.
pub(super) fn beside(app: &App, worker: u16, said: &str) -> &'static str {
    let both = App { workers: worker, ..app.clone() };
    if worker > app.workers && clashes(&both, said) {
        "\nWhat to do: it insists on its port, so that no second worker runs beside it: surge = 0 in its file, and \
         requests wait while it restarts"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;

    fn app(text: &str) -> App {
        sample::shop(&format!("command = [\"/bin/true\"]\n{text}")).apps["shop"].clone()
    }

    fn elsewhere(list: &str) -> String {
        format!("{LISTENS_ELSEWHERE}{list}, where the front does not reach it")
    }

    #[test]
    fn reasons_that_many_have_are_told_with_what_to_do() {
        let two = app("workers = 2\n");
        for said in [
            "2026/11/26 listen tcp :8090: bind: address already in use",
            "OSError: [Errno 98] Address already in use",
            "AddrInUse: Address already in use (os error 98)",
            "error: Failed to start server. Is port 3000 in use?",
        ] {
            let remedy = remedy(&two, said);
            assert!(remedy.contains("Have it take") && remedy.contains("-n 1"), "{said}");
            assert_eq!(super::said(&two, said), Some(Chosen::OneWorker), "{said}");
        }
        assert_eq!(remedy(&two, "Error: Cannot find module 'x'"), "");
        assert_eq!(remedy(&app(""), "address already in use"), "", "somebody else has it");
        assert_eq!(super::said(&app(""), "address already in use"), None);
        let none = app("workers = 2\nlisten = \"none\"\n");
        assert_eq!(super::said(&none, "EADDRINUSE"), None, "it has no server");
        let node =
            sample::shop("command = [\"node\", \"a.js\"]\nworkers = 2\n").apps["shop"].clone();
        assert_eq!(remedy(&node, "EADDRINUSE"), "", "its front's server has no port");
        let said = remedy(&app("directory = \"/srv/x\"\n"), "Error: EROFS: read-only");
        assert!(said.ends_with("chown -R USER /srv/x"), "{said}");
    }

    #[test]
    fn an_app_with_a_port_of_its_own_is_told_the_options() {
        for (workers, list, said) in [
            (1, "127.0.0.1:8000", "--listen port --port 8000"),
            (1, "127.0.0.1:80 and 0.0.0.0:9100", "--port 80 or --port 9100"),
            (2, "127.0.0.1:8000", "with one worker, as two cannot have 8000: -n 1"),
            (1, "[::1]:8000", ""),
        ] {
            let app = app(&format!("workers = {workers}\n"));
            let told = way_out(&app, &elsewhere(list));
            assert!(told.ends_with(said) && (told.is_empty() == said.is_empty()), "{told}");
        }
        assert_eq!(way_out(&app(""), "still starting"), "");
    }

    #[tokio::test]
    async fn what_is_reached_at_a_port_is_tried_there() {
        let (one, two) = (app(""), app("workers = 2\n"));
        for (app, list, expected) in [
            (&one, "0.0.0.0:5000 and [::]:5000", Some(Chosen::Port(5000))),
            (&one, "[::1]:3000", None), // it is not reached there
            (&two, "0.0.0.0:5000", Some(Chosen::OneWorker)),
            (&two, "[::1]:3000", None),
        ] {
            assert_eq!(listens(app, &elsewhere(list)).await, expected, "{list}");
        }
        assert_eq!(listens(&one, "still starting").await, None);
    }

    #[tokio::test]
    async fn of_several_ports_the_one_that_answers_is_the_servers() {
        use std::io::{Read as _, Write as _};
        use std::net::TcpListener;
        let (mute, web) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let both = BTreeSet::from([port(&mute), port(&web)]);
        let answer = std::thread::spawn(move || {
            let (mut client, _) = web.accept().unwrap();
            assert!(client.read(&mut [0; 1024]).unwrap() > 0);
            client.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").unwrap();
            port(&web)
        });
        let one = BTreeSet::from([port(&mute)]);
        std::thread::spawn(move || drop(mute.accept()));
        let found = server(&both).await;
        assert_eq!(found, Some(answer.join().unwrap()));
        assert_eq!(
            server(&one).await,
            one.first().copied(),
            "there is no other, so nobody is asked"
        );
    }

    #[test]
    fn a_worker_beside_one_that_insists_on_its_port_says_what_to_write() {
        let one = app("listen = \"port\"\nport = 8000\n");
        assert!(beside(&one, 2, "EADDRINUSE").contains("surge = 0"));
        assert_eq!(beside(&one, 1, "EADDRINUSE"), "", "somebody else has it");
        assert_eq!(beside(&one, 2, "SyntaxError"), "");
    }
}
