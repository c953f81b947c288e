//! The table of commands, and the way from a request to its handler.

use std::fmt::Write as _;

use super::super::protocol::{Arguments, Reply};
use super::super::store::Task;
use super::{
    Client, CommandError, Context, Outcome, catalogue, connection, counters, hashes, info, is,
    keys, not_supported, scan, server, sets, strings, transactions,
};

/// One command.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Number of arguments with the name; negative when there may be more.
    pub arity: i16,
    /// What it does to the data.
    pub flags: Flags,
    /// First and last key among the arguments, and the step from one to the next.
    pub keys: (i8, i8, i8),
    /// The family that it belongs to.
    pub group: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    handler: Handler,
}

type Handler = fn(&mut Context<'_>, Arguments<'_>, &mut Reply<'_>) -> Outcome;

/// What a command does to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// It changes data.
    pub write: bool,
    /// It reads data.
    pub read: bool,
    /// It may need more room.
    pub grows: bool,
    /// Its time does not depend on how much there is.
    pub fast: bool,
}

/// All commands, by name.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    Command { name: "append", arity: 3, flags: WM, keys: (1, 1, 1), group: "string", summary: "Appends to a string", handler: strings::append },
    Command { name: "auth", arity: -2, flags: F, keys: (0, 0, 0), group: "connection", summary: "Says which namespace the connection is for", handler: connection::auth },
    Command { name: "client", arity: -2, flags: NONE, keys: (0, 0, 0), group: "connection", summary: "Names the connection and describes it", handler: connection::client },
    Command { name: "cluster", arity: -2, flags: NONE, keys: (0, 0, 0), group: "cluster", summary: "There is no cluster", handler: server::cluster_disabled },
    Command { name: "command", arity: -1, flags: NONE, keys: (0, 0, 0), group: "server", summary: "Describes the commands", handler: catalogue::command },
    Command { name: "config", arity: -2, flags: NONE, keys: (0, 0, 0), group: "server", summary: "Reads settings", handler: server::config },
    Command { name: "copy", arity: -3, flags: WM, keys: (1, 2, 1), group: "generic", summary: "Copies a key", handler: keys::copy },
    Command { name: "dbsize", arity: 1, flags: RF, keys: (0, 0, 0), group: "server", summary: "Counts keys", handler: server::dbsize },
    Command { name: "decr", arity: 2, flags: WMF, keys: (1, 1, 1), group: "string", summary: "Takes one from a number", handler: counters::decr },
    Command { name: "decrby", arity: 3, flags: WMF, keys: (1, 1, 1), group: "string", summary: "Takes from a number", handler: counters::decrby },
    Command { name: "del", arity: -2, flags: W, keys: (1, -1, 1), group: "generic", summary: "Removes keys", handler: keys::del },
    Command { name: "discard", arity: 1, flags: F, keys: (0, 0, 0), group: "transactions", summary: "Forgets a transaction", handler: transactions::discard },
    Command { name: "echo", arity: 2, flags: F, keys: (0, 0, 0), group: "connection", summary: "Answers with its argument", handler: connection::echo },
    Command { name: "exec", arity: 1, flags: NONE, keys: (0, 0, 0), group: "transactions", summary: "Carries out a transaction", handler: transactions::exec },
    Command { name: "exists", arity: -2, flags: RF, keys: (1, -1, 1), group: "generic", summary: "Counts which of the keys exist", handler: keys::exists },
    Command { name: "expire", arity: -3, flags: WF, keys: (1, 1, 1), group: "generic", summary: "Sets an expiry in seconds", handler: keys::expire },
    Command { name: "expireat", arity: -3, flags: WF, keys: (1, 1, 1), group: "generic", summary: "Sets an expiry as a time", handler: keys::expireat },
    Command { name: "expiretime", arity: 2, flags: RF, keys: (1, 1, 1), group: "generic", summary: "Says when a key expires", handler: keys::expiretime },
    Command { name: "flushall", arity: -1, flags: W, keys: (0, 0, 0), group: "server", summary: "Removes all keys of the namespace", handler: server::flushall },
    Command { name: "flushdb", arity: -1, flags: W, keys: (0, 0, 0), group: "server", summary: "Removes all keys of the database", handler: server::flushdb },
    Command { name: "get", arity: 2, flags: RF, keys: (1, 1, 1), group: "string", summary: "Reads a string", handler: strings::get },
    Command { name: "getdel", arity: 2, flags: WF, keys: (1, 1, 1), group: "string", summary: "Reads a string and removes it", handler: strings::getdel },
    Command { name: "getex", arity: -2, flags: WF, keys: (1, 1, 1), group: "string", summary: "Reads a string and sets its expiry", handler: strings::getex },
    Command { name: "getrange", arity: 4, flags: R, keys: (1, 1, 1), group: "string", summary: "Reads a part of a string", handler: strings::getrange },
    Command { name: "getset", arity: 3, flags: WMF, keys: (1, 1, 1), group: "string", summary: "Sets a string and answers with the old one", handler: strings::getset },
    Command { name: "hdel", arity: -3, flags: WF, keys: (1, 1, 1), group: "hash", summary: "Removes fields", handler: hashes::hdel },
    Command { name: "hello", arity: -1, flags: F, keys: (0, 0, 0), group: "connection", summary: "Chooses the version of the protocol", handler: connection::hello },
    Command { name: "hexists", arity: 3, flags: RF, keys: (1, 1, 1), group: "hash", summary: "Says whether a field exists", handler: hashes::hexists },
    Command { name: "hget", arity: 3, flags: RF, keys: (1, 1, 1), group: "hash", summary: "Reads a field", handler: hashes::hget },
    Command { name: "hgetall", arity: 2, flags: R, keys: (1, 1, 1), group: "hash", summary: "Reads all fields", handler: hashes::hgetall },
    Command { name: "hincrby", arity: 4, flags: WMF, keys: (1, 1, 1), group: "hash", summary: "Adds to a field", handler: hashes::hincrby },
    Command { name: "hincrbyfloat", arity: 4, flags: WMF, keys: (1, 1, 1), group: "hash", summary: "Adds a fraction to a field", handler: hashes::hincrbyfloat },
    Command { name: "hkeys", arity: 2, flags: R, keys: (1, 1, 1), group: "hash", summary: "Lists fields", handler: hashes::hkeys },
    Command { name: "hlen", arity: 2, flags: RF, keys: (1, 1, 1), group: "hash", summary: "Counts fields", handler: hashes::hlen },
    Command { name: "hmget", arity: -3, flags: RF, keys: (1, 1, 1), group: "hash", summary: "Reads several fields", handler: hashes::hmget },
    Command { name: "hmset", arity: -4, flags: WMF, keys: (1, 1, 1), group: "hash", summary: "Sets fields", handler: hashes::hmset },
    Command { name: "hrandfield", arity: -2, flags: R, keys: (1, 1, 1), group: "hash", summary: "Picks fields at random", handler: hashes::hrandfield },
    Command { name: "hscan", arity: -3, flags: R, keys: (1, 1, 1), group: "hash", summary: "Walks over fields", handler: scan::hscan },
    Command { name: "hset", arity: -4, flags: WMF, keys: (1, 1, 1), group: "hash", summary: "Sets fields", handler: hashes::hset },
    Command { name: "hsetnx", arity: 4, flags: WMF, keys: (1, 1, 1), group: "hash", summary: "Sets a field unless it exists", handler: hashes::hsetnx },
    Command { name: "hstrlen", arity: 3, flags: RF, keys: (1, 1, 1), group: "hash", summary: "Says how long a field is", handler: hashes::hstrlen },
    Command { name: "hvals", arity: 2, flags: R, keys: (1, 1, 1), group: "hash", summary: "Lists values", handler: hashes::hvals },
    Command { name: "incr", arity: 2, flags: WMF, keys: (1, 1, 1), group: "string", summary: "Adds one to a number", handler: counters::incr },
    Command { name: "incrby", arity: 3, flags: WMF, keys: (1, 1, 1), group: "string", summary: "Adds to a number", handler: counters::incrby },
    Command { name: "incrbyfloat", arity: 3, flags: WMF, keys: (1, 1, 1), group: "string", summary: "Adds a fraction to a number", handler: counters::incrbyfloat },
    Command { name: "info", arity: -1, flags: NONE, keys: (0, 0, 0), group: "server", summary: "Describes the server", handler: info::info },
    Command { name: "keys", arity: 2, flags: R, keys: (0, 0, 0), group: "generic", summary: "Lists keys", handler: scan::keys },
    Command { name: "memory", arity: -2, flags: R, keys: (0, 0, 0), group: "server", summary: "Says how large a key is", handler: server::memory },
    Command { name: "mget", arity: -2, flags: RF, keys: (1, -1, 1), group: "string", summary: "Reads several strings", handler: strings::mget },
    Command { name: "mset", arity: -3, flags: WM, keys: (1, -1, 2), group: "string", summary: "Sets several strings", handler: strings::mset },
    Command { name: "msetnx", arity: -3, flags: WM, keys: (1, -1, 2), group: "string", summary: "Sets several strings unless one exists", handler: strings::msetnx },
    Command { name: "multi", arity: 1, flags: F, keys: (0, 0, 0), group: "transactions", summary: "Begins a transaction", handler: transactions::multi },
    Command { name: "persist", arity: 2, flags: WF, keys: (1, 1, 1), group: "generic", summary: "Removes an expiry", handler: keys::persist },
    Command { name: "pexpire", arity: -3, flags: WF, keys: (1, 1, 1), group: "generic", summary: "Sets an expiry in milliseconds", handler: keys::pexpire },
    Command { name: "pexpireat", arity: -3, flags: WF, keys: (1, 1, 1), group: "generic", summary: "Sets an expiry as a time in milliseconds", handler: keys::pexpireat },
    Command { name: "pexpiretime", arity: 2, flags: RF, keys: (1, 1, 1), group: "generic", summary: "Says when a key expires, in milliseconds", handler: keys::pexpiretime },
    Command { name: "ping", arity: -1, flags: F, keys: (0, 0, 0), group: "connection", summary: "Answers", handler: connection::ping },
    Command { name: "psetex", arity: 4, flags: WM, keys: (1, 1, 1), group: "string", summary: "Sets a string with an expiry in milliseconds", handler: strings::psetex },
    Command { name: "pttl", arity: 2, flags: RF, keys: (1, 1, 1), group: "generic", summary: "Says how long a key still lives, in milliseconds", handler: keys::pttl },
    Command { name: "quit", arity: -1, flags: F, keys: (0, 0, 0), group: "connection", summary: "Closes the connection", handler: connection::quit },
    Command { name: "randomkey", arity: 1, flags: R, keys: (0, 0, 0), group: "generic", summary: "Picks a key at random", handler: scan::randomkey },
    Command { name: "readonly", arity: 1, flags: F, keys: (0, 0, 0), group: "cluster", summary: "There is no cluster", handler: server::cluster_disabled },
    Command { name: "readwrite", arity: 1, flags: F, keys: (0, 0, 0), group: "cluster", summary: "There is no cluster", handler: server::cluster_disabled },
    Command { name: "rename", arity: 3, flags: W, keys: (1, 2, 1), group: "generic", summary: "Renames a key", handler: keys::rename },
    Command { name: "renamenx", arity: 3, flags: WF, keys: (1, 2, 1), group: "generic", summary: "Renames a key unless the other exists", handler: keys::renamenx },
    Command { name: "reset", arity: 1, flags: F, keys: (0, 0, 0), group: "connection", summary: "Makes the connection as new", handler: connection::reset },
    Command { name: "role", arity: 1, flags: F, keys: (0, 0, 0), group: "server", summary: "Says that this is no replica", handler: server::role },
    Command { name: "sadd", arity: -3, flags: WMF, keys: (1, 1, 1), group: "set", summary: "Adds members", handler: sets::sadd },
    Command { name: "scan", arity: -2, flags: R, keys: (0, 0, 0), group: "generic", summary: "Walks over keys", handler: scan::scan },
    Command { name: "scard", arity: 2, flags: RF, keys: (1, 1, 1), group: "set", summary: "Counts members", handler: sets::scard },
    Command { name: "sdiff", arity: -2, flags: R, keys: (1, -1, 1), group: "set", summary: "Takes sets from a set", handler: sets::sdiff },
    Command { name: "sdiffstore", arity: -3, flags: WM, keys: (1, -1, 1), group: "set", summary: "Takes sets from a set and stores the rest", handler: sets::sdiffstore },
    Command { name: "select", arity: 2, flags: F, keys: (0, 0, 0), group: "connection", summary: "Chooses a database", handler: connection::select },
    Command { name: "set", arity: -3, flags: WM, keys: (1, 1, 1), group: "string", summary: "Sets a string", handler: strings::set },
    Command { name: "setex", arity: 4, flags: WM, keys: (1, 1, 1), group: "string", summary: "Sets a string with an expiry in seconds", handler: strings::setex },
    Command { name: "setnx", arity: 3, flags: WMF, keys: (1, 1, 1), group: "string", summary: "Sets a string unless the key exists", handler: strings::setnx },
    Command { name: "setrange", arity: 4, flags: WM, keys: (1, 1, 1), group: "string", summary: "Overwrites a part of a string", handler: strings::setrange },
    Command { name: "sinter", arity: -2, flags: R, keys: (1, -1, 1), group: "set", summary: "Intersects sets", handler: sets::sinter },
    Command { name: "sintercard", arity: -3, flags: R, keys: (0, 0, 0), group: "set", summary: "Counts an intersection", handler: sets::sintercard },
    Command { name: "sinterstore", arity: -3, flags: WM, keys: (1, -1, 1), group: "set", summary: "Intersects sets and stores the result", handler: sets::sinterstore },
    Command { name: "sismember", arity: 3, flags: RF, keys: (1, 1, 1), group: "set", summary: "Says whether it is a member", handler: sets::sismember },
    Command { name: "smembers", arity: 2, flags: R, keys: (1, 1, 1), group: "set", summary: "Lists members", handler: sets::smembers },
    Command { name: "smismember", arity: -3, flags: RF, keys: (1, 1, 1), group: "set", summary: "Says which are members", handler: sets::smismember },
    Command { name: "smove", arity: 4, flags: WF, keys: (1, 2, 1), group: "set", summary: "Moves a member to another set", handler: sets::smove },
    Command { name: "spop", arity: -2, flags: WF, keys: (1, 1, 1), group: "set", summary: "Removes members at random", handler: sets::spop },
    Command { name: "srandmember", arity: -2, flags: R, keys: (1, 1, 1), group: "set", summary: "Picks members at random", handler: sets::srandmember },
    Command { name: "srem", arity: -3, flags: WF, keys: (1, 1, 1), group: "set", summary: "Removes members", handler: sets::srem },
    Command { name: "sscan", arity: -3, flags: R, keys: (1, 1, 1), group: "set", summary: "Walks over members", handler: scan::sscan },
    Command { name: "strlen", arity: 2, flags: RF, keys: (1, 1, 1), group: "string", summary: "Says how long a string is", handler: strings::strlen },
    Command { name: "substr", arity: 4, flags: R, keys: (1, 1, 1), group: "string", summary: "Reads a part of a string", handler: strings::getrange },
    Command { name: "sunion", arity: -2, flags: R, keys: (1, -1, 1), group: "set", summary: "Unites sets", handler: sets::sunion },
    Command { name: "sunionstore", arity: -3, flags: WM, keys: (1, -1, 1), group: "set", summary: "Unites sets and stores the result", handler: sets::sunionstore },
    Command { name: "time", arity: 1, flags: F, keys: (0, 0, 0), group: "server", summary: "Says what time it is", handler: server::time },
    Command { name: "touch", arity: -2, flags: RF, keys: (1, -1, 1), group: "generic", summary: "Counts which of the keys exist", handler: keys::exists },
    Command { name: "ttl", arity: 2, flags: RF, keys: (1, 1, 1), group: "generic", summary: "Says how long a key still lives", handler: keys::ttl },
    Command { name: "type", arity: 2, flags: RF, keys: (1, 1, 1), group: "generic", summary: "Says what a key holds", handler: keys::kind },
    Command { name: "unlink", arity: -2, flags: WF, keys: (1, -1, 1), group: "generic", summary: "Removes keys", handler: keys::del },
    Command { name: "unwatch", arity: 1, flags: F, keys: (0, 0, 0), group: "transactions", summary: "Stops waiting upon keys", handler: transactions::unwatch },
    Command { name: "wait", arity: 3, flags: NONE, keys: (0, 0, 0), group: "generic", summary: "There are no replicas to wait for", handler: server::wait },
    Command { name: "watch", arity: -2, flags: F, keys: (1, -1, 1), group: "transactions", summary: "Has EXEC fail when a key is touched", handler: transactions::watch },
];

