//! From files to settings, with everything that is wrong on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{File, Place, Problem, Problems, Severity};
use super::fragment::{self, Table};
use super::networks::{self, Networks};
use super::route::{Names, OwnRoutes, Placed};
use super::settings::{App, Front, HostPattern, Https, Route, RouteTarget, Settings, Upstream};
use super::source::{Files, Found, Sources};
use super::{app, background, borrowed, front, handoff, route, upstream};
use crate::base::unit;

/// What the files say, and what is wrong with them.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings of everything that is right. A file with an error is left out as a whole; a
    /// route that contradicts another is left out alone.
    pub settings: Settings,
    /// Everything that is wrong.
    pub problems: Problems,
    /// Every file that was read, by its path below the configuration directory, so that a copy of
    /// them in one directory is the same configuration.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Where each of them is.
    pub paths: Vec<PathBuf>,
    /// The main file of each app, by the app's name, as it was read.
    pub app_files: BTreeMap<String, PathBuf>,
    /// The names of all apps, also of those whose files cannot be used.
    pub app_names: BTreeSet<String>,
    /// Whether `roundsman.toml` is right, or not there.
    pub front_is_right: bool,
    /// What `workers = "auto"` means.
    pub cores: usize,
    /// The networks of all of `app_names`.
    pub(crate) networks: Networks,
}

/// Reads the configuration.
pub fn load(sources: &Sources) -> Loaded {
    let mut problems = Problems::default();
    let files = sources.read(&mut problems);
    let cores = sources.cores();
    let mut state = Loading { files: &files, problems, routes: Vec::new(), implicit: Vec::new() };
    let before = state.problems.errors();
    let front = state.front();
    let front_is_right = state.problems.errors() == before
        && !files.broken.iter().any(|path| {
            path.starts_with("roundsman.toml.d") || path == Path::new("roundsman.toml")
        });
    let apps = state.apps(cores);
    let upstreams = state.upstreams();
    state.route_files();
    state.lost_drop_ins();
    let Loading { mut problems, routes, implicit, .. } = state;
    let mut settings = Settings { front, upstreams, ..Settings::default() };
    let app_names: BTreeSet<&str> =
        names(&files, "apps").into_iter().map(|(name, _)| name).collect();
    let networks = networks::assign(&app_names, &sources.networks());
    let apps = settle(apps, &networks, &mut problems);
    finish(&files, &mut settings, apps, routes, implicit, &mut problems);
    problems.sort();
    let copy = |found: &Found| (found.relative.clone(), found.file.text.clone().into_bytes());
    let app_file = |found: &Found| {
        let is_app = found.relative.parent() == Some(Path::new("apps"));
        let name = is_app.then(|| found.relative.file_stem()?.to_str())??;
        Some((name.to_owned(), found.file.path.clone()))
    };
    Loaded {
        settings,
        problems,
        files: files.found.iter().map(copy).collect(),
        paths: files.found.iter().map(|found| found.file.path.clone()).collect(),
        app_files: files.found.iter().filter_map(app_file).collect(),
        app_names: app_names.into_iter().map(str::to_owned).collect(),
        front_is_right,
        cores,
        networks,
    }
}

// === impl Loaded ===

impl Loaded {
    /// The settings if there is no error; warnings are lost, see [`Loaded::problems`].
    pub fn strict(self) -> Result<Settings, Problems> {
        if self.problems.errors() == 0 { Ok(self.settings) } else { Err(self.problems) }
    }
}

/// What has been read so far.
struct Loading<'a> {
    files: &'a Files,
    problems: Problems,
    routes: Vec<Placed>,
    /// Apps and upstreams that say nothing about routes.
    implicit: Vec<(RouteTarget, Place)>,
}

/// One thing that is configured: its main file, and the drop-ins over it.
struct Unit<'a> {
    name: &'a str,
    table: Table,
    place: Place,
}

// === impl Loading ===

impl<'a> Loading<'a> {
    fn front(&mut self) -> Front {
        let before = self.problems.errors();
        let main = Path::new("roundsman.toml");
        let Some((table, place)) = self.merged(main) else { return Front::default() };
        let front = front::read(&table, &place, &mut self.problems);
        if self.problems.errors() == before { front } else { Front::default() }
    }

