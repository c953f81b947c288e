//! What members may ask for: the verbs, their options with bounds, and the command of root's that
//! each stands for. Nothing here names a file, a command, a user or a time without bound.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::unit::name_fault;

/// The longest line that can be a request.
pub(crate) const MOST: usize = 4096;

/// The longest that a member can have a worker watched before it is believed, in seconds; a deploy
/// holds up every other change of the app.
const LONGEST_SETTLE: u16 = 600;

/// As many workers as an app can have.
const WORKERS: std::ops::RangeInclusive<u16> = 1..=250;

/// One line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Request {
    /// The app; it must be configured.
    pub app: String,
    /// What is to be done with it.
    pub verb: Verb,
    /// Whether the result is wanted as JSON.
    pub json: bool,
}

/// Everything that members may have done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Verb {
    /// `roundsman start APP`.
    Start,
    /// `roundsman stop APP[:N]`.
    Stop(Option<u16>),
    /// `roundsman restart APP[:N]`.
    Restart(Option<u16>),
    /// `roundsman reload APP`.
    Reload(Deploy),
    /// `roundsman rollback APP`, to this release where one is named.
    Rollback(Option<PathBuf>, Deploy),
    /// `roundsman scale APP N`.
    Scale(Count),
}

/// How a deploy goes about it: the options of `roundsman reload`, which documents them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Deploy {
    pub batch: Option<u16>,
    pub surge: Option<u16>,
    pub settle: Option<u16>,
    pub resume: bool,
    pub worker: Vec<u16>,
    pub wait: bool,
}

/// A number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Count {
    /// This many.
    To(u16),
    /// So many more, or fewer.
    By(i32),
}

/// Why a line is no request that anybody may make.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Not what a client sends.
    #[error("this is no request: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The name cannot be an app's.
    #[error("there is no such app: {0}")]
    Name(&'static str),
    /// A number out of its bounds.
    #[error("{0}")]
    Bounds(String),
    /// The release is no path that could be one.
    #[error("the release must be given as an absolute path, without a NUL byte")]
    Release,
}

// === impl Request ===

impl Request {
    /// Reads a line, and checks all that can be checked without looking at the machine.
    ///
    /// # Errors
    /// When it is not a request that a member may make.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, Refusal> {
        let request: Self = serde_json::from_slice(line)?;
        if let Some(fault) = name_fault(&request.app) {
            return Err(Refusal::Name(fault));
        }
        let deploy = match &request.verb {
            Verb::Stop(Some(worker)) | Verb::Restart(Some(worker)) => {
                within("a worker's number", *worker, WORKERS)?;
                None
            }
            Verb::Scale(Count::To(number)) => {
                within("a number of workers", *number, WORKERS)?;
                None
            }
            Verb::Scale(Count::By(change)) => {
                let change = u16::try_from(change.unsigned_abs()).unwrap_or(u16::MAX);
                within("a change of the number of workers", change, 0..=250)?;
                None
            }
            Verb::Rollback(Some(to), _) if !can_be_argument(to) => return Err(Refusal::Release),
            Verb::Reload(deploy) | Verb::Rollback(_, deploy) => Some(deploy),
            Verb::Start | Verb::Stop(None) | Verb::Restart(None) => None,
        };
        if let Some(deploy) = deploy {
            deploy.check()?;
        }
        Ok(request)
    }

    /// The line.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default(); // it has no map but structs
        line.push(b'\n');
        line
    }

    /// What root would type behind `roundsman`.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let app = &self.app;
        let of = |worker: &Option<u16>| match worker {
            Some(number) => format!("{app}:{number}"),
            None => app.clone(),
        };
        let mut words: Vec<String> = match &self.verb {
            Verb::Start => vec!["start".into(), "--for-member".into(), app.clone()],
            Verb::Stop(worker) => vec!["stop".into(), of(worker)],
            Verb::Restart(worker) => vec!["restart".into(), of(worker)],
            Verb::Reload(_) => vec!["reload".into(), app.clone()],
            Verb::Rollback(to, _) => {
                let to = to.as_ref().map(|to| format!("--to={}", to.display()));
                let words = ["rollback".into(), "--for-member".into(), app.clone()];
                words.into_iter().chain(to).collect()
            }
            Verb::Scale(count) => vec!["scale".into(), app.clone(), count.to_string()],
        };
        if let Verb::Reload(deploy) | Verb::Rollback(_, deploy) = &self.verb {
            words.extend(deploy.arguments());
        }
        if self.json {
            words.push("--json".into());
        }
        words
    }
}

// === impl Deploy ===

impl Deploy {
    fn check(&self) -> Result<(), Refusal> {
        if let Some(batch) = self.batch {
            within("--batch", batch, WORKERS)?;
        }
        if let Some(surge) = self.surge {
            within("--surge", surge, 0..=50)?;
        }
        if let Some(settle) = self.settle {
            within("--settle", settle, 0..=LONGEST_SETTLE)?;
        }
        if self.worker.len() > usize::from(*WORKERS.end()) {
            return Err(Refusal::Bounds("an app has at most 250 workers".to_owned()));
        }
        self.worker.iter().try_for_each(|worker| within("--worker", *worker, WORKERS))
    }

    fn arguments(&self) -> Vec<String> {
        let numbers = [("batch", self.batch), ("surge", self.surge), ("settle", self.settle)];
        let numbers = numbers.iter().filter_map(|(name, number)| Some((*name, (*number)?)));
        let workers = self.worker.iter().map(|worker| ("worker", *worker));
        let mut words: Vec<String> =
            numbers.chain(workers).map(|(name, number)| format!("--{name}={number}")).collect();
        words.extend(self.resume.then(|| "--resume".to_owned()));
        words.extend(self.wait.then(|| "--wait".to_owned()));
        words
    }
}

