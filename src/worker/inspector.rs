//! The inspector's port: each worker of an app has one of its own, as under Node's own primary.

use std::ffi::OsStr;

use super::command::is_interpreter;
use super::environment::Environment;

/// Options that turn it on.
const ON: [&str; 3] = ["--inspect", "--inspect-brk", "--inspect-wait"];

/// Options that only say where.
const WHERE: [&str; 2] = ["--inspect-port", "--debug-port"];

/// Node's options whose value may be the next word. (Those of the inspector that may, too, are above.)
const WITH_VALUE: [&str; 9] = [
    "-r",
    "--require",
    "--import",
    "--loader",
    "--experimental-loader",
    "-C",
    "--conditions",
    "--title",
    "--icu-data-dir",
];

const DEFAULT_PORT: u16 = 9229;

/// Where the inspector listens: a host if one is given, and a port.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    on: bool,
    host: Option<String>,
    port: Option<u16>,
}

/// The option that gives worker `number` an inspector of its own, if these words ask for one; and before which
/// of them it belongs.
fn option<'a>(words: impl Iterator<Item = &'a str>, number: u16) -> (usize, Option<String>) {
    let mut place = Place::default();
    let (mut end, mut words) = (0, words.peekable());
    while let Some(word) =
        words.next_if(|word| word.starts_with('-') && *word != "--" && *word != "-")
    {
        end += 1;
        let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
        let takes_next = value.is_none() && (WITH_VALUE.contains(&name) || WHERE.contains(&name));
        let value = if takes_next { words.next() } else { value };
        end += usize::from(takes_next && value.is_some());
        if ON.contains(&name) || WHERE.contains(&name) {
            place.take(ON.contains(&name), value);
        }
    }
    (end, place.option(number))
}

/// Gives worker `number` an inspector of its own, if its command or its environment asks for one.
pub(super) fn apart(command: &mut Vec<String>, environment: &mut Environment, number: u16) {
    if command.first().is_some_and(|program| is_interpreter(program)) {
        in_command(command, number);
    }
    let name = OsStr::new("NODE_OPTIONS");
    let given = environment.get(name).and_then(|options| options.to_str());
    if let Some(own) = given.and_then(|options| in_variable(options, number)) {
        environment.insert(name.to_owned(), own.into());
    }
}

fn in_command(command: &mut Vec<String>, number: u16) {
    let (end, option) = option(command.iter().skip(1).map(String::as_str), number);
    if let Some(option) = option {
        command.insert(1 + end, option);
    }
}

fn in_variable(options: &str, number: u16) -> Option<String> {
    let (_, option) = option(options.split_ascii_whitespace(), number);
    Some(format!("{options} {}", option?))
}

impl Place {
    fn take(&mut self, on: bool, value: Option<&str>) {
        self.on |= on;
        let Some(value) = value else { return };
        match value.rsplit_once(':') {
            _ if value.bytes().all(|byte| byte.is_ascii_digit()) => self.port = value.parse().ok(),
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.host = Some(host.to_owned());
                self.port = port.parse().ok();
            }
            _ => self.host = Some(value.to_owned()),
        }
    }

    /// Any port is one of its own already.
    fn option(self, number: u16) -> Option<String> {
        let port = self.port.unwrap_or(DEFAULT_PORT);
        let own = port.checked_add(number.saturating_sub(1))?;
        let host = self.host.map(|host| format!("{host}:")).unwrap_or_default();
        (self.on && port != 0 && own != port).then(|| format!("--inspect-port={host}{own}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str, number: u16) -> String {
        let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        in_command(&mut words, number);
        words.join(" ")
    }

    #[test]
    fn each_worker_has_a_port_of_its_own() {
        for (given, third) in [
            ("node --inspect a.js", "node --inspect --inspect-port=9231 a.js"),
            ("node --inspect=9300 a.js", "node --inspect=9300 --inspect-port=9302 a.js"),
            (
                "node --inspect-brk=0.0.0.0:80 -r x a.js",
                "node --inspect-brk=0.0.0.0:80 -r x --inspect-port=0.0.0.0:82 a.js",
            ),
            (
                "node --inspect=[::1]:80 a.js",
                "node --inspect=[::1]:80 --inspect-port=[::1]:82 a.js",
            ),
            ("node --inspect=[::1] a.js", "node --inspect=[::1] --inspect-port=[::1]:9231 a.js"),
            (
                "node --inspect --inspect-port 80 a.js",
                "node --inspect --inspect-port 80 --inspect-port=82 a.js",
            ),
        ] {
            assert_eq!(command(given, 3), third);
            assert_eq!(command(given, 1), given, "the first one where it was asked for");
        }
    }

    #[test]
    fn node_is_asked_in_its_command_and_in_its_environment() {
        let given = |program: &str| {
            let mut command = [program, "--inspect", "a.js"].map(str::to_owned).to_vec();
            let mut environment = Environment::new();
            environment.insert("NODE_OPTIONS".into(), "--inspect=9300".into());
            apart(&mut command, &mut environment, 2);
            (command.join(" "), environment[OsStr::new("NODE_OPTIONS")].clone())
        };
        let options = std::ffi::OsString::from("--inspect=9300 --inspect-port=9301");
        let node = "node --inspect --inspect-port=9230 a.js";
        assert_eq!(given("node"), (node.to_owned(), options.clone()));
        assert_eq!(given("sh"), ("sh --inspect a.js".to_owned(), options));
    }

    #[test]
    fn who_asks_for_none_gets_none() {
        for other in [
            "node a.js --inspect",
            "node -r --inspect a.js",
            "node --inspect=0 a.js",
            "node --inspect-port=80 a.js",
            "node --inspect-publish-uid=http a.js",
            "node -- --inspect",
            "node --inspect=65535 a.js",
            "node",
        ] {
            assert_eq!(command(other, 3), other);
        }
    }

    #[test]
    fn the_variable_is_read_as_the_command_is() {
        let third = in_variable("--max-old-space-size=100 --inspect", 3);
        assert_eq!(
            third.as_deref(),
            Some("--max-old-space-size=100 --inspect --inspect-port=9231")
        );
        assert_eq!(in_variable("--max-old-space-size=100", 3), None);
    }
}