    fn apps(&mut self, cores: usize) -> Vec<(App, Place)> {
        let mut apps = Vec::new();
        for unit in self.units("apps") {
            let before = self.problems.errors();
            let (app, routes) =
                app::read(unit.name, &unit.table, &unit.place, cores, &mut self.problems);
            if self.problems.errors() == before {
                if app.has_address() {
                    self.own_routes(RouteTarget::App(app.name.clone()), routes, &unit.place);
                }
                apps.push((app, unit.place));
            }
        }
        apps
    }

    fn upstreams(&mut self) -> BTreeMap<String, Upstream> {
        let mut upstreams = BTreeMap::new();
        for unit in self.units("upstreams") {
            let before = self.problems.errors();
            let (upstream, routes) =
                upstream::read(unit.name, &unit.table, &unit.place, &mut self.problems);
            if self.problems.errors() == before {
                self.own_routes(RouteTarget::Upstream(upstream.name.clone()), routes, &unit.place);
                upstreams.insert(upstream.name.clone(), upstream);
            }
        }
        upstreams
    }

    fn route_files(&mut self) {
        for unit in self.units("routes") {
            let before = self.problems.errors();
            let routes = route::read(&unit.table, &unit.place, &mut self.problems);
            if self.problems.errors() == before {
                self.routes.extend(routes);
            }
        }
    }

    /// Drop-ins without a file that they could be laid over.
    fn lost_drop_ins(&mut self) {
        let there = |path: &Path| {
            let files = self.files.found.iter().map(|found| &found.relative);
            files.chain(&self.files.broken).chain(&self.files.masked).any(|p| p == path)
        };
        for found in &self.files.found {
            let directory = found.relative.parent().filter(|d| d.extension() == Some("d".as_ref()));
            let Some(main) = directory.map(|d| d.with_extension("")) else { continue };
            if main != Path::new("roundsman.toml") && !there(&main) {
                let title = format!("there is no {} that this could change", main.display());
                self.problems.push(
                    Problem::file(Severity::Warning, &found.file.path, title)
                        .help("remove it, or correct the name of its directory"),
                );
            }
        }
    }

    fn own_routes(&mut self, target: RouteTarget, routes: OwnRoutes, place: &Place) {
        match routes {
            None => self.implicit.push((target, place.clone())),
            Some(routes) => {
                for ((host, path, https), place) in routes {
                    let route = Route { host, path, https, target: target.clone() };
                    self.routes.push(Placed { route, place });
                }
            }
        }
    }

    /// Everything of one directory that is TOML and well named.
    fn units(&mut self, directory: &str) -> Vec<Unit<'a>> {
        let mut units = Vec::new();
        for (name, path) in names(self.files, directory) {
            if directory != "routes"
                && let Some(fault) = unit::name_fault(name)
            {
                let found = self.files.found.iter().find(|f| f.relative == path);
                let path = found.map_or(path.as_path(), |f| f.file.path.as_path());
                let title = format!("`{name}` cannot be a name: {fault}");
                self.problems.push(
                    Problem::file(Severity::Error, path, title).help("give the file another name"),
                );
                continue;
            }
            if let Some((table, place)) = self.merged(&path) {
                units.push(Unit { name, table, place });
            }
        }
        units
    }

    /// A main file with its drop-ins over it; `None` if one of them cannot be used, or if there
    /// is none of them at all.
    fn merged(&mut self, main: &Path) -> Option<(Table, Place)> {
        let mut directory = main.as_os_str().to_owned();
        directory.push(".d");
        let is_drop_in = |path: &Path| path.parent() == Some(Path::new(&directory));
        let broken = self.files.broken.iter().any(|path| path == main || is_drop_in(path));
        let mut merged: Option<(Table, Place)> = None;
        let mut right = !broken;
        let mut lay = |file: &Arc<File>, problems: &mut Problems| match (
            fragment::parse(file, problems),
            &mut merged,
        ) {
            (None, _) => right = false,
            (Some(table), Some((under, _))) => under.merge(table),
            (Some(table), none) => *none = Some((table, top_of(file))),
        };
        // Sorted by path: the drop-ins come after the main file, in the order of their names.
        let found = &self.files.found;
        for found in found.iter().filter(|f| f.relative == main) {
            lay(&found.file, &mut self.problems);
        }
        for found in found.iter().filter(|f| is_drop_in(&f.relative)) {
            lay(&found.file, &mut self.problems);
        }
        merged.filter(|_| right)
    }
}

