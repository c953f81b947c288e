//! Every command that is shown exists, with its options; so do the units and the targets of make.

use std::fs;

use clap::Parser as _;
use roundsman::cli::Cli;

use super::{Page, below, pages, root};

/// Parts of a command line, as the shell sees them; what comes after a redirection is gone.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut skip = false;
    let mut characters = line.chars().peekable();
    let end = |word: &mut Option<String>, skip: &mut bool, commands: &mut Vec<Vec<String>>| {
        if let Some(word) = word.take()
            && !std::mem::take(skip)
        {
            commands.last_mut().unwrap().push(word);
        }
    };
    while let Some(character) = characters.next() {
        match (character, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\'' | '"', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            ('\\', None) => word.get_or_insert_default().extend(characters.next()),
            ('|' | '&' | ';' | '(' | ')', None) => {
                end(&mut word, &mut skip, &mut commands);
                commands.push(Vec::new());
            }
            ('<' | '>', None) => {
                end(&mut word, &mut skip, &mut commands);
                skip = true;
            }
            (c, None) if c.is_whitespace() => end(&mut word, &mut skip, &mut commands),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    end(&mut word, &mut skip, &mut commands);
    commands.retain(|words| !words.is_empty());
    commands
}

/// What people are shown to type: lines with a prompt, and whole scripts.
fn typed(page: &Page) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    for block in page.blocks() {
        let text = block.text.replace("\\\n", " ");
        let of_console = block.kind == "console";
        if !of_console && !matches!(block.kind, "sh" | "bash") {
            continue;
        }
        for line in text.lines() {
            let typed = if of_console {
                line.strip_prefix("# ").or(line.strip_prefix("$ "))
            } else {
                Some(line)
            };
            lines.extend(typed.map(|line| (block.line, line.to_owned())));
        }
    }
    lines
}

/// What is wrong with a command; nothing with those that are not ours. In running text a command may be
/// named without what it is for.
fn wrong(words: &[String], is_whole: bool) -> Option<String> {
    // What only starts another command.
    let skipped = ["sudo", "then", "do", "if", "while", "!", "exec", "time"];
    let begin = words.iter().position(|word| {
        !skipped.contains(&word.as_str()) && !word.split_once('=').is_some_and(|(n, _)| is_name(n))
    })?;
    let words = &words[begin..];
    let ours = |word: &&String| word.starts_with("roundsman");
    match words[0].as_str() {
        "roundsman" => Cli::try_parse_from(words).err().and_then(|error| {
            use clap::error::ErrorKind::{DisplayHelp, DisplayVersion, MissingRequiredArgument};
            let fine = match error.kind() {
                DisplayHelp | DisplayVersion => true,
                MissingRequiredArgument => !is_whole,
                _ => false,
            };
            (!fine).then(|| error.to_string())
        }),
        "systemctl" | "journalctl" | "systemd-analyze" => {
            words[1..].iter().filter(ours).find_map(|unit| no_unit(unit))
        }
        "make" => words[1..].iter().find(|word| !word.contains('=')).and_then(|target| {
            let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
            let there = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            (!there).then(|| format!("the Makefile has no {target}"))
        }),
        _ => None,
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit())
}

/// Whether the package has no such unit.
fn no_unit(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.').unwrap_or((name, "service"));
    let (stem, template) = match stem.split_once('@') {
        Some((stem, _)) => (stem, "@"),
        None => (stem, ""),
    };
    if stem.contains('*') {
        return None;
    }
    // The generator makes the timers, systemd its own slices.
    let made = ["roundsman-restart@.timer", "roundsman.slice"];
    let file = format!("{stem}{template}.{kind}");
    let there = root().join("systemd").join(&file).exists() || made.contains(&file.as_str());
    (!there).then(|| format!("the package has no unit {file}"))
}

#[test]
fn every_command_that_is_shown_exists_with_its_options() {
    let mut count = 0;
    let mut faults = Vec::new();
    for page in pages() {
        let typed = typed(&page);
        let mentioned = page.code().into_iter().filter(|(_, code)| {
            // Placeholders of more than a word stand for what no command line has.
            ["roundsman ", "systemctl ", "journalctl "].iter().any(|c| code.starts_with(c))
                && !code.contains('…')
        });
        let mentioned = mentioned.map(|(number, code)| {
            (number, code.replace("[:N]", "").replace("APP:N", "shop:1"), false)
        });
        let typed = typed.into_iter().map(|(number, line)| (number, line, true));
        for (number, line, is_whole) in typed.chain(mentioned) {
            for words in commands(&line) {
                count += usize::from(words[0] == "roundsman");
                if let Some(fault) = wrong(&words, is_whole) {
                    faults.push(format!("{}:{number}: {line}\n{fault}", page.path.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 100, "only {count} commands were found");
}

#[test]
fn every_unit_that_is_named_is_in_the_package() {
    let mut faults = Vec::new();
    for page in pages() {
        for (number, code) in page.code() {
            let is_unit = code.starts_with("roundsman")
                && [".service", ".socket", ".target", ".timer", ".slice"]
                    .iter()
                    .any(|end| code.ends_with(end))
                && code.chars().all(|c| c.is_ascii_alphanumeric() || "-@:.".contains(c));
            // An example's own listener.
            if is_unit && code != "roundsman-chat.socket" {
                faults.extend(
                    no_unit(code).map(|fault| format!("{}:{number}: {fault}", page.path.display())),
                );
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_line_is_read_as_the_shell_reads_it() {
    let read = |line| commands(line).iter().map(|words| words.join("_")).collect::<Vec<_>>();
    assert_eq!(read("a 'b c' \"d\" > e && f | g # h"), ["a_b c_d", "f", "g"]);
    assert_eq!(read("X=1 a \\' ; b < c d"), ["X=1_a_'", "b_d"]);
    let is_wrong =
        |line, is_whole| commands(line).iter().any(|words| wrong(words, is_whole).is_some());
    assert!(is_wrong("roundsman reload --no-such", false));
    assert!(is_wrong("systemctl stop roundsman-x.socket", false));
    assert!(is_wrong("roundsman rollback", true) && !is_wrong("roundsman rollback", false));
    assert!(below(&root().join("systemd"), "socket").len() > 3);
}
