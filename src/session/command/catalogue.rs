//! `COMMAND`: what there is, for libraries that ask before they use it.

use super::super::protocol::{Arguments, Reply};
use super::super::store::Work;
use super::glob::Matching;
use super::table::{self, COMMANDS, Command};
use super::{CommandError, Context, Outcome, is, unknown_subcommand};

/// A command that another one has below it, under `COMMAND|SUBCOMMAND`.
struct Subcommand {
    name: &'static str,
    arity: i16,
    keys: (i8, i8, i8),
}

#[rustfmt::skip]
const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand { name: "client|getname", arity: 2, keys: (0, 0, 0) },
    Subcommand { name: "client|getredir", arity: 2, keys: (0, 0, 0) },
    Subcommand { name: "client|id", arity: 2, keys: (0, 0, 0) },
    Subcommand { name: "client|info", arity: 2, keys: (0, 0, 0) },
    Subcommand { name: "client|list", arity: -2, keys: (0, 0, 0) },
    Subcommand { name: "client|no-evict", arity: 3, keys: (0, 0, 0) },
    Subcommand { name: "client|no-touch", arity: 3, keys: (0, 0, 0) },
    Subcommand { name: "client|setinfo", arity: 4, keys: (0, 0, 0) },
    Subcommand { name: "client|setname", arity: 3, keys: (0, 0, 0) },
    Subcommand { name: "client|tracking", arity: -3, keys: (0, 0, 0) },
    Subcommand { name: "command|count", arity: 2, keys: (0, 0, 0) },
    Subcommand { name: "command|docs", arity: -2, keys: (0, 0, 0) },
    Subcommand { name: "command|getkeys", arity: -3, keys: (0, 0, 0) },
    Subcommand { name: "command|info", arity: -2, keys: (0, 0, 0) },
    Subcommand { name: "command|list", arity: -2, keys: (0, 0, 0) },
    Subcommand { name: "config|get", arity: -3, keys: (0, 0, 0) },
    Subcommand { name: "memory|usage", arity: -3, keys: (2, 2, 1) },
];

pub(super) fn command(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let Some(word) = args.get(1) else {
        reply.array(COMMANDS.len());
        for command in COMMANDS {
            describe(command, reply);
        }
        return Ok(());
    };
    if is(word, "COUNT") && args.len() == 2 {
        reply.count(COMMANDS.len());
    } else if is(word, "LIST") {
        list(cx.store.work(), args, reply)?;
    } else if is(word, "INFO") {
        if args.len() == 2 {
            reply.array(COMMANDS.len());
            for command in COMMANDS {
                describe(command, reply);
            }
        } else {
            reply.array(args.len() - 2);
            args.from(2).for_each(|name| describe_by_name(name, reply));
        }
    } else if is(word, "DOCS") {
        let chosen: Vec<&Command> = match args.len() {
            2 => COMMANDS.iter().collect(),
            _ => args.from(2).filter_map(table::find).collect(),
        };
        reply.map(chosen.len());
        for command in chosen {
            reply.bulk(command.name.as_bytes());
            reply.map(2);
            reply.bulk(b"summary");
            reply.bulk(command.summary.as_bytes());
            reply.bulk(b"group");
            reply.bulk(command.group.as_bytes());
        }
    } else if is(word, "GETKEYS") && args.len() >= 3 {
        let keys = keys(args)?;
        reply.array(keys.len());
        for key in &keys {
            reply.bulk(key);
        }
    } else {
        return Err(unknown_subcommand("COMMAND", args));
    }
    Ok(())
}

fn list(work: &Work, args: Arguments<'_>, reply: &mut Reply<'_>) -> Outcome {
    let filter = match args.len() {
        2 => None,
        5 if is(args.at(2), "FILTERBY") => Some((args.at(3), args.at(4))),
        _ => return Err(CommandError::Syntax),
    };
    let mut chosen: Vec<_> = COMMANDS.iter().collect();
    match filter {
        None => {}
        Some((by, _)) if is(by, "MODULE") => chosen.clear(),
        Some((by, pattern)) if is(by, "PATTERN") => {
            let pattern = Matching::pattern(pattern)?.to_ascii_lowercase();
            let (mut request, all) = (Matching::new(work), std::mem::take(&mut chosen));
            for command in all {
                if request.matches(&pattern, command.name.as_bytes())? {
                    chosen.push(command);
                }
            }
        }
        Some((by, category)) if is(by, "ACLCAT") => chosen.retain(|command| {
            categories(command).iter().any(|own| is(category, own.trim_start_matches('@')))
        }),
        Some(_) => return Err(CommandError::Syntax),
    }
    reply.array(chosen.len());
    for command in &chosen {
        reply.bulk(command.name.as_bytes());
    }
    Ok(())
}

