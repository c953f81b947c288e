//! Every command with a small part of the largest that it may be asked for: it takes no more than that part of the
//! steps of a request, or is refused, whether what it needs is in memory or has to be read from the file.

use std::collections::BTreeSet;

use super::super::protocol::{Arguments, Reply, Version};
use super::super::store::value::{MOST_BYTES, MOST_ELEMENTS};
use super::super::store::{MOST_STEPS, Options, Store};
use super::{COMMANDS, Client, Context, Identity, ServerInfo, dispatch};
use crate::config::settings::SessionSync;

const PART: usize = 500;
const ELEMENTS: usize = MOST_ELEMENTS / PART;
/// Keys that one request may name.
const KEYS: usize = 100_000 / PART;
/// Arguments that one request may have.
const ARGUMENTS: usize = 1_000_000 / PART;

/// Requests, one a line; those of a transaction behind each other. `s` and `t` are sets, `h` is a hash, `v` a string,
/// each as large as it may be, `n` a number. `KEYS` stands for as many keys as may be named, `PAIRS` for keys with values,
/// `MANY` for as many arguments as there may be, `LONG` for a long one.
const LARGEST: &str = "
append v x
auth any
client list
client info
cluster info
command docs
command getkeys mset PAIRS
command list filterby pattern *
config get *
copy s new
copy h new
copy v new
copy s t replace
dbsize
decr n
decrby n 1
del KEYS
del s t h v
discard
echo LONG
multi; sinter s t; smembers s; hgetall h; exec
exists KEYS
exists s t h v s t h v
expire s 100
expire s -1
expireat s 1
expiretime s
flushall
flushdb
get v
getdel v
getex v persist
getrange v 0 -1
getset v LONG
hdel h MANY
hdel h f1
hello 2
hexists h f1
hget h f1
hgetall h
hincrby h new 1
hincrbyfloat h new 1
hkeys h
hlen h
hmget h MANY
hmset h MANY
hrandfield h MANYTH
hrandfield h
hscan h 0 count 1000000
hset h MANY
hset h new LONG
hsetnx h new LONG
hstrlen h f1
hvals h
incr n
incrby n 1
incrbyfloat n 1
info everything
keys *
memory usage s
mget KEYS
mget v v v v
mset PAIRS
msetnx PAIRS
multi
persist s
pexpire s 1000
pexpireat s 1
pexpiretime s
ping LONG
psetex v 1000 LONG
pttl s
quit
randomkey
readonly
readwrite
rename s t
rename h new
renamenx s new
reset
role
sadd s MANY
sadd s new
scan 0 count 1000000 match *
scard s
sdiff s t
sdiffstore new s t
select 1
set v LONG
set v LONG get
setex v 100 LONG
setnx new LONG
setrange v 60000 x
sinter s t
sinter KEYS
sintercard 2 s t
sinterstore new s t
sismember s m1
smembers s
smismember s MANY
smove s t m1
smove s t only
spop s
spop s MANYTH
srandmember s MANYTH
srandmember s
srem s MANY
srem s m1
sscan s 0 count 1000000 match *
strlen v
substr v 0 -1
sunion s t
sunionstore new s t
time
touch KEYS
ttl s
type s
unlink KEYS
unlink s t h v
unwatch
wait 0 0
watch KEYS
";

struct World {
    store: Store,
    server: ServerInfo,
    client: Client,
    in_file: bool,
    _directory: tempfile::TempDir,
}

impl World {
    fn new(in_file: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            directory: directory.path().to_owned(),
            sync: SessionSync::EverySecond,
            max_size: u64::MAX,
            memory: 64 * 1024 * 1024,
            verified: None,
        };
        let (store, _problems) = Store::open(options).unwrap();
        let client = Client::new(1, Identity::Admin, String::new(), 0);
        let server = ServerInfo::default();
        Self { store, server, client, in_file, _directory: directory }
    }

    /// Carries out a request; returns its steps and its reply.
    fn ask(&mut self, words: &[Vec<u8>]) -> (u64, String) {
        let bytes = words.concat();
        let mut end = 0;
        let mut ranges = Vec::new();
        for word in words {
            ranges.push(end..end + word.len());
            end += word.len();
        }
        let mut context = Context {
            store: &mut self.store,
            client: &mut self.client,
            server: &self.server,
            now: 1000,
            scratch: Vec::new(),
        };
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, Version::Two);
        dispatch(&mut context, Arguments::new(&bytes, &ranges), &mut reply);
        self.store.write_log().unwrap();
        (self.store.work().spent(), String::from_utf8_lossy(&out).into_owned())
    }

    fn say(&mut self, line: &str) -> (u64, String) {
        let words: Vec<Vec<u8>> = line.split_whitespace().flat_map(expand).collect();
        self.ask(&words)
    }

    /// Everything as it was at the beginning.
    fn fill(&mut self) {
        self.client = Client::new(1, Identity::Admin, String::new(), 0);
        self.say("flushall");
        for key in ["s", "t"] {
            let members = (0..ELEMENTS).map(|n| format!("m{n}")).collect::<Vec<_>>().join(" ");
            assert_eq!(self.say(&format!("sadd {key} {members}")).1, format!(":{ELEMENTS}\r\n"));
        }
        self.say("sadd s only");
        let fields = (0..ELEMENTS).map(|n| format!("f{n} x")).collect::<Vec<_>>().join(" ");
        assert_eq!(self.say(&format!("hset h {fields}")).1, format!(":{ELEMENTS}\r\n"));
        for line in ["set v LONG", "set n 5", "mset PAIRS"] {
            assert_eq!(self.say(line).1, "+OK\r\n", "{line}");
        }
        if self.in_file {
            self.store.settle_all();
        }
    }
}

