//! Routes: those of apps and upstreams, those of `routes/*.toml`, and how they go together.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostic::{Place, Problem, Problems};
use super::fragment::{Node, Table};
use super::input::{Input, Read, array, boolean, integer, long_duration, string};
use super::settings::{HostPattern, Https, Route, RouteTarget, Share, Split, SplitKey};
use super::{net, schema, sharing};
use crate::base::nearest::nearest;
use crate::base::unit;

/// What a file of an app or upstream says about its routes; `None` when it says nothing.
pub(super) type OwnRoutes = Option<Vec<(Matching, Place)>>;

/// Which requests a route is for, and how they must come.
pub(super) type Matching = (HostPattern, String, Https);

/// A route, and where it was written.
pub(super) struct Placed {
    pub(super) route: Route,
    pub(super) place: Place,
}

/// `route =` of an app or upstream.
pub(super) fn own(top: Input<'_>, problems: &mut Problems) -> OwnRoutes {
    let nodes = array(top.node("route")?, problems)?;
    let one = |node| {
        let section = Input::of_node(node, &[&schema::OWN_ROUTE], problems)?;
        Some((matching(section, problems), node.place.clone()))
    };
    Some(nodes.iter().filter_map(one).collect())
}

/// A file in `routes/`.
pub(super) fn read(table: &Table, place: &Place, problems: &mut Problems) -> Vec<Placed> {
    let top = Input::new(table, place, &[&schema::ROUTES], problems);
    let example = "[{ host = \"shop.example.com\", to = \"app:shop\" }]";
    let nodes = top.required("route", example, problems, array).unwrap_or_default();
    let one = |node| {
        let section = Input::of_node(node, &[&schema::ROUTE], problems)?;
        let (host, path, https) = matching(section, problems);
        let target = target_or_split(section, problems)?;
        Some(Placed { route: Route { host, path, https, target }, place: node.place.clone() })
    };
    nodes.iter().filter_map(one).collect()
}

fn matching(section: Input<'_>, problems: &mut Problems) -> Matching {
    let host = section.get("host", HostPattern::Any, problems, net::host_pattern);
    let https = Https {
        redirect: section.get("redirect-https", false, problems, boolean),
        hsts: section.optional("hsts", problems, long_duration),
        hsts_subdomains: section.get("hsts-subdomains", false, problems, boolean),
    };
    if https.hsts_subdomains
        && let (Some(node), None) = (section.node("hsts-subdomains"), section.node("hsts"))
    {
        problems.error(&node.place, "it is not said for how long", "", "add `hsts = \"365d\"`");
    }
    (host, section.get("path", "/".to_owned(), problems, net::path_prefix), https)
}

fn target_or_split(section: Input<'_>, problems: &mut Problems) -> Read<RouteTarget> {
    let by = section.get("by", SplitKey::default(), problems, sharing::split_key);
    match (section.node("to"), section.node("split")) {
        (Some(to), None) => {
            if let Some(by) = section.node("by") {
                let help = "leave it out, or write `split` instead of `to`";
                problems.error(&by.place, "`by` means something only with `split`", "", help);
            }
            target(to, problems)
        }
        (None, Some(split)) => {
            shares(split, problems).map(|shares| RouteTarget::Split(Split { by, shares }))
        }
        (Some(_), Some(split)) => {
            problems.error(
                &split.place,
                "`to` and `split` exclude each other",
                "",
                "leave one of them out",
            );
            None
        }
        (None, None) => {
            let help =
                "write `to = \"app:NAME\"` or `split = [{ to = \"app:NAME\", share = 1 }, …]`";
            problems.error(section.place(), "it is not said who answers", "", help);
            None
        }
    }
}

fn shares(node: &Node, problems: &mut Problems) -> Read<Vec<Share>> {
    let before = problems.errors();
    let mut shares: Vec<Share> = Vec::new();
    for part in array(node, problems)? {
        let Some(section) = Input::of_node(part, &[&schema::SHARE], problems) else { continue };
        let share = section.required("share", "50", problems, integer(0..=1_000_000_u32));
        let to = section.required("to", "\"app:shop\"", problems, target);
        if let (Some(to), Some(share)) = (to, share) {
            if shares.iter().any(|s| s.to == to) {
                problems.error(&part.place, format!("{to} has two shares"), "", "add them up");
            }
            shares.push(Share { to, share });
        }
    }
    if problems.errors() > before {
        return None;
    }
    if shares.iter().all(|share| share.share == 0) {
        problems.error(&node.place, "nobody has a share", "", "give one part a share above 0");
        return None;
    }
    Some(shares)
}

fn target(node: &Node, problems: &mut Problems) -> Read<RouteTarget> {
    let text = string(node, problems)?;
    match text.split_once(':') {
        Some(("app", name)) if unit::name_fault(name).is_none() => {
            Some(RouteTarget::App(name.to_owned()))
        }
        Some(("upstream", name)) if unit::name_fault(name).is_none() => {
            Some(RouteTarget::Upstream(name.to_owned()))
        }
        _ => {
            let help = "write \"app:NAME\" or \"upstream:NAME\"";
            problems.error(&node.place, format!("`{text}` is nobody who could answer"), "", help);
            None
        }
    }
}

/// The names that targets may have; files with errors count, so that one error stays one error.
pub(super) struct Names<'a> {
    pub(super) apps: &'a BTreeSet<&'a str>,
    pub(super) upstreams: &'a BTreeSet<&'a str>,
}

/// Checks all routes together; gives those that are right, in the order in which they came.
pub(super) fn resolve(
    routes: Vec<Placed>,
    names: &Names<'_>,
    problems: &mut Problems,
) -> Vec<Route> {
    let mut seen: BTreeMap<(HostPattern, String), Place> = BTreeMap::new();
    let mut right = Vec::new();
    for Placed { route, place } in routes {
        if !targets(&route.target).all(|target| known(target, &place, names, problems)) {
            continue;
        }
        let key = (route.host.clone(), route.path.clone());
        if let Some(first) = seen.get(&key) {
            let what = describe(&route);
            problems.push(
                Problem::error(&place, format!("two routes are for {what}"), "the same again")
                    .also(first, "first here")
                    .help("give one of them another `host` or `path`; without `route` a file is for every host"),
            );
            continue;
        }
        seen.insert(key, place);
        right.push(route);
    }
    right
}

/// Everybody who may answer.
pub(super) fn targets(target: &RouteTarget) -> Box<dyn Iterator<Item = &RouteTarget> + '_> {
    match target {
        RouteTarget::Split(split) => Box::new(split.shares.iter().map(|share| &share.to)),
        one => Box::new(std::iter::once(one)),
    }
}

fn known(target: &RouteTarget, place: &Place, names: &Names<'_>, problems: &mut Problems) -> bool {
    let (names, name, directory) = match target {
        RouteTarget::App(name) => (names.apps, name, "apps"),
        RouteTarget::Upstream(name) => (names.upstreams, name, "upstreams"),
        RouteTarget::Split(_) => return true, // the parser nests none
    };
    if names.contains(name.as_str()) {
        return true;
    }
    let problem = Problem::error(place, format!("there is no {target}"), "sent to it here");
    problems.push(match nearest(name, names.iter().copied()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help(format!("write {directory}/{name}.toml, or correct the name")),
    });
    false
}

fn describe(route: &Route) -> String {
    match &route.host {
        HostPattern::Exact(host) => format!("{host}{}", route.path),
        HostPattern::Wildcard(host) => format!("*.{host}{}", route.path),
        HostPattern::Any => format!("every host and {}", route.path),
    }
}
