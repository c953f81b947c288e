//! `listen = "none"`: an app to which nobody connects, a background app.

use std::time::Duration;

use super::diagnostic::{Place, Problem, Problems};
use super::input::{Input, duration};
use super::route::{self, Placed};
use super::schema;
use super::settings::{App, Listen, Ready, RouteTarget};

/// What has no meaning where nobody connects, beside all keys of balancing.
const MEANINGLESS: &[&str] =
    &["route", "mode", "listener", "port", "transport", "health", "drain-timeout"];

/// How long a worker must stay up, unless the file says it: most programs that cannot go on have
/// noticed by then.
const READY_AFTER: Duration = Duration::from_secs(2);

/// How long a worker must have stayed up to be ready; says what means nothing for such an app.
pub(super) fn ready_after(
    (listen, ready, start_timeout): (Listen, Ready, Duration),
    top: Input<'_>,
    problems: &mut Problems,
) -> Duration {
    let after = top.get("ready-after", READY_AFTER, problems, duration);
    if let (Some(node), true) = (top.node("ready-after"), ready != Ready::Running) {
        let title = "`ready-after` means something only with ready = \"running\"";
        let help = "leave it out: the app itself says when it is ready";
        problems.error(&node.place, title, "", help);
    }
    if ready == Ready::Running
        && after >= start_timeout
        && let Some(node) = top.node("ready-after").or_else(|| top.node("start-timeout"))
    {
        let title = "`ready-after` is not shorter than `start-timeout`";
        let help = "write a longer `start-timeout`, or a shorter `ready-after`";
        problems.error(&node.place, title, "no worker would ever be ready", help);
    }
    if listen == Listen::None {
        let balancing = schema::BALANCING.keys.iter().map(|key| key.name);
        for key in MEANINGLESS.iter().copied().chain(balancing) {
            if let Some(node) = top.node(key) {
                let title = format!("`{key}` means nothing with listen = \"none\"");
                let help = "leave it out, or `listen` if the app does serve HTTP";
                problems.error(&node.place, title, "nobody connects to the app", help);
            }
        }
    }
    after
}

/// Says where requests would be sent to an app that takes none.
pub(super) fn conflicts(apps: &[(App, Place)], routes: &[Placed], problems: &mut Problems) {
    for (app, place) in apps.iter().filter(|(app, _)| app.is_background()) {
        let target = RouteTarget::App(app.name.clone());
        let theirs =
            |placed: &&Placed| route::targets(&placed.route.target).any(|to| *to == target);
        for placed in routes.iter().filter(theirs) {
            let title = format!("no requests can be sent to {target}");
            problems.push(
                Problem::error(&placed.place, title, "")
                    .also(place, "has listen = \"none\": nobody connects to it")
                    .help("leave the route out, or `listen` in the app's file"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::sample;

    const QUEUE: &str = "command = [\"node\", \"/x.js\"]\nlisten = \"none\"\nworkers = 2\n";

    #[test]
    fn a_background_app_has_no_route_no_listener_and_no_part_in_the_front() {
        let settings = sample::shop(QUEUE);
        let app = &settings.apps["shop"];
        assert!(app.is_background() && !app.has_address() && !app.has_socket());
        assert!(settings.routes.is_empty() && !settings.has_servers());
        assert_eq!((app.ready, app.ready_after), (Ready::Running, READY_AFTER));
        assert_eq!(app.drain_timeout, Duration::ZERO, "there is nothing in flight");
        assert_eq!(app.units_of(2), ["roundsman-worker@shop:2.service"]);
    }

    #[test]
    fn what_proves_it_is_its_own_word_or_a_while() {
        let ready = |keys: &str| {
            let app = &sample::shop(&format!("{QUEUE}{keys}\n")).apps["shop"];
            (app.ready, app.ready_after)
        };
        assert_eq!(ready("ready-after = \"9s\""), (Ready::Running, Duration::from_secs(9)));
        assert_eq!(ready("ready = \"message\"").0, Ready::Message);
        assert_eq!(ready("ready = \"notify\"").0, Ready::Notify);
    }

    #[test]
    fn what_cannot_go_together_is_said_with_what_to_do() {
        let refused = |text: &str| {
            let problems = sample::loaded(text).problems;
            assert!(problems.errors() > 0, "{text}");
            problems.render(false)
        };
        for key in [
            "route = [{ path = \"/\" }]",
            "mode = \"handoff\"",
            "port = 80",
            "transport = \"tcp\"",
            "health = { path = \"/up\" }",
            "drain-timeout = \"3s\"",
            "balance = \"ip-hash\"",
            "sticky = { cookie = \"a\" }",
        ] {
            let said = refused(&format!("{QUEUE}{key}\n"));
            assert!(said.contains("means nothing with listen = \"none\""), "{said}");
        }
        for (keys, why) in [
            ("ready = \"listening\"", "nothing listens"),
            ("ready = \"message\"\nready-after = \"1s\"", "only with ready = \"running\""),
            ("ready-after = \"1min\"", "not shorter than `start-timeout`"),
        ] {
            let said = refused(&format!("{QUEUE}{keys}\n"));
            assert!(said.contains(why), "{said}");
        }
        let web = "command = [\"/bin/x\"]\n";
        for (keys, why) in [
            ("ready = \"running\"", "only with listen = \"none\""),
            ("ready-after = \"1s\"", "only with ready = \"running\""),
        ] {
            let said = refused(&format!("{web}{keys}\n"));
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn no_route_leads_to_it() {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("apps/queue.toml", QUEUE),
            ("routes/a.toml", "route = [{ path = \"/q\", to = \"app:queue\" }]\n"),
        ] {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let loaded = crate::config::load(&crate::config::Sources::directory(directory.path()));
        let said = loaded.problems.render(false);
        assert!(said.contains("no requests can be sent to app:queue"), "{said}");
    }
}
