//! Servers that are told by options where they listen, and take no `PORT`: what each is told in Roundsman's
//! place of the address that was typed, so that any number of workers runs.

use std::path::Path;

use crate::base::file::{self, Links};
use crate::base::program::base_name;

/// A server, and how it is told where to listen.
#[derive(Debug)]
struct Server {
    /// Its program.
    program: &'static str,
    /// Its own command behind which its options stand, if it has several.
    command: &'static str,
    /// Options with a value that say where to listen; they give way.
    old: &'static [&'static str],
    /// Whether a word without an option may be an address, too.
    bare: bool,
    /// `listen` for it.
    listen: &'static str,
    /// What it is told instead.
    new: &'static [&'static str],
}

const fn server(
    program: &'static str,
    command: &'static str,
    old: &'static [&'static str],
    listen: &'static str,
    new: &'static [&'static str],
) -> Server {
    Server { program, command, old, bare: false, listen, new }
}

/// One whose address needs no option.
const fn bare(
    program: &'static str,
    command: &'static str,
    old: &'static [&'static str],
    new: &'static [&'static str],
) -> Server {
    Server { program, command, old, bare: true, listen: "port", new }
}

/// What a worker finds in its environment.
const VARIABLES: [&str; 2] = ["$HOST", "$PORT"];

const HOST_PORT: &[&str] = &["--host", "$HOST", "--port", "$PORT"];

/// Each is tried in the zoo (tests/machine/zoo/), but for those whose packages it cannot have: `rails`, `artisan`,
/// `streamlit`.
#[rustfmt::skip]
const SERVERS: &[Server] = &[
    server("uvicorn", "", &["--host", "--port", "--fd"], "fd", &["--fd", "3"]),
    server("hypercorn", "", &["--bind", "-b"], "fd", &["--bind", "fd://3"]),
    // With --fd it takes a listener for one of TCP.
    server("daphne", "", &["--bind", "-b", "--port", "-p", "--fd"], "port", &["-b", "$HOST", "-p", "$PORT"]),
    server("granian", "", &["--host", "--port"], "port", HOST_PORT),
    server("sanic", "", &["--host", "-H", "--port", "-p"], "port", HOST_PORT),
    server("waitress-serve", "", &["--listen", "--host", "--port"], "port", &["--listen=$HOST:$PORT"]),
    server("fastapi", "run", &["--host", "--port"], "port", HOST_PORT),
    server("flask", "run", &["--host", "-h", "--port", "-p"], "port", HOST_PORT),
    server("streamlit", "run", &["--server.address", "--server.port"], "port", &["--server.address", "$HOST", "--server.port", "$PORT"]),
    bare("http.server", "", &["--bind", "-b"], &["--bind", "$HOST", "$PORT"]),
    // Its reloader would be a second process between.
    bare("manage.py", "runserver", &[], &["--noreload", "$HOST:$PORT"]),
    bare("php", "-S", &[], &["$HOST:$PORT"]),
    server("artisan", "serve", &["--host", "--port"], "port", HOST_PORT),
    server("deno", "serve", &["--host", "--port"], "port", HOST_PORT),
    server("puma", "", &["--bind", "-b", "--port", "-p"], "port", &["-b", "tcp://$HOST:$PORT"]),
    server("rackup", "", &["--host", "-o", "--port", "-p"], "port", &["-o", "$HOST", "-p", "$PORT"]),
    server("rails", "server", &["--binding", "-b", "--port", "-p"], "port", &["-b", "$HOST", "-p", "$PORT"]),
    server("rails", "s", &["--binding", "-b", "--port", "-p"], "port", &["-b", "$HOST", "-p", "$PORT"]),
];