/// The arguments of the request after `COMMAND GETKEYS` that are keys.
fn keys(args: Arguments<'_>) -> Result<Vec<&[u8]>, CommandError> {
    let command = table::find(args.at(2))
        .ok_or_else(|| CommandError::other("ERR Invalid command specified"))?;
    let subcommand = args.get(3).and_then(|word| find_below(command.name, word));
    let (arity, keys) = subcommand
        .map_or((command.arity, command.keys), |subcommand| (subcommand.arity, subcommand.keys));
    let given = args.len() - 2;
    let wanted = usize::from(arity.unsigned_abs());
    // These say themselves how many keys they have.
    let numbered = command.name == "sintercard";
    if keys.0 == 0 && !numbered {
        return Err(CommandError::other("ERR The command has no key arguments"));
    }
    if given < wanted || arity > 0 && given != wanted {
        return Err(CommandError::other("ERR Invalid number of arguments specified for command"));
    }
    if numbered {
        let count = super::number::integer(args.at(3)).ok().and_then(|n| usize::try_from(n).ok());
        let count = count
            .filter(|count| (1..=given - 2).contains(count))
            .ok_or_else(|| CommandError::other("ERR Invalid arguments specified for command"))?;
        return Ok(args.from(4).take(count).collect());
    }
    let (first, last, step) = keys;
    let first = usize::try_from(first).unwrap_or_default();
    let last = match usize::try_from(last) {
        Ok(last) => last,
        Err(_) => given - usize::from(last.unsigned_abs()),
    };
    let step = usize::try_from(step).unwrap_or(1).max(1);
    Ok(args.from(2 + first).take((last + 1).saturating_sub(first)).step_by(step).collect())
}

fn find_below(command: &str, word: &[u8]) -> Option<&'static Subcommand> {
    below(command)
        .find(|subcommand| subcommand.name.split_once('|').is_some_and(|(_, name)| is(word, name)))
}

fn below(command: &str) -> impl Iterator<Item = &'static Subcommand> {
    SUBCOMMANDS.iter().filter(move |subcommand| {
        subcommand.name.split_once('|').is_some_and(|(parent, _)| parent == command)
    })
}

fn describe_by_name(name: &[u8], reply: &mut Reply<'_>) {
    let mut parts = name.splitn(2, |byte| *byte == b'|');
    let command = parts.next().and_then(table::find);
    match (command, parts.next()) {
        (Some(command), None) => describe(command, reply),
        (Some(command), Some(word)) => match find_below(command.name, word) {
            Some(subcommand) => describe_below(command, subcommand, reply),
            None => reply.null_array(),
        },
        (None, _) => reply.null_array(),
    }
}

fn describe(command: &Command, reply: &mut Reply<'_>) {
    head(command.name, command.arity, command.keys, command, reply);
    let below: Vec<_> = below(command.name).collect();
    reply.array(below.len());
    for subcommand in &below {
        describe_below(command, subcommand, reply);
    }
}

fn describe_below(command: &Command, subcommand: &Subcommand, reply: &mut Reply<'_>) {
    head(subcommand.name, subcommand.arity, subcommand.keys, command, reply);
    reply.array(0);
}

/// All of a description but what is below.
fn head(name: &str, arity: i16, keys: (i8, i8, i8), of: &Command, reply: &mut Reply<'_>) {
    reply.array(10);
    reply.bulk(name.as_bytes());
    reply.integer(arity.into());
    let flags = of.flags.names();
    reply.set(flags.len());
    for flag in &flags {
        reply.simple(flag);
    }
    for number in [keys.0, keys.1, keys.2] {
        reply.integer(number.into());
    }
    let categories = categories(of);
    reply.set(categories.len());
    for category in &categories {
        reply.simple(category);
    }
    // Hints and key specifications: nothing to say.
    (0..2).for_each(|_| reply.array(0));
}

/// The categories that Redis's access lists have it in.
fn categories(command: &Command) -> Vec<&'static str> {
    let group = match command.group {
        "string" => "@string",
        "hash" => "@hash",
        "set" => "@set",
        "generic" => "@keyspace",
        "transactions" => "@transaction",
        "connection" => "@connection",
        _ => "@server",
    };
    let flags = command.flags;
    let mut categories = Vec::from([group]);
    categories.extend(flags.write.then_some("@write"));
    categories.extend(flags.read.then_some("@read"));
    categories.push(if flags.fast { "@fast" } else { "@slow" });
    let dangerous = ["flushall", "flushdb", "keys", "config", "info", "role"];
    categories.extend(dangerous.contains(&command.name).then_some("@dangerous"));
    categories
}
