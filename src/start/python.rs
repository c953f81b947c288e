//! How a Python file is run: by itself, or by a server where it only defines an app.

use std::path::Path;

use super::error::InferError;
use crate::base::file::{self, Links};
use crate::base::program::{self, SERVICE_PATH};

/// The most that is read of a file.
const LARGEST: u64 = 1024 * 1024;

/// A command, and `listen` for it.
type Run = (Vec<String>, Option<&'static str>);

/// What runs a file in its directory, with the virtual environment that is there.
pub(super) fn command(directory: &Path, file: &str) -> Result<Run, InferError> {
    let environments = [".venv/bin/python", "venv/bin/python", "env/bin/python"];
    let own = environments.iter().map(|path| directory.join(path)).find(|path| path.exists());
    let python = own.as_ref().map_or("python3".to_owned(), |path| path.display().to_string());
    let text = file::read_text(&directory.join(file), Links::Follow, LARGEST).unwrap_or_default();
    let module = file.trim_end_matches(".py").replace('/', ".");
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    if let Some(name) = defines(&text, &["FastAPI", "Starlette", "Litestar", "Quart"])
        && !text.contains("uvicorn.run(")
        && !text.contains(".run(")
    {
        let app = format!("{module}:{name}");
        return Ok((words(&[&python, "-m", "uvicorn", "--fd", "3", &app]), Some("fd")));
    }
    if let Some(name) = defines(&text, &["Flask"])
        && !text.contains(".run(")
        && !text.contains("serve(")
    {
        let has_it = match &own {
            Some(python) => python.with_file_name("gunicorn").exists(),
            None => program::find("gunicorn", SERVICE_PATH).is_some(),
        };
        if !has_it {
            return Err(InferError::NoPythonServer(directory.join(file)));
        }
        let app = format!("{module}:{name}");
        return Ok((words(&[&python, "-m", "gunicorn", &app]), Some("fd")));
    }
    // A script that was not written for LISTEN_FDS binds the port that it is told.
    Ok((words(&[&python, file]), Some("port")))
}

/// The name that a file gives to an app of one of these kinds, at the beginning of a line.
fn defines<'a>(text: &'a str, kinds: &[&str]) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let kind = value.trim_start().split('(').next()?;
        let kind = kind.rsplit('.').next()?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        // `app: FastAPI = FastAPI()`.
        let name = name.split(':').next()?.trim_end();
        let is_at_top = !name.is_empty() && name.chars().all(is_name) && value.contains('(');
        (is_at_top && kinds.contains(&kind)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, files: &[&str]) -> Result<(String, Option<&'static str>), String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("main.py"), text).unwrap();
        for file in files {
            let path = directory.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let prefix = format!("{}/", directory.path().display());
        let (command, listen) =
            command(directory.path(), "main.py").map_err(|error| error.to_string())?;
        Ok((command.join(" ").replace(&prefix, ""), listen))
    }

    #[test]
    fn an_app_without_a_server_gets_one() {
        let venv = [".venv/bin/python", ".venv/bin/gunicorn"];
        for (text, files, command, listen) in [
            ("print(1)", &[][..], "python3 main.py", "port"),
            ("print(1)", &venv[..], ".venv/bin/python main.py", "port"),
            (
                "from fastapi import FastAPI\napp = FastAPI(title='x')\n",
                &[],
                "python3 -m uvicorn --fd 3 main:app",
                "fd",
            ),
            (
                "import fastapi\napi: X = fastapi.FastAPI()\n",
                &venv,
                ".venv/bin/python -m uvicorn --fd 3 main:api",
                "fd",
            ),
            ("app = FastAPI()\nuvicorn.run(app, port=1)\n", &[], "python3 main.py", "port"),
            ("app = Flask(__name__)\napp.run()\n", &[], "python3 main.py", "port"),
            ("app = Flask(__name__)\n", &venv, ".venv/bin/python -m gunicorn main:app", "fd"),
        ] {
            assert_eq!(run(text, files), Ok((command.to_owned(), Some(listen))), "{text}");
        }
        let said = run("app = Flask(__name__)\n", &[".venv/bin/python"]).unwrap_err();
        assert!(said.contains("install gunicorn"), "{said}");
    }

    #[test]
    fn only_a_definition_is_one() {
        for text in
            ["    app = FastAPI()", "# app = FastAPI()", "app == FastAPI()", "app = FastAPI"]
        {
            assert_eq!(defines(text, &["FastAPI"]), None, "{text}");
        }
    }
}
