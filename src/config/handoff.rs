//! `mode = "handoff"`: an app that is given whole connections.

use super::diagnostic::{Place, Problem, Problems};
use super::fragment::Node;
use super::input::{Input, Read, choice, string};
use super::route::{self, Placed};
use super::settings::{App, Listen, RouteTarget};

const MODE: &[(&str, bool)] = &[("proxy", false), ("handoff", true)];

/// Whose connections an app gets that names no listener.
const LISTENER: &str = "http";

/// What has no meaning where no request is looked at.
const MEANINGLESS: &[&str] = &["route", "transport", "balance", "hash", "sticky", "passive"];

/// The listener that is the app's alone.
pub(super) fn read(listen: Listen, top: Input<'_>, problems: &mut Problems) -> Option<String> {
    let named = top.optional("listener", problems, listener);
    if !top.get("mode", false, problems, choice(MODE)) {
        if let Some(node) = top.node("listener") {
            let title = "`listener` means something only with mode = \"handoff\"";
            let help = "add `mode = \"handoff\"`, or leave `listener` out";
            problems.error(&node.place, title, "", help);
        }
        return None;
    }
    let mode = top.node("mode")?;
    if listen != Listen::Cluster {
        problems.error(
            &mode.place,
            "connections can be handed to Node apps only",
            "needs Node's channel",
            "leave `mode` out: the front then takes the connections and forwards the requests",
        );
    }
    for key in MEANINGLESS {
        if let Some(node) = top.node(key) {
            let title = format!("`{key}` means nothing with mode = \"handoff\"");
            let help =
                "leave it out: each connection goes to the next worker, whatever is said on it";
            problems.error(&node.place, title, "no request is looked at", help);
        }
    }
    Some(named.unwrap_or_else(|| LISTENER.to_owned()))
}

fn listener(node: &Node, problems: &mut Problems) -> Read<String> {
    let name = string(node, problems)?;
    let fits = |b: u8| b.is_ascii_graphic() && b != b':';
    if name.is_empty() || name.len() > 255 || !name.bytes().all(fits) || name == "admin" {
        let title = format!("`{name}` cannot be the name of a listener");
        let help = "write the FileDescriptorName= of its socket unit, as in \"http\"";
        problems.error(&node.place, title, "", help);
        return None;
    }
    Some(name.to_owned())
}

/// Says where apps with a listener of their own are in each other's way, or in a route's.
pub(super) fn conflicts(apps: &[(App, Place)], routes: &[Placed], problems: &mut Problems) {
    let handed =
        || apps.iter().filter_map(|(app, place)| Some((app.handoff.as_ref()?, app, place)));
    for (index, (listener, app, place)) in handed().enumerate() {
        if let Some((_, other, also)) = handed().take(index).find(|(taken, ..)| *taken == listener)
        {
            let title = format!("{} and {} want the listener {listener:?}", other.name, app.name);
            problems.push(
                Problem::error(place, title, "").also(also, "the other app").help(
                    "a listener has one app: write `listener = \"…\"` and a socket unit for it",
                ),
            );
        }
        for placed in routes {
            let target = RouteTarget::App(app.name.clone());
            if route::targets(&placed.route.target).any(|to| *to == target) {
                let title = format!("no requests can be sent to {target}");
                problems.push(
                    Problem::error(&placed.place, title, "")
                        .also(place, "has mode = \"handoff\": it gets whole connections")
                        .help("leave the route out, or `mode` in the app's file"),
                );
            }
        }
    }
}