/// Has a server listen where Roundsman says; `listen` for it. `None` for what is no such server, or has been told
/// of a UNIX socket.
pub(super) fn direct(command: &mut Vec<String>, directory: &Path) -> Option<&'static str> {
    let at = program_at(command);
    let program = base_name(command.get(at)?).to_owned();
    if program == "ruby" {
        return sinatra(command, directory);
    }
    let is_it = |server: &&Server| {
        server.program == program
            && (server.command.is_empty() || command.iter().any(|word| word == server.command))
    };
    let server = SERVERS.iter().find(is_it)?;
    if command.iter().any(|word| word.starts_with("--uds") || word.contains("unix:")) {
        return None;
    }
    let sub = command.iter().position(|word| !server.command.is_empty() && word == server.command);
    let options = command.split_off(sub.unwrap_or(at) + 1);
    command.extend(server.new.iter().map(|word| (*word).to_owned()));
    command.extend(without(options, server));
    Some(server.listen)
}

/// Where the program is, behind what only finds it.
fn program_at(command: &[String]) -> usize {
    let word = |at: usize| command.get(at).map_or("", |word| base_name(word));
    let is_interpreter = word(0).starts_with("python") || word(0) == "php" || word(0) == "ruby";
    match (word(0), word(1)) {
        ("bundle", "exec") => 2,
        (first, "-m") if first.starts_with("python") => 2,
        // The script of a framework.
        (_, "manage.py" | "artisan" | "rails") if is_interpreter => 1,
        _ => 0,
    }
}

/// The options without those that say where to listen.
fn without(options: Vec<String>, server: &Server) -> Vec<String> {
    let mut left = Vec::new();
    let mut words = options.into_iter();
    let mut bare = server.bare;
    while let Some(word) = words.next() {
        let is_bare = bare && is_address(&word);
        if server.old.contains(&&*word) {
            words.next();
        } else if !is_bare && !server.old.iter().any(|option| has_value(&word, option)) {
            left.push(word);
        }
        bare &= !is_bare;
    }
    left
}

/// Whether a word is this option with its value: `--port=80`, `-p80`.
fn has_value(word: &str, option: &str) -> bool {
    let is_long = option.starts_with("--");
    word.strip_prefix(option)
        .is_some_and(|value| if is_long { value.starts_with('=') } else { is_address(value) })
}

/// Whether it is `8000`, `0.0.0.0:8000`, `[::]:8000`.
fn is_address(word: &str) -> bool {
    let port = word.rsplit(':').next().unwrap_or_default();
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && !word.starts_with('-')
}

/// A script of Sinatra's, which takes options of its own.
fn sinatra(command: &mut Vec<String>, directory: &Path) -> Option<&'static str> {
    let is_script = |word: &&String| Path::new(word).extension().is_some_and(|end| end == "rb");
    let script = command.iter().skip(1).find(is_script)?;
    let text = file::read_text(&directory.join(script), Links::Follow, 1024 * 1024).ok()?;
    let requires =
        |line: &str| line.trim_start().starts_with("require") && line.contains("sinatra");
    if text.lines().any(requires) {
        command.extend(["-o", "$HOST", "-p", "$PORT"].map(str::to_owned));
    }
    Some("port")
}

