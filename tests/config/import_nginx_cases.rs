//! nginx's configurations as people write them, with what the real nginx answered
//! (`tests/data/cases/nginx`): what `roundsman import` makes and says of each is in its `expected`, with
//! every request that another server answers now. `BLESS=1` writes what it is now.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use roundsman::config::settings::{RouteTarget, Settings};
use roundsman::config::{self, Sources};
use roundsman::front::Router;
use roundsman::import::{Import, nginx};
use serde_json::Value;

/// A case, and what the importer made of it.
struct Case {
    directory: PathBuf,
    asked: Value,
    import: Import,
    settings: Settings,
}

/// Who answers a request.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The server at this address.
    Server(String),
    /// A status.
    Status(u64),
    /// Nothing: the connection is closed.
    Nothing,
}

fn cases() -> Vec<Case> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cases/nginx");
    let mut directories: Vec<PathBuf> =
        std::fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    assert!(directories.len() >= 20, "the cases are there");
    directories.into_iter().map(Case::of).collect()
}

impl Case {
    fn of(directory: PathBuf) -> Self {
        let text = std::fs::read_to_string(directory.join("expect.json")).unwrap();
        let import = nginx::import(&directory.join("nginx.conf"), Path::new("/nowhere")).unwrap();
        let to = tempfile::tempdir().unwrap();
        for file in &import.files {
            let path = to.path().join(&file.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &file.text).unwrap();
        }
        let loaded = config::load(&Sources::directory(to.path()));
        assert_eq!(loaded.problems.errors(), 0, "{}", loaded.problems.render(false));
        Self {
            directory,
            asked: serde_json::from_str(&text).unwrap(),
            import,
            settings: loaded.settings,
        }
    }

    /// The requests over HTTP.
    fn requests(&self) -> impl Iterator<Item = &Value> {
        let all = self.asked["requests"].as_array().unwrap().iter();
        all.filter(|request| request["send"].is_null() && request["answer"]["alpn"].is_null())
    }

    /// Who answered in nginx: of several who were asked the last one.
    fn in_nginx(&self, request: &Value) -> Answer {
        let answer = &request["answer"];
        let sequence = answer["sequence"].as_array().and_then(|all| all.first());
        let (status, server) = if let Some(first) = sequence {
            (&first[0], &first[1])
        } else {
            let last = answer["upstreams"].as_array().and_then(|all| all.last());
            (&answer["status"], last.map_or(&Value::Null, |last| &last["backend"]))
        };
        let backends = self.asked["backends"].as_object().unwrap();
        let name = |backend: &Value| {
            backend
                .as_str()
                .map(str::to_owned)
                .or_else(|| backend["name"].as_str().map(str::to_owned))
        };
        match (server.as_str(), status.as_u64()) {
            (Some(server), _) => {
                let (address, _) = backends
                    .iter()
                    .find(|(_, backend)| name(backend).as_deref() == Some(server))
                    .unwrap();
                Answer::Server(address.clone())
            }
            (None, Some(status)) => Answer::Status(status),
            (None, None) => Answer::Nothing,
        }
    }

    /// Who would answer here: one of these.
    fn here(&self, request: &Value) -> Vec<Answer> {
        let host = request["host"].as_str().unwrap_or_default();
        let path = request["path"].as_str().unwrap();
        let router = Router::new(&self.settings.routes);
        let host = host.split(':').next().unwrap();
        let Some(number) = router.find(host.as_bytes(), path.as_bytes()) else {
            return vec![Answer::Status(404)];
        };
        let route = &self.settings.routes[number];
        if route.https.redirect && request["tls"].is_null() {
            return vec![Answer::Status(301)];
        }
        let RouteTarget::Upstream(name) = &route.target else { panic!("{route:?}") };
        let upstream = &self.settings.upstreams[name];
        let open = upstream.servers.iter().filter(|server| !server.options.down);
        let mut addresses: Vec<String> = open.map(|server| server.address.to_string()).collect();
        addresses.extend(upstream.names.iter().map(|named| named.name.to_string()));
        let short = |address: String| match address.rsplit_once(':') {
            Some((_, port)) if !address.starts_with("unix:") => port.to_owned(),
            _ => address,
        };
        if addresses.is_empty() {
            return vec![Answer::Status(503)];
        }
        addresses.into_iter().map(short).map(Answer::Server).collect()
    }

    /// All that the importer made and said, and whoever answers otherwise.
    fn all(&self) -> String {
        let mut text = String::new();
        for file in &self.import.files {
            // Certificates are where this checkout is.
            let own = file.text.replace(self.directory.to_str().unwrap(), "DIR");
            let _ = writeln!(text, "# {}\n{own}", file.path);
        }
        for note in &self.import.notes {
            let _ = writeln!(text, "{}: {}: {}", note.severity.word(), note.at, note.text);
        }
        for note in &self.import.unprotected {
            let _ = writeln!(text, "NOT PROTECTED: {}: {}", note.at, note.text);
        }
        let _ = writeln!(text, "carried over: {:?}\n", self.import.carried());
        for request in self.requests() {
            let (nginx, here) = (self.in_nginx(request), self.here(request));
            if !here.contains(&nginx) {
                let _ = writeln!(text, "{}: {nginx:?} in nginx, {:?} here", request["name"], here);
            }
        }
        text
    }
}

#[test]
fn what_nginx_turns_away_no_server_answers() {
    let mut turned_away = 0;
    for case in cases() {
        for request in case.requests().filter(|request| request["protective"] == true) {
            turned_away += 1;
            let here = case.here(request);
            let is_closed = here.iter().all(|answer| matches!(answer, Answer::Status(_)));
            let stops = !case.import.unprotected.is_empty();
            assert!(is_closed || stops, "{}: {request}: {here:?}", case.directory.display());
        }
    }
    assert!(turned_away >= 10, "{turned_away}");
}

#[test]
fn every_difference_is_known() {
    let mut wrong = Vec::new();
    for case in cases() {
        let (file, all) = (case.directory.join("expected"), case.all());
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &all).unwrap();
        }
        if std::fs::read_to_string(&file).unwrap_or_default() != all {
            wrong.push(format!("{}:\n{all}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 accepts this:\n{}", wrong.join("\n"));
}
