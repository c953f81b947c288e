//! Measures the front against nginx, HAProxy and a raw TCP forwarder, side by side.
//!
//! The method and how to read the table: docs/performance.md.

mod forward;
mod identity;
mod load;
mod measure;
mod message;
mod peer;
mod poll;
mod process;
mod report;
mod scenario;
mod stats;
mod upstream;

use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};

use peer::{LOAD_CORE, Peer, Running};
use report::{Machine, Report, Section};
use scenario::{Kind, SCENARIOS, Scenario};

/// Descriptors for 10,000 idle connections and what else there is.
const DESCRIPTORS: u64 = 11_000;

/// Measures proxies side by side.
#[derive(Debug, Parser)]
#[command(name = "proxy-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios, print a table, write JSON; fails only when a reply was wrong
    Run(Run),
    /// List the scenarios
    List,
    /// The tiny server behind the proxies (started by `run`)
    Upstream { listen: SocketAddr },
    /// The raw TCP forwarder (started by `run`)
    Forward { listen: SocketAddr, upstream: SocketAddr },
}

#[derive(Debug, clap::Args)]
struct Run {
    /// The release binary of Roundsman; without it, the others are compared
    #[arg(long, value_name = "PATH")]
    roundsman: Option<PathBuf>,
    /// A release binary from before a change, to compare with
    #[arg(long, value_name = "PATH")]
    baseline: Option<PathBuf>,
    /// Only these scenarios, by name, separated by commas
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// Only these proxies, by name, separated by commas
    #[arg(long, value_delimiter = ',')]
    proxy: Vec<String>,
    /// How often each proxy is measured in each scenario
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Where the results go as JSON
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(options) => run(&options),
        Command::List => {
            for scenario in SCENARIOS {
                println!("{:<16} {}", scenario.name, scenario.title);
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Upstream { listen } => upstream::run(listen).map(|()| ExitCode::SUCCESS),
        Command::Forward { listen, upstream } => {
            forward::run(listen, upstream).map(|()| ExitCode::SUCCESS)
        }
    }
}

fn run(options: &Run) -> Result<ExitCode> {
    let chosen = chosen(&options.scenario)?;
    ensure!(options.rounds > 0, "--rounds: at least one");
    let machine = Machine::this();
    prepare()?;

    let mut peers = vec![Peer::Nginx, Peer::NginxUntuned, Peer::Haproxy, Peer::Forwarder];
    peers.extend(options.baseline.clone().map(Peer::Baseline));
    peers.extend(options.roundsman.clone().map(Peer::Roundsman));
    let wanted: Vec<_> = options.proxy.iter().filter(|name| !name.is_empty()).collect();
    for name in &wanted {
        ensure!(peers.iter().any(|p| p.name() == *name), "no proxy {name:?} here");
    }
    peers.retain(|p| wanted.is_empty() || wanted.iter().any(|name| p.name() == *name));
    let versions = peers.iter().map(|p| Ok((p.name(), p.version()?))).collect::<Result<_>>()?;
    let upstream = Running::upstream()?;
    let mut report = Report { machine, versions, rounds: options.rounds, scenarios: Vec::new() };
    println!("{}", serde_json::to_string(&report.machine)?);
    println!("{:?}\n", report.versions);
    let mut wrong = 0;
    for scenario in chosen {
        let peers: Vec<_> = peers.iter().filter(|p| takes_part(p, scenario)).cloned().collect();
        let rate = match scenario.kind {
            Kind::Latency { connections, work } | Kind::Crowd { connections, work, .. } => {
                let known = report.scenarios.iter().find(|s| s.is("keepalive-64"));
                let known = known.and_then(|s| s.median_per_second("nginx"));
                Some(match known {
                    Some(peak) => peak / 2.0,
                    None => measure::half_of_peak(upstream.address, connections, work)?,
                })
            }
            _ => None,
        };
        let rows = measure::scenario(scenario, &peers, upstream.address, options.rounds, rate)
            .with_context(|| scenario.name)?;
        let section = Section::new(scenario, rows);
        println!("{}", section.table());
        for (peer, error) in section.errors() {
            eprintln!("WRONG: {}: {peer}: {error}", scenario.name);
            wrong += 1;
        }
        report.scenarios.push(section);
    }
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn takes_part(peer: &Peer, scenario: &Scenario) -> bool {
    match peer {
        Peer::NginxUntuned => scenario.untuned,
        Peer::Forwarder => scenario.floor,
        _ => true,
    }
}

fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>> {
    let names: Vec<_> = names.iter().filter(|n| !n.is_empty()).collect();
    for name in &names {
        ensure!(
            SCENARIOS.iter().any(|s| s.name == name.as_str()),
            "no scenario {name:?}; there are: {}",
            SCENARIOS.iter().map(|s| s.name).collect::<Vec<_>>().join(", ")
        );
    }
    let wanted = |s: &&Scenario| names.is_empty() || names.iter().any(|n| *n == s.name);
    Ok(SCENARIOS.iter().filter(wanted).collect())
}

/// Puts this process on the load's core, with precise timers and enough descriptors, which the
/// proxies inherit.
fn prepare() -> Result<()> {
    ensure!(
        std::thread::available_parallelism()?.get() > LOAD_CORE,
        "two cores are needed: one for the proxy, one for the load"
    );
    let mut cores = CpuSet::new();
    cores.set(LOAD_CORE);
    sched_setaffinity(None, &cores).context("pinning to core 1")?;
    set_current_timer_slack(NonZeroU64::new(1)).context("timer slack")?;
    let limit = getrlimit(Resource::Nofile);
    ensure!(
        limit.maximum.is_none_or(|m| m >= DESCRIPTORS),
        "at least {DESCRIPTORS} descriptors are needed: see `ulimit -Hn`"
    );
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(())
}