/// The command as it is run: through a shell, which becomes it, where it has variables to put in.
pub(crate) fn with_variables(command: Vec<String>) -> Vec<String> {
    let has_variable = |word: &String| VARIABLES.iter().any(|name| word.contains(name));
    if !command.iter().any(has_variable) || command.iter().any(|word| word == "-c") {
        return command;
    }
    let quoted = |word: &String| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,+%".contains(c);
        let rest = VARIABLES.iter().fold(word.clone(), |rest, name| rest.replace(name, ""));
        if !rest.chars().all(is_plain) || word.is_empty() {
            // The shell is to put in these and to read nothing else.
            let literal = format!("'{}'", word.replace('\'', r"'\''"));
            VARIABLES
                .iter()
                .fold(literal, |text, name| text.replace(name, &format!("'\"{name}\"'")))
        } else if has_variable(word) {
            format!("\"{word}\"")
        } else {
            word.clone()
        }
    };
    let words: Vec<String> = command.iter().map(quoted).collect();
    vec!["sh".to_owned(), "-c".to_owned(), format!("exec {}", words.join(" "))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directed(line: &str) -> (String, Option<&'static str>) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("app.rb"), "require 'sinatra'\n").unwrap();
        std::fs::write(directory.path().join("job.rb"), "puts 1\n").unwrap();
        let mut command: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let listen = direct(&mut command, directory.path());
        (command.join(" "), listen)
    }

    #[test]
    fn every_server_is_told_where_to_listen() {
        for (typed, runs, listen) in [
            ("uvicorn main:app", "uvicorn --fd 3 main:app", "fd"),
            (
                "uvicorn main:app --host 0.0.0.0 --port=80 --reload",
                "uvicorn --fd 3 main:app --reload",
                "fd",
            ),
            ("python3 -m uvicorn a:b", "python3 -m uvicorn --fd 3 a:b", "fd"),
            (".venv/bin/hypercorn -b :80 a:b", ".venv/bin/hypercorn --bind fd://3 a:b", "fd"),
            ("daphne -p 8001 a.asgi:x", "daphne -b $HOST -p $PORT a.asgi:x", "port"),
            ("waitress-serve --port=8041 a:b", "waitress-serve --listen=$HOST:$PORT a:b", "port"),
            (
                "flask --app hello run -p5000",
                "flask --app hello run --host $HOST --port $PORT",
                "port",
            ),
            (
                "python3 -m http.server 8000 -d x",
                "python3 -m http.server --bind $HOST $PORT -d x",
                "port",
            ),
            (
                "python manage.py runserver 0:80",
                "python manage.py runserver --noreload $HOST:$PORT",
                "port",
            ),
            ("php -S 0.0.0.0:8000 -t public", "php -S $HOST:$PORT -t public", "port"),
            ("php artisan serve", "php artisan serve --host $HOST --port $PORT", "port"),
            ("deno serve -A x.ts", "deno serve --host $HOST --port $PORT -A x.ts", "port"),
            ("bundle exec puma -C p.rb", "bundle exec puma -b tcp://$HOST:$PORT -C p.rb", "port"),
            ("bin/rails s -e production", "bin/rails s -b $HOST -p $PORT -e production", "port"),
            ("ruby app.rb", "ruby app.rb -o $HOST -p $PORT", "port"),
            ("ruby job.rb", "ruby job.rb", "port"),
        ] {
            assert_eq!(directed(typed), (runs.to_owned(), Some(listen)), "{typed}");
        }
    }

    #[test]
    fn what_is_no_such_server_stays_as_it_is() {
        for typed in [
            "php worker.php",
            "deno run x.ts",
            "uvicorn a:b --uds /run/x",
            "./server",
            "flask shell",
        ] {
            assert_eq!(directed(typed), (typed.to_owned(), None), "{typed}");
        }
        assert_eq!(direct(&mut Vec::new(), Path::new("/")), None);
    }

    #[test]
    fn a_shell_puts_the_variables_in_and_nothing_else() {
        let shell =
            |words: &[&str]| with_variables(words.iter().map(|word| (*word).to_owned()).collect());
        assert_eq!(
            shell(&["php", "-S", "$HOST:$PORT", "a b", "it's", "x"]),
            ["sh", "-c", r#"exec php -S "$HOST:$PORT" 'a b' 'it'\''s' x"#]
        );
        assert_eq!(shell(&["node", "a b"]), ["node", "a b"]);
        assert_eq!(shell(&["sh", "-c", "x $PORT"]), ["sh", "-c", "x $PORT"], "it has one");
        let typed = r#"$(id) `id` "it's" \ $PORT"#;
        let [program, option, line] = &shell(&["printf", "%s", typed])[..] else { panic!() };
        let mut run = std::process::Command::new(program);
        let said = run.args([option, line]).env("PORT", "80").output().unwrap().stdout;
        assert_eq!(String::from_utf8(said).unwrap(), typed.replace("$PORT", "80"));
    }
}