const F: Flags = Flags { write: false, read: false, grows: false, fast: true };
const NONE: Flags = Flags { write: false, read: false, grows: false, fast: false };
const R: Flags = Flags { write: false, read: true, grows: false, fast: false };
const RF: Flags = Flags { write: false, read: true, grows: false, fast: true };
const W: Flags = Flags { write: true, read: false, grows: false, fast: false };
const WF: Flags = Flags { write: true, read: false, grows: false, fast: true };
const WM: Flags = Flags { write: true, read: false, grows: true, fast: false };
const WMF: Flags = Flags { write: true, read: false, grows: true, fast: true };

/// Commands of Redis that this store does not have: they get an error that says so.
#[rustfmt::skip]
pub const NOT_SUPPORTED: &[&str] = &[
    "acl", "bgrewriteaof", "bgsave", "bitcount", "bitfield", "bitop", "bitpos", "blmove",
    "blmpop", "blpop", "brpop", "brpoplpush", "bzpopmax", "bzpopmin", "debug", "dump", "eval",
    "eval_ro", "evalsha", "evalsha_ro", "expiremember", "failover", "fcall", "fcall_ro",
    "function", "geoadd", "geodist", "geohash", "geopos", "georadius", "geosearch", "getbit",
    "hexpire", "lastsave", "latency", "lcs", "lindex", "linsert", "llen", "lmove", "lmpop",
    "lolwut", "lpop", "lpos", "lpush", "lpushx", "lrange", "lrem", "lset", "ltrim", "migrate",
    "module", "monitor", "move", "object", "pfadd", "pfcount", "pfmerge", "psubscribe", "psync",
    "publish", "pubsub", "punsubscribe", "replicaof", "restore", "rpop", "rpoplpush", "rpush",
    "rpushx", "save", "script", "setbit", "shutdown", "slaveof", "slowlog", "sort", "sort_ro",
    "spublish", "ssubscribe", "subscribe", "sunsubscribe", "swapdb", "sync", "unsubscribe",
    "xack", "xadd", "xautoclaim", "xclaim", "xdel", "xgroup", "xinfo", "xlen", "xpending",
    "xrange", "xread", "xreadgroup", "xrevrange", "xsetid", "xtrim", "zadd", "zcard", "zcount",
    "zdiff", "zincrby", "zinter", "zinterstore", "zlexcount", "zmscore", "zpopmax", "zpopmin",
    "zrandmember", "zrange", "zrangebylex", "zrangebyscore", "zrangestore", "zrank", "zrem",
    "zremrangebyrank", "zremrangebyscore", "zrevrange", "zrevrangebyscore", "zrevrank", "zscan",
    "zscore", "zunion", "zunionstore",
];

