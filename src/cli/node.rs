//! Which program a command's name stands for: services have a search path of their own, and Node is often
//! installed for one user only.

use std::path::{Path, PathBuf};

use super::failure::{Done, Failure};
use super::manage::say;
use crate::base::nearest;
use crate::base::program::{self, SERVICE_PATH};
use crate::base::text;

/// Programs that may have been meant by a name that is none.
const KNOWN: [&str; 12] = [
    "node", "npm", "npx", "yarn", "pnpm", "bun", "deno", "python3", "gunicorn", "uvicorn", "ruby",
    "php",
];

/// Whether a command's program is Node.
pub(super) fn is_node(program: &str) -> bool {
    Path::new(program).file_name().and_then(|name| name.to_str()).is_some_and(program::is_node)
}

/// The program of this name, as services or the caller find it.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    program::find(name, SERVICE_PATH).or_else(|| of_caller(name))
}

fn of_caller(name: &str) -> Option<PathBuf> {
    program::find(name, std::env::var_os("PATH").unwrap_or_default())
}

/// A program that services do not find by its name alone gets its path: Node from a version
/// manager, for instance. Where they find another one than the caller, that is said.
pub(super) fn resolve(mut command: Vec<String>) -> Done<Vec<String>> {
    let Some(name) = command.first_mut().filter(|name| !name.contains('/')) else {
        return Ok(command);
    };
    let own = of_caller(name);
    let found = program::find(name, SERVICE_PATH);
    if let Some(note) = found.as_deref().zip(own.as_deref()).and_then(|(a, b)| differs(name, a, b))
    {
        say(&note);
    }
    match (found, own) {
        (Some(_), _) => Ok(command),
        (None, Some(own)) => {
            *name = own.display().to_string();
            Ok(command)
        }
        (None, None) => {
            let there = KNOWN.into_iter().filter(|known| find(known).is_some());
            let question = nearest::question(name, there);
            let question =
                if question.is_empty() { ";".to_owned() } else { format!("{question} Or") };
            Err(Failure::new(format!(
                "there is no program \"{name}\"{question} install it, or give its whole path. (sudo has a \
                 search path of its own: sudo env \"PATH=$PATH\" roundsman start … keeps yours.)"
            )))
        }
    }
}

/// What is said where services run another program of this name than the caller's shell.
fn differs(name: &str, services: &Path, own: &Path) -> Option<String> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real(services) == real(own) {
        return None;
    }
    let (services, own) = (text::path(services), text::path(own));
    Some(format!(
        "{name} is {services}, as for all services, and not the {own} of your shell. To have that one: \
         roundsman start … -- {own} FILE"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_node_than_the_shells_is_said_to_be_so() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("node"), directory.path().join("other"));
        std::fs::write(&one, "").unwrap();
        std::os::unix::fs::symlink(&one, &two).unwrap();
        assert_eq!(differs("node", &one, &two), None, "the same in the end");
        let three = directory.path().join("three");
        std::fs::write(&three, "").unwrap();
        let said = differs("node", &one, &three).unwrap();
        assert!(said.contains(&format!("-- {} FILE", three.display())), "{said}");
    }

    #[test]
    fn what_is_not_there_says_how_to_go_on() {
        let failure = resolve(vec!["no-such-program-here".to_owned()]).unwrap_err();
        assert!(failure.message.contains("sudo env"), "{}", failure.message);
        let command = vec!["/srv/x".to_owned()];
        assert_eq!(resolve(command.clone()).unwrap(), command);
    }
}
