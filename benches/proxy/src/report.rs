//! The table for people and the JSON for everything else.

use std::fmt::Write as _;
use std::fs;

use serde::Serialize;

use crate::measure::Row;
use crate::scenario::{Kind, Scenario};
use crate::stats::Spread;

/// Whose figures are the denominators, in the table's order.
const REFERENCES: [&str; 4] = ["nginx", "haproxy", "forwarder", "baseline"];

/// All that a run has found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Versions by proxy.
    pub(crate) versions: Vec<(&'static str, String)>,
    pub(crate) rounds: usize,
    pub(crate) scenarios: Vec<Section>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    /// One-minute load average before the run: what else was going on.
    load: f64,
}

/// One scenario's results.
#[derive(Debug, Serialize)]
pub(crate) struct Section {
    name: &'static str,
    title: &'static str,
    /// What `figures` and `spread` of the rows are.
    unit: String,
    rows: Vec<Row>,
    ratios: Vec<Ratio>,
}

/// How two proxies compare, round by round.
#[derive(Debug, Serialize)]
struct Ratio {
    peer: &'static str,
    to: &'static str,
    #[serde(flatten)]
    spread: Spread,
    /// Roundsman's aim, where there is one.
    target: Option<f64>,
}

// === impl Machine ===

impl Machine {
    pub(crate) fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find(|l| l.starts_with("model name"));
        let first = |text: String| text.split_whitespace().next().unwrap_or_default().to_owned();
        Self {
            cpu: model.and_then(|l| l.split_once(": ")).map_or("unknown", |(_, m)| m).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: first(read("/proc/sys/kernel/osrelease")),
            load: first(read("/proc/loadavg")).parse().unwrap_or(f64::NAN),
        }
    }
}

// === impl Section ===

impl Section {
    pub(crate) fn new(scenario: &Scenario, rows: Vec<Row>) -> Self {
        let unit = match scenario.kind {
            Kind::Load { .. } => format!("CPU µs/{}", scenario.unit),
            Kind::Latency { .. } | Kind::Crowd { .. } => "p99 µs".to_owned(),
            Kind::Memory { .. } => "bytes".to_owned(),
        };
        let mut ratios = Vec::new();
        for row in &rows {
            for reference in REFERENCES {
                let Some(other) = rows.iter().find(|r| r.peer == reference) else { continue };
                // Rounds are pairs only where none is missing.
                if row.peer == reference || row.figures.len() != other.figures.len() {
                    continue;
                }
                let Some(spread) = Spread::paired(&row.figures, &other.figures) else { continue };
                let target = scenario.targets.iter().find(|t| t.0 == reference);
                let target = target.filter(|_| row.peer == "roundsman").map(|t| t.1);
                ratios.push(Ratio { peer: row.peer, to: reference, spread, target });
            }
        }
        Self { name: scenario.name, title: scenario.title, unit, rows, ratios }
    }

    /// Whether it is this scenario's.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Median of a proxy's throughput.
    pub(crate) fn median_per_second(&self, peer: &str) -> Option<f64> {
        self.rows.iter().find(|r| r.peer == peer)?.per_second.map(|s| s.median)
    }

    /// What went wrong: proxy and error.
    pub(crate) fn errors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rows.iter().flat_map(|r| r.errors.iter().map(|e| (r.peer, e.as_str())))
    }

    /// As Markdown, which a terminal shows just as well.
    pub(crate) fn table(&self) -> String {
        let mut out = format!("### {}\n\n", self.title);
        let scale = if self.unit == "bytes" { 1e6 } else { 1.0 };
        let unit = if self.unit == "bytes" { "MB" } else { &self.unit };
        let present: Vec<_> =
            REFERENCES.iter().filter(|&&r| self.rows.iter().any(|row| row.peer == r)).collect();
        let latency = unit.starts_with("p99");
        let load = unit.starts_with("CPU");
        let mut head = vec!["proxy".to_owned(), unit.to_owned()];
        if load {
            head.extend(["user", "core", "per s", "syscalls"].map(str::to_owned));
        }
        if latency {
            head.extend(["p50 µs", "p99.9 µs", "core", "per s"].map(str::to_owned));
        }
        let crowd = self.rows.iter().any(|row| row.p99_beside_alone.is_some());
        if crowd {
            head.extend(
                ["p99 beside/alone", "p50 beside/alone", "CPU beside/alone"].map(str::to_owned),
            );
        }
        head.extend(present.iter().map(|r| format!("vs {r}")));
        let _ = writeln!(out, "| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
        for row in &self.rows {
            let mut cells = vec![row.peer.to_owned(), spread(row.spread, scale)];
            let percent =
                |f: Option<f64>| f.map_or("–".into(), |f| format!("{:.0} %", f * 100.0));
            let median = |s: Option<Spread>| s.map_or("–".into(), |s| format!("{:.0}", s.median));
            if load {
                let syscalls = row.system_calls.map_or("–".into(), |n| format!("{n:.2}"));
                cells.extend([
                    percent(row.user_share),
                    percent(row.busy),
                    median(row.per_second),
                    syscalls,
                ]);
            }
            if latency {
                cells.extend([median(row.p50_us), spread(row.p999_us, 1.0)]);
                cells.extend([percent(row.busy), median(row.per_second)]);
            }
            if crowd {
                let ratios = [row.p99_beside_alone, row.p50_beside_alone, row.cpu_beside_alone];
                cells.extend(ratios.map(|r| {
                    r.map_or("–".into(), |s| {
                        format!("**{:.2}** ({:.2}–{:.2})", s.median, s.q1, s.q3)
                    })
                }));
            }
            cells.extend(present.iter().map(|r| self.ratio(row.peer, r)));
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        }
        out
    }

    fn ratio(&self, peer: &str, to: &str) -> String {
        let Some(r) = self.ratios.iter().find(|r| r.peer == peer && r.to == to) else {
            return "–".to_owned();
        };
        let Spread { q1, median, q3 } = r.spread;
        let verdict = r.target.map_or(String::new(), |target| {
            let verdict = if median <= target { "met" } else { "MISSED" };
            format!(", aim {target:.2} {verdict}")
        });
        format!("**{median:.2}** ({q1:.2}–{q3:.2}{verdict})")
    }
}

fn spread(spread: Option<Spread>, scale: f64) -> String {
    let Some(Spread { q1, median, q3 }) = spread else { return "–".to_owned() };
    let digits = usize::from(median / scale < 1000.0);
    format!("{:.digits$} ({:.digits$}–{:.digits$})", median / scale, q1 / scale, q3 / scale)
}