/// The longest name of a command.
const LONGEST_NAME: usize = 16;
/// Evictions that one write may make room with: it waits for these, not for all.
const EVICTIONS: usize = 64;

// === impl Flags ===

impl Flags {
    /// As `COMMAND INFO` names them.
    pub fn names(self) -> Vec<&'static str> {
        [
            (self.write, "write"),
            (self.read, "readonly"),
            (self.grows, "denyoom"),
            (self.fast, "fast"),
        ]
        .into_iter()
        .filter_map(|(set, name)| set.then_some(name))
        .collect()
    }
}

/// The command of this name, in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; LONGEST_NAME];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let index = COMMANDS.binary_search_by(|c| c.name.as_bytes().cmp(lower)).ok()?;
    COMMANDS.get(index)
}

/// Whether carrying out this request may add to the log: within a transaction that is left to
/// `EXEC`.
pub fn may_write(client: &Client, args: Arguments<'_>) -> bool {
    find(args.at(0)).is_some_and(|command| match &client.queue {
        Some(queue) => queue.writes && command.name == "exec",
        None => command.flags.write,
    })
}

/// Carries out a request, or keeps it for later within a transaction. False when it may have taken long.
pub fn dispatch(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) -> bool {
    let mut fast = true;
    cx.store.work().begin();
    cx.store.work().note(Task::Read, args.len());
    let result = check(cx, args, reply).and_then(|command| {
        let Some(command) = command else { return Ok(()) };
        let at_once = ["exec", "discard", "multi", "watch", "quit", "reset"];
        if cx.client.queue.is_some() && !at_once.contains(&command.name) {
            transactions::queue(cx, command.flags, args, reply)
        } else {
            fast = command.flags.fast;
            run(cx, command, args, reply);
            Ok(())
        }
    });
    if let Err(failure) = result {
        spoil(cx);
        reply.error(&failure.to_string());
    }
    // A command or a transaction is one record of the log: all of it or nothing.
    cx.store.end_record();
    fast
}