/// The first line: where problems with a file as a whole are shown.
fn top_of(file: &Arc<File>) -> Place {
    let end = file.text.find(['\n', '\r']).unwrap_or(file.text.len());
    Place::new(file, 0..end)
}

/// The names in a directory, whether or not their files can be used, with the main files' paths.
fn names<'a>(files: &'a Files, directory: &str) -> Vec<(&'a str, PathBuf)> {
    let found = files.found.iter().map(|found| &found.relative).chain(&files.broken);
    found
        .filter(|path| path.parent() == Some(Path::new(directory)))
        .filter_map(|path| Some((path.file_stem()?.to_str()?, path.clone())))
        .collect()
}

/// The apps, each in its network.
fn settle(
    apps: Vec<(App, Place)>,
    networks: &Networks,
    problems: &mut Problems,
) -> Vec<(App, Place)> {
    let mut settled = Vec::new();
    for (mut app, place) in apps {
        match networks.get(&app.name) {
            Some(slot) => {
                app.slot = *slot;
                settled.push((app, place));
            }
            None => problems.push(Problem::error(
                &place,
                "there are more apps than loopback networks",
                "",
            )),
        }
    }
    settled
}

/// What needs all files at once.
fn finish(
    files: &Files,
    settings: &mut Settings,
    apps: Vec<(App, Place)>,
    mut routes: Vec<Placed>,
    implicit: Vec<(RouteTarget, Place)>,
    problems: &mut Problems,
) {
    let app_files = names(files, "apps");
    let upstream_files = names(files, "upstreams");
    let app_names: BTreeSet<&str> = app_files.iter().map(|(name, _)| *name).collect();
    let upstream_names: BTreeSet<&str> = upstream_files.iter().map(|(name, _)| *name).collect();

    ports(&apps, problems);
    handoff::conflicts(&apps, &routes, problems);
    background::conflicts(&apps, &routes, problems);
    borrowed::conflicts(&apps, problems);
    settings.apps = apps.into_iter().map(|(app, _)| (app.name.clone(), app)).collect();

    for (target, place) in implicit {
        if !routes.iter().any(|r| route::targets(&r.route.target).any(|t| *t == target)) {
            let (path, https) = ("/".to_owned(), Https::default());
            let route = Route { host: HostPattern::Any, path, https, target };
            routes.push(Placed { route, place });
        }
    }
    let names = Names { apps: &app_names, upstreams: &upstream_names };
    let routes = route::resolve(routes, &names, problems);
    settings.routes = routes
        .into_iter()
        .filter(|route| {
            route::targets(&route.target).all(|target| match target {
                RouteTarget::App(name) => settings.apps.contains_key(name),
                RouteTarget::Upstream(name) => settings.upstreams.contains_key(name),
                RouteTarget::Split(_) => true,
            })
        })
        .collect();
}

/// Workers that bind ports of the machine must not want the same ones.
fn ports(apps: &[(App, Place)], problems: &mut Problems) {
    let mut taken: Vec<(u16, u16, &App, &Place)> = Vec::new();
    for (app, place) in apps {
        let Some(first) = app.port else { continue };
        let last = first.saturating_add(app.workers - 1);
        if let Some((_, _, other, other_place)) =
            taken.iter().find(|(low, high, ..)| first <= *high && *low <= last)
        {
            problems.push(
                Problem::error(
                    place,
                    format!("{} and {} want the same ports", other.name, app.name),
                    format!("{first} to {last}"),
                )
                .also(other_place, "the other app")
                .help("change `port` of one of them; each worker needs one port"),
            );
        }
        taken.push((first, last, app, place));
    }
}
