//! Every key of every file: what the reader accepts, what it suggests for a misspelt one, and
//! what roundsman.toml(5) says. One list for all three, so that they cannot disagree.

mod app;
mod front;
mod route;
mod sharing;
mod upstream;

pub(super) use app::{APP, APP_HEALTH, APP_RESTART};
pub(super) use front::{
    CERTIFICATE, DNS, FRONT, LIMITS, LISTENER, RETRIES, SESSION, THREADS, TIMEOUTS,
};
pub(super) use route::{OWN_ROUTE, ROUTE, ROUTES, SHARE};
pub(super) use sharing::{BALANCING, HASH, PASSIVE, STICKY};
pub(super) use upstream::{SERVER, UPSTREAM, UPSTREAM_HEALTH};

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it takes, for people.
    pub form: &'static str,
    /// Its default as TOML; empty when leaving the key out is not the same as any value.
    pub default: &'static str,
    /// What it means, in sentences.
    pub doc: &'static str,
}

/// The keys of one table.
#[derive(Debug)]
pub struct Section {
    /// How the table is written, for people; empty for the top of a file.
    pub title: &'static str,
    /// What the table is about.
    pub doc: &'static str,
    /// Its keys, in the order in which the manual explains them.
    pub keys: &'static [Key],
}

/// Whether a key of this name stands at the top of a file, outside of any table.
pub(super) fn is_of_a_top(name: &str) -> bool {
    let sections = FILES.iter().flat_map(|file| file.sections);
    let tops = sections.filter(|section| section.title.is_empty());
    tops.flat_map(|section| section.keys).any(|key| key.name == name)
}

/// One kind of file.
#[derive(Debug)]
pub struct FileKind {
    /// Its path below `/etc/roundsman`.
    pub path: &'static str,
    /// What it is about.
    pub doc: &'static str,
    /// Its tables, the top of the file first.
    pub sections: &'static [&'static Section],
}

/// All kinds of files.
pub const FILES: &[FileKind] = &[
    FileKind {
        path: "roundsman.toml",
        doc: "The front: the process that accepts the clients' connections. Without this file \
              every key has its default.",
        sections: &[
            &FRONT,
            &THREADS,
            &LISTENER,
            &CERTIFICATE,
            &TIMEOUTS,
            &LIMITS,
            &RETRIES,
            &DNS,
            &SESSION,
        ],
    },
    FileKind {
        path: "apps/NAME.toml",
        doc: "An application that runs on this machine. NAME is the app's name: lower-case \
              letters, digits, '-' and '_', at most 64 of them, not starting with '-'. Its workers \
              are the units roundsman-worker@NAME:1.service, roundsman-worker@NAME:2.service and \
              so on; roundsman-app@NAME.target starts and stops them all. A change takes effect \
              with systemctl daemon-reload for the units and systemctl reload roundsman for the \
              front. The keys of BALANCING below belong here, too.",
        sections: &[&APP, &APP_HEALTH, &APP_RESTART],
    },
    FileKind {
        path: "upstreams/NAME.toml",
        doc: "Servers that something else runs. NAME follows the rules of an app's name. The keys \
              of BALANCING below belong here, too.",
        sections: &[&UPSTREAM, &SERVER, &UPSTREAM_HEALTH],
    },
    FileKind {
        path: "routes/NAME.toml",
        doc: "Routes to apps and upstreams of other files, and splits between them. Any number of \
              [[route]] tables.",
        sections: &[&ROUTES, &ROUTE, &SHARE],
    },
];

/// What files of apps and upstreams have in common.
pub const SHARED: &[&Section] = &[&BALANCING, &HASH, &STICKY, &PASSIVE, &OWN_ROUTE];

const fn key(
    name: &'static str,
    form: &'static str,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { name, form, default, doc }
}
