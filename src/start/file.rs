//! An app's file as it is written and edited: everything that is not changed stays as it was, with
//! its comments.

use std::path::Path;

use toml_edit::{Array, DocumentMut, InlineTable, Item, TableLike, Value, value};

/// What to put into an app's file. What is `None` or empty is left as it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    /// `command`.
    pub command: Option<Vec<String>>,
    /// `directory`.
    pub directory: Option<String>,
    /// `user`.
    pub user: Option<String>,
    /// `workers`.
    pub workers: Option<u16>,
    /// `listen`.
    pub listen: Option<String>,
    /// `route`: host and path.
    pub route: Option<(Option<String>, Option<String>)>,
    /// `environment`, variable by variable.
    pub environment: Vec<(String, String)>,
    /// Other keys, in the order in which they are to be written.
    pub more: Vec<(String, Value)>,
}

/// Why a file cannot be edited.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppFileError {
    /// It is not TOML.
    #[error("{path} is not valid TOML, so it cannot be changed by a command:\n{source}")]
    Syntax {
        /// The file.
        path: String,
        /// Where and why.
        source: toml_edit::TomlError,
    },
    /// A key has another type than it must have.
    #[error("{path}: `{key}` is not a table; mend it by hand first")]
    NotTable {
        /// The file.
        path: String,
        /// The key.
        key: &'static str,
    },
    /// Which of its routes is meant is not known.
    #[error(
        "{path} has {routes} routes: change the one that is meant there, and run roundsman apply"
    )]
    Routes {
        /// The file.
        path: String,
        /// How many.
        routes: usize,
    },
}

impl Change {
    /// The file's new text.
    ///
    /// # Errors
    /// When the old text cannot be understood.
    pub(crate) fn apply(&self, path: &Path, old: &str) -> Result<String, AppFileError> {
        let path = || path.display().to_string();
        let mut file: DocumentMut =
            old.parse().map_err(|source| AppFileError::Syntax { path: path(), source })?;
        if let Some(command) = &self.command {
            put(&mut file, "command", Value::from(Array::from_iter(command)));
        }
        if let Some(directory) = &self.directory {
            put(&mut file, "directory", directory.into());
        }
        if let Some(user) = &self.user {
            put(&mut file, "user", user.into());
        }
        if let Some(workers) = self.workers {
            put(&mut file, "workers", i64::from(workers).into());
        }
        if let Some(listen) = &self.listen {
            put(&mut file, "listen", listen.into());
        }
        if let Some((host, prefix)) = &self.route {
            route(&mut file, host.as_deref(), prefix.as_deref())
                .map_err(|routes| AppFileError::Routes { path: path(), routes })?;
        }
        for (key, value) in &self.more {
            put(&mut file, key, value.clone());
        }
        if !self.environment.is_empty() {
            let inline = || Item::Value(Value::InlineTable(InlineTable::new()));
            let item = file.entry("environment").or_insert_with(inline);
            let table = item
                .as_table_like_mut()
                .ok_or_else(|| AppFileError::NotTable { path: path(), key: "environment" })?;
            for (name, text) in &self.environment {
                match table.get_mut(name).and_then(Item::as_value_mut) {
                    Some(present) => replace(present, text.into()),
                    None => drop(table.insert(name, value(text))),
                }
            }
        }
        Ok(file.to_string())
    }
}

/// Sets host or path of the file's one route, which keeps its other keys; makes it where there is none.
///
/// # Errors
/// How many there are, if more than one.
fn route(file: &mut DocumentMut, host: Option<&str>, prefix: Option<&str>) -> Result<(), usize> {
    let change = |route: &mut dyn TableLike| {
        for (key, text) in [("host", host), ("path", prefix)] {
            match (text, route.get_mut(key).and_then(Item::as_value_mut)) {
                (Some(text), Some(present)) => replace(present, text.into()),
                (Some(text), None) => drop(route.insert(key, value(text))),
                (None, _) => {}
            }
        }
    };
    match file.get_mut("route") {
        Some(Item::ArrayOfTables(tables)) if tables.len() > 1 => return Err(tables.len()),
        Some(Item::ArrayOfTables(tables)) => tables.iter_mut().for_each(|t| change(t)),
        Some(Item::Value(Value::Array(routes))) if routes.len() > 1 => return Err(routes.len()),
        Some(Item::Value(Value::Array(routes))) if !routes.is_empty() => {
            let tables = routes.iter_mut().filter_map(Value::as_inline_table_mut);
            tables.for_each(|table| change(table));
        }
        _ => {
            let mut route = InlineTable::new();
            change(&mut route);
            put(file, "route", Value::from(Array::from_iter([route])));
        }
    }
    Ok(())
}