/// Whether it is a path that a command can be given.
fn can_be_argument(path: &Path) -> bool {
    path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0)
}

fn within(what: &str, number: u16, bounds: std::ops::RangeInclusive<u16>) -> Result<(), Refusal> {
    if bounds.contains(&number) {
        return Ok(());
    }
    let (from, to) = (bounds.start(), bounds.end());
    Err(Refusal::Bounds(format!("{what} is {from} to {to} for members of the group, not {number}")))
}

// === impl Count ===

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::To(number) => write!(f, "{number}"),
            Self::By(change) => write!(f, "{change:+}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> String {
        Request::parse(line.as_bytes()).unwrap().arguments().join(" ")
    }

    #[test]
    fn each_request_is_one_command_of_roots() {
        let deploy = r#"{"batch":2,"surge":1,"settle":3,"resume":true,"worker":[1,2],"wait":true}"#;
        let none =
            r#"{"batch":null,"surge":null,"settle":null,"resume":false,"worker":[],"wait":false}"#;
        for (verb, expected) in [
            (r#""start""#.to_owned(), "start --for-member shop"),
            (r#"{"stop":null}"#.to_owned(), "stop shop"),
            (r#"{"restart":7}"#.to_owned(), "restart shop:7"),
            (format!(r#"{{"reload":{none}}}"#), "reload shop"),
            (
                format!(r#"{{"reload":{deploy}}}"#),
                "reload shop --batch=2 --surge=1 --settle=3 --worker=1 --worker=2 --resume --wait",
            ),
            (
                format!(r#"{{"rollback":["/srv/shop/releases/1",{none}]}}"#),
                "rollback --for-member shop --to=/srv/shop/releases/1",
            ),
            (r#"{"scale":{"to":6}}"#.to_owned(), "scale shop 6"),
            (r#"{"scale":{"by":2}}"#.to_owned(), "scale shop +2"),
            (r#"{"scale":{"by":-1}}"#.to_owned(), "scale shop -1"),
        ] {
            let line = format!(r#"{{"app":"shop","verb":{verb},"json":false}}"#);
            assert_eq!(words(&line), expected);
            let request = Request::parse(line.as_bytes()).unwrap();
            assert_eq!(Request::parse(request.line().trim_ascii_end()).unwrap(), request);
        }
        assert_eq!(words(r#"{"app":"a","verb":{"stop":null},"json":true}"#), "stop a --json");
    }

    #[test]
    fn nothing_else_can_be_asked_for() {
        let none = serde_json::to_string(&Deploy::default()).unwrap();
        let deploy = |more: &str| {
            let mut deploy = serde_json::to_value(Deploy::default()).unwrap();
            let more: serde_json::Value = serde_json::from_str(more).unwrap();
            deploy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            format!(r#"{{"app":"shop","verb":{{"reload":{deploy}}},"json":false}}"#)
        };
        for wrong in [
            String::new(),
            "{}".to_owned(),
            "[[[[[[".to_owned(),
            r#"{"app":"shop","verb":"delete","json":false}"#.to_owned(),
            r#"{"app":"shop","verb":{"start":"/bin/sh"},"json":false}"#.to_owned(),
            r#"{"app":"shop","verb":"start","json":false,"user":"root"}"#.to_owned(),
            r#"{"app":"shop","verb":"start","json":false,"json":true}"#.to_owned(),
            r#"{"app":"../shop","verb":"start","json":false}"#.to_owned(),
            r#"{"app":"--to=/","verb":"start","json":false}"#.to_owned(),
            r#"{"app":"shop:1","verb":"start","json":false}"#.to_owned(),
            r#"{"app":"shop\u0000","verb":"start","json":false}"#.to_owned(),
            r#"{"app":"","verb":"start","json":false}"#.to_owned(),
            r#"{"app":"shop","verb":{"restart":0},"json":false}"#.to_owned(),
            r#"{"app":"shop","verb":{"restart":251},"json":false}"#.to_owned(),
            r#"{"app":"shop","verb":{"scale":{"to":60000}},"json":false}"#.to_owned(),
            r#"{"app":"shop","verb":{"scale":{"by":-2147483648}},"json":false}"#.to_owned(),
            format!(r#"{{"app":"shop","verb":{{"rollback":["etc",{none}]}},"json":false}}"#),
            // No program can be given that.
            format!(
                r#"{{"app":"shop","verb":{{"rollback":["/srv/x\u0000y",{none}]}},"json":false}}"#
            ),
            deploy(r#"{"admin":"/tmp/x"}"#),
            deploy(r#"{"by-watch":true}"#),
            deploy(r#"{"settle":601}"#),
            deploy(r#"{"surge":51}"#),
            deploy(r#"{"batch":0}"#),
            deploy(r#"{"worker":[0]}"#),
            deploy(&format!(r#"{{"worker":{:?}}}"#, [1; 251])),
        ] {
            assert!(Request::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
        for right in [
            deploy("{}"),
            deploy("{}").replace(r#"{"reload":"#, r#"{"rollback":["/etc","#).replace("}},", "}]},"),
            deploy(r#"{"batch":1,"surge":0,"settle":600}"#),
            deploy(&format!(r#"{{"worker":{:?}}}"#, [250; 250])),
        ] {
            Request::parse(right.as_bytes()).expect(&right);
        }
    }
}