fn expand(word: &str) -> Vec<Vec<u8>> {
    let words = |count: usize, word: fn(usize) -> String| -> Vec<Vec<u8>> {
        (0..count).map(|number| word(number).into_bytes()).collect()
    };
    match word {
        "KEYS" => words(KEYS, |n| format!("key{n}")),
        "PAIRS" => {
            words(2 * KEYS, |n| if n % 2 == 0 { format!("key{}", n / 2) } else { "x".into() })
        }
        "MANY" => words(ARGUMENTS, |n| format!("a{n}")),
        "MANYTH" => vec![ELEMENTS.to_string().into_bytes()],
        "LONG" => vec![vec![b'x'; MOST_BYTES / PART]],
        word => vec![word.as_bytes().to_vec()],
    }
}

#[test]
fn no_command_takes_more_steps_than_a_request_may() {
    let lines: Vec<&str> = LARGEST.lines().filter(|line| !line.is_empty()).collect();
    let commands =
        |line: &str| line.split("; ").last().unwrap().split(' ').next().unwrap().to_owned();
    let tried: BTreeSet<String> = lines.iter().map(|line| commands(line)).collect();
    let known: BTreeSet<String> = COMMANDS.iter().map(|command| command.name.to_owned()).collect();
    assert_eq!(tried, known, "each command is tried");
    let most = MOST_STEPS / PART as u64;
    for in_file in [false, true] {
        let mut world = World::new(in_file);
        world.fill();
        world.store.work().allow(most);
        let (mut costs, mut faults) = (Vec::new(), Vec::new());
        for line in &lines {
            let (mut steps, mut reply) = (0, String::new());
            for request in line.split("; ") {
                (steps, reply) = world.say(request);
            }
            let is_refused =
                ["takes too long", "was not carried out"].iter().any(|text| reply.contains(text));
            if steps > most && !is_refused {
                faults.push(format!("{line}: {steps} of {most} steps"));
            }
            let command = COMMANDS.iter().find(|known| known.name == commands(line)).unwrap();
            let reads_all = ["smembers", "hgetall", "hkeys", "hvals", "sscan", "hscan"];
            if reads_all.contains(&command.name) && steps < 10 * ELEMENTS as u64 {
                faults.push(format!("{line}: {steps} steps are too few"));
            }
            costs.push((steps, *line));
            if !command.flags.read {
                world.store.work().allow(MOST_STEPS);
                world.fill();
                world.store.work().allow(most);
            }
        }
        assert!(faults.is_empty(), "in the file: {in_file}: {faults:#?}");
        costs.sort_unstable();
        println!("in the file: {in_file}; most steps: {:?}", &costs[costs.len() - 5..]);
    }
}

#[test]
fn a_collection_grows_to_its_bound_and_it_is_said() {
    let mut world = World::new(false);
    let pieces = |prefix: &str, count: usize| -> String {
        (0..count).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>().join(" ")
    };
    world.say(&format!("sadd s {}", pieces("m", MOST_ELEMENTS)));
    assert_eq!(world.say("sadd s m1 m2").1, ":0\r\n", "nothing is added");
    let (_, refused) = world.say("sadd s one-more");
    assert!(refused.contains("400000 elements") && refused.contains("several keys"), "{refused}");
    world.say("sadd t one-more");
    for request in ["smove t s one-more", "sunionstore u s t"] {
        assert!(world.say(request).1.contains("400000 elements"), "{request}");
    }
    assert_eq!(world.say("sismember t one-more").1, ":1\r\n", "nothing has happened");
    world.say("srem s m1");
    assert_eq!(world.say("smove t s one-more").1, ":1\r\n");

    let half = "x".repeat(MOST_BYTES / 2);
    world.say(&format!("hset h a {half}"));
    for request in ["hset h b", "hmset h c 1 b", "hsetnx h b"] {
        assert!(world.say(&format!("{request} {half}")).1.contains("33554432 bytes"), "{request}");
    }
    assert_eq!(world.say("hset h a x b y a z").1, ":1\r\n", "it gets smaller");
    assert_eq!(world.say(&format!("hset h b {half}")).1, ":0\r\n");
}