/// Carries out a request of a transaction.
pub(super) fn execute(cx: &mut Context<'_>, args: Arguments<'_>, reply: &mut Reply<'_>) {
    if let Some(command) = find(args.at(0)) {
        run(cx, command, args, reply);
    }
}

/// Whether the request may be carried out; `None` when it has had its answer.
fn check(
    cx: &mut Context<'_>,
    args: Arguments<'_>,
    reply: &mut Reply<'_>,
) -> Result<Option<&'static Command>, CommandError> {
    let name = args.at(0);
    let Some(command) = find(name) else {
        if is_http(args) {
            return Ok(refuse_http(cx));
        }
        let lower = String::from_utf8_lossy(name).to_ascii_lowercase();
        if NOT_SUPPORTED.contains(&lower.as_str()) {
            spoil(cx);
            not_supported(reply, &lower.to_ascii_uppercase());
            return Ok(None);
        }
        return Err(unknown(args));
    };
    let wanted = usize::from(command.arity.unsigned_abs());
    if args.len() < wanted || command.arity > 0 && args.len() != wanted {
        if is_http(args) {
            return Ok(refuse_http(cx));
        }
        return Err(super::wrong_arity(command.name));
    }
    let open_to_all = ["auth", "hello", "quit", "reset"];
    if !cx.client.authenticated && !open_to_all.contains(&command.name) {
        return Err(CommandError::other("NOAUTH Authentication required."));
    }
    if command.flags.write {
        admit_write(cx, command.flags.grows)?;
    }
    Ok(Some(command))
}