/// Sets a key at the top; a comment behind the old value stays.
fn put(file: &mut DocumentMut, key: &str, new: Value) {
    match file.get_mut(key).and_then(Item::as_value_mut) {
        Some(present) => replace(present, new),
        None => drop(file.as_table_mut().insert(key, Item::Value(new))),
    }
}

fn replace(present: &mut Value, mut new: Value) {
    *new.decor_mut() = present.decor().clone();
    *present = new;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(change: &Change, old: &str) -> String {
        change.apply(Path::new("shop.toml"), old).unwrap()
    }

    #[test]
    fn comments_order_and_form_stay() {
        let old = "# The shop.\ncommand = ['node', \"old.js\"] # entry\n\n# as many as cores\nworkers = 2 # for now\n\n\
                   [environment]\nA = \"1\" # first\n\n[health]\npath = \"/up\"\n";
        let change = Change {
            workers: Some(6),
            user: Some("deploy".to_owned()),
            environment: vec![
                ("A".to_owned(), "2".to_owned()),
                ("B".to_owned(), "x\"y".to_owned()),
            ],
            ..Change::default()
        };
        let new = "# The shop.\ncommand = ['node', \"old.js\"] # entry\n\n# as many as cores\nworkers = 6 # for now\n\
                   user = \"deploy\"\n\n[environment]\nA = \"2\" # first\nB = 'x\"y'\n\n[health]\npath = \"/up\"\n";
        assert_eq!(apply(&change, old), new);
    }

    #[test]
    fn a_new_file_reads_well() {
        let change = Change {
            command: Some(vec!["node".to_owned(), "server.js".to_owned()]),
            directory: Some("/srv/shop".to_owned()),
            workers: Some(4),
            route: Some((Some("shop.example.com".to_owned()), None)),
            environment: vec![("NODE_ENV".to_owned(), "production".to_owned())],
            ..Change::default()
        };
        let new = "command = [\"node\", \"server.js\"]\ndirectory = \"/srv/shop\"\nworkers = 4\n\
                   route = [{ host = \"shop.example.com\" }]\nenvironment = { NODE_ENV = \"production\" }\n";
        assert_eq!(apply(&change, ""), new);
    }

    #[test]
    fn a_route_keeps_what_is_not_changed() {
        let route = Some((Some("b.example".to_owned()), None));
        let change = Change { route, ..Change::default() };
        for (old, new) in [
            (
                "route = [{ host = \"a\", redirect-https = true, hsts = \"1h\" }] # public\n",
                "route = [{ host = \"b.example\", redirect-https = true, hsts = \"1h\" }] # public\n",
            ),
            (
                "[[route]]\npath = \"/x\"\nredirect-https = true # for all\n",
                "[[route]]\npath = \"/x\"\nredirect-https = true # for all\nhost = \"b.example\"\n",
            ),
            ("route = []\n", "route = [{ host = \"b.example\" }]\n"),
        ] {
            assert_eq!(apply(&change, old), new);
        }
    }

    #[test]
    fn which_of_several_routes_is_meant_nobody_guesses() {
        let change = Change { route: Some((None, Some("/api".to_owned()))), ..Change::default() };
        for old in [
            "[[route]]\nhost = \"a\"\n[[route]]\nhost = \"b\"\n",
            "route = [{ host = \"a\" }, { host = \"b\" }]\n",
        ] {
            let error = change.apply(Path::new("shop.toml"), old).unwrap_err().to_string();
            assert!(error.contains("shop.toml has 2 routes"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_left_alone() {
        let change = Change { environment: vec![("A".into(), "1".into())], ..Change::default() };
        assert!(matches!(change.apply(Path::new("x"), "= 1"), Err(AppFileError::Syntax { .. })));
        assert!(matches!(
            change.apply(Path::new("x"), "environment = 1"),
            Err(AppFileError::NotTable { .. })
        ));
    }
}
