//! `roundsman generate`: manual pages, shell completions and `docs/settings.md`, from the one definition
//! of the command line and the one list of configuration keys. What the package ships is made by it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use super::{manage, settings};
use crate::base::exit;
use crate::base::paths;
use crate::config::schema::{FILES, Key, SHARED, Section};

/// Write manual pages, shell completions and the page of all settings into a directory
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct Generate {
    /// Where to; it is created if need be
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// What no definition in the code can say: files, signals, how things belong together.
const MAIN_END: &str = include_str!("../../docs/man/roundsman.8.end");
const TOML_START: &str = include_str!("../../docs/man/roundsman.toml.5.start");
const TOML_END: &str = include_str!("../../docs/man/roundsman.toml.5.end");

const MANUAL: &str = "Roundsman";

// === impl Generate ===

impl Generate {
    /// Writes everything about this program.
    pub(super) fn run(self, program: Command) -> ExitCode {
        match write(&self.directory, program) {
            Ok(()) => ExitCode::from(exit::OK),
            Err(error) => {
                manage::say(&format!("error: {}: {error}", self.directory.display()));
                ExitCode::from(exit::FAILURE)
            }
        }
    }
}

fn write(directory: &Path, program: Command) -> io::Result<()> {
    let man = directory.join("man");
    fs::create_dir_all(&man)?;
    for (name, page) in pages(program)? {
        fs::write(man.join(name), page)?;
    }
    let completions = directory.join("completions");
    fs::create_dir_all(&completions)?;
    for (file, script) in completions_of_shells()? {
        fs::write(completions.join(file), script)?;
    }
    fs::write(directory.join("settings.md"), settings::page())
}

/// The scripts for shells, by their names: small ones that ask the program, which knows the apps of the
/// machine. Where it has nothing to offer the shell offers files itself, and quotes their names.
fn completions_of_shells() -> io::Result<[(&'static str, String); 3]> {
    let script = |shell: &dyn EnvCompleter| -> io::Result<String> {
        let mut script = Vec::new();
        shell.write_registration("COMPLETE", "roundsman", "roundsman", "roundsman", &mut script)?;
        String::from_utf8(script).map_err(io::Error::other)
    };
    let bash = script(&Bash)?.replace("-o bashdefault", "-o bashdefault -o default");
    let last = "_describe -V 'values' other\n    fi";
    let mut zsh = script(&Zsh)?
        .replace(last, "_describe -V 'values' other\n    else\n        _files\n    fi");
    // zsh reads the file when it is first asked, and would offer nothing that once.
    zsh.push_str(
        "\n[[ $funcstack[1] != _roundsman ]] || _clap_dynamic_completer_roundsman \"$@\"\n",
    );
    let mut fish = script(&Fish)?;
    fish.push_str(
        "complete --command roundsman --force-files --condition \
         'not COMPLETE=fish roundsman -- (commandline --current-process --tokenize --cut-at-cursor) \
         (commandline --current-token) | string length --quiet'\n",
    );
    Ok([("roundsman", bash), ("_roundsman", zsh), ("roundsman.fish", fish)])
}

/// Every page by its file name.
fn pages(mut command: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    command.build();
    let mut pages = vec![
        ("roundsman.8".to_owned(), main_page(&command)?),
        ("roundsman.toml.5".to_owned(), toml_page()?),
    ];
    for subcommand in visible(&command) {
        let mut page = Vec::new();
        let man = man(subcommand);
        man.render(&mut page)?;
        page.extend_from_slice(b".SH SEE ALSO\n\\fBroundsman\\fR(8), \\fBroundsman.toml\\fR(5)\n");
        pages.push((man.get_filename(), page));
    }
    Ok(pages)
}

/// Every command below this one that people are meant to see, at any depth.
fn visible(command: &Command) -> Vec<&Command> {
    let below = command.get_subcommands().filter(|c| !c.is_hide_set());
    below.flat_map(|c| std::iter::once(c).chain(visible(c))).collect()
}

fn man(command: &Command) -> Man {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    Man::new(command.clone())
        .title(name)
        .section("8")
        .source(concat!("Roundsman ", env!("CARGO_PKG_VERSION")))
        .manual(MANUAL)
}

fn main_page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = man(command);
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_subcommands_section(&mut page)?;
    man.render_options_section(&mut page)?;
    page.extend_from_slice(MAIN_END.as_bytes());
    Ok(page)
}

fn toml_page() -> io::Result<Vec<u8>> {
    let source = concat!("Roundsman ", env!("CARGO_PKG_VERSION"));
    let mut page = Roff::new();
    page.control("TH", ["roundsman.toml", "5", "", source, MANUAL]);
    let mut bytes = Vec::new();
    page.to_writer(&mut bytes)?;
    bytes.extend_from_slice(TOML_START.as_bytes());

    let mut page = Roff::new();
    for file in FILES {
        let heading = format!("{}/{}", paths::CONFIGURATION, file.path);
        page.control("SH", [heading.as_str()]).text([roman(file.doc)]);
        for s in file.sections {
            section(&mut page, s);
        }
    }
    page.control("SH", ["BALANCING"]);
    for s in SHARED {
        section(&mut page, s);
    }
    page.to_writer(&mut bytes)?;
    bytes.extend_from_slice(TOML_END.as_bytes());
    Ok(bytes)
}

fn section(page: &mut Roff, section: &Section) {
    if !section.title.is_empty() {
        page.control("SS", [section.title]);
    }
    if !section.doc.is_empty() {
        page.text([roman(section.doc)]);
    }
    for key in section.keys {
        explain(page, key);
    }
}

fn explain(page: &mut Roff, key: &Key) {
    page.control("TP", []);
    page.text([bold(key.name), roman(" = "), italic(key.form)]);
    let doc = match key.default {
        "" => key.doc.to_owned(),
        default => format!("{} Default: {default}.", key.doc),
    };
    page.text([roman(doc)]);
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    fn page(name: &str) -> String {
        let (_, page) =
            pages(Cli::command()).unwrap().into_iter().find(|(n, _)| n == name).unwrap();
        // As a reader sees it: roff's escapes of hyphens and quotes undone.
        let text = String::from_utf8(page).unwrap();
        text.replace("\\-", "-").replace("\\*(Aq", "'").replace("\\fB", "").replace("\\fR", "")
    }

    #[test]
    fn every_command_and_option_is_in_a_manual_page() {
        let mut command = Cli::command();
        command.build();
        let pages = pages(Cli::command()).unwrap();
        let all: String = pages.iter().map(|(name, _)| page(name)).collect();
        for subcommand in visible(&command) {
            let name = subcommand.get_display_name().unwrap();
            assert!(all.contains(&format!("{name}(8)")), "no page mentions {name}");
            let own = page(&format!("{name}.8"));
            for argument in subcommand.get_arguments().filter(|a| !a.is_hide_set()) {
                if let Some(long) = argument.get_long() {
                    assert!(own.contains(&format!("--{long}")), "{name} --{long} in\n{own}");
                } else if let Some(names) = argument.get_value_names() {
                    assert!(own.contains(names[0].as_str()), "{name} {names:?} in\n{own}");
                }
            }
        }
    }

    #[test]
    fn every_key_is_in_the_manual() {
        let manual = page("roundsman.toml.5");
        let sections = FILES.iter().flat_map(|f| f.sections).chain(SHARED);
        for key in sections.flat_map(|s| s.keys) {
            assert!(manual.contains(&format!("\n{} = ", key.name)), "{} in\n{manual}", key.name);
            assert!(key.doc.ends_with('.'), "{}: {}", key.name, key.doc);
        }
    }

    #[test]
    fn every_exit_status_is_in_the_manual() {
        let main = page("roundsman.8");
        for status in [
            exit::OK,
            exit::FAILURE,
            exit::USAGE,
            exit::UNAVAILABLE,
            exit::OS,
            exit::BUSY,
            exit::DENIED,
            exit::CONFIG,
            exit::INTERRUPTED,
        ] {
            assert!(main.contains(&format!("\n.TP\n{status}\n")), "{status} in\n{main}");
        }
    }
}