/// Whether this is a line of an HTTP request: somebody has a browser, or a server, send what the store
/// would carry out.
fn is_http(args: Arguments<'_>) -> bool {
    is(args.at(0), "POST")
        || is(args.at(0), "HOST:")
        || args.len() == 3 && args.at(2).starts_with(b"HTTP/")
}

/// Nothing of what follows is carried out, and the journal has it, once in a minute.
fn refuse_http(cx: &mut Context<'_>) -> Option<&'static Command> {
    cx.client.closing = true;
    let refused = &cx.server.refused;
    refused.set(refused.get() + 1);
    if cx.now.saturating_sub(cx.server.http_said.get()) >= 60_000 {
        cx.server.http_said.set(cx.now);
        tracing::warn!(
            "an HTTP request came from {} ({}): somebody may be having a browser or a server send \
             commands to the session store; such connections are closed",
            cx.client.address,
            cx.client.namespace()
        );
    }
    None
}

/// Whether data may be changed now, and whether more of it taken.
pub(super) fn admit_write(cx: &mut Context<'_>, grows: bool) -> Outcome {
    cx.store.check_writable().map_err(CommandError::Other)?;
    if grows && !cx.store.evict(EVICTIONS)? && !cx.store.is_within_share(cx.client.namespace()) {
        return Err(CommandError::other("OOM command not allowed when used memory > 'maxmemory'."));
    }
    Ok(())
}

fn run(cx: &mut Context<'_>, command: &Command, args: Arguments<'_>, reply: &mut Reply<'_>) {
    let start = reply.len();
    let result = locate(cx, command).and_then(|()| (command.handler)(cx, args, reply));
    cx.server.commands.set(cx.server.commands.get() + 1);
    if let Err(failure) = result {
        if let CommandError::Store(failure) = &failure {
            cx.client.again |= cx.store.is_worth_another_try(failure);
        }
        // Half an answer may be there: a handler that fails late has begun an array.
        reply.truncate(start);
        reply.error(&failure.to_string());
    }
}

/// Has the client know the number of its space; a write makes the space.
fn locate(cx: &mut Context<'_>, command: &Command) -> Outcome {
    if cx.client.space == super::super::store::NOWHERE
        && (command.flags.write || command.flags.read)
    {
        let (namespace, database) = (cx.client.namespace.as_str(), cx.client.database);
        cx.client.space = if command.flags.write {
            cx.store.define_space(namespace, database)?
        } else {
            cx.store.space(namespace, database)
        };
    }
    Ok(())
}

fn spoil(cx: &mut Context<'_>) {
    if let Some(queue) = &mut cx.client.queue {
        queue.spoilt = true;
    }
}

fn unknown(args: Arguments<'_>) -> CommandError {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned();
    let mut list = String::new();
    for argument in args.from(1) {
        if list.len() >= 128 {
            break;
        }
        let _ = write!(list, "'{}' ", shown(argument));
    }
    CommandError::Other(format!(
        "ERR unknown command '{}', with args beginning with: {list}",
        shown(args.at(0))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_that_the_search_needs() {
        assert!(COMMANDS.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(COMMANDS.iter().all(|command| command.name.len() <= LONGEST_NAME));
        assert!(NOT_SUPPORTED.iter().all(|name| find(name.as_bytes()).is_none()));
        assert_eq!(find(b"GeT").map(|command| command.name), Some("get"));
        assert!(find(b"a-name-longer-than-every-command").is_none());
    }
}
