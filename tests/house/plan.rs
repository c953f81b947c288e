//! The plan in the documentation, and where the sources are not like it.

use std::collections::{BTreeMap, BTreeSet};

use super::imports::Sources;

/// The floors, and the circles that are put up with.
pub(crate) struct Plan {
    /// From the top: the rooms (directories, or files of src itself) of each floor.
    floors: Vec<Vec<String>>,
    /// Imports that may close a circle of files.
    circles: BTreeSet<(String, String)>,
}

impl Plan {
    /// Takes it from the blocks `plan` and `circles` of a text.
    pub(crate) fn read(text: &str) -> Self {
        let block = |name: &str| -> Vec<&str> {
            let start = format!("```{name}");
            let lines = text.lines().skip_while(|line| *line != start).skip(1);
            lines.take_while(|line| *line != "```").filter(|line| !line.is_empty()).collect()
        };
        let plan = block("plan");
        let floors = plan.split(|line| line.starts_with("--")).map(|floor| {
            floor.iter().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
        });
        let circles = block("circles").into_iter().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(words.len() > 3 && words[1] == "->", "write FROM -> TO  REASON: {line}");
            (words[0].to_owned(), words[2].to_owned())
        });
        let plan = Self { floors: floors.collect(), circles: circles.collect() };
        assert!(plan.floors.len() > 1, "there is no plan");
        plan
    }

    /// The number of a room's floor, from the top.
    fn floor(&self, room: &str) -> Option<usize> {
        self.floors.iter().position(|floor| floor.iter().any(|known| known == room))
    }

    /// Where the sources are not as planned, in words.
    pub(crate) fn faults(&self, sources: &Sources) -> Vec<String> {
        let mut faults = BTreeSet::new();
        for (file, used) in sources.rooms() {
            let room = Sources::room(file);
            let Some(floor) = self.floor(room) else {
                faults.insert(format!("{room} is not in the plan"));
                continue;
            };
            for used in used.iter().filter(|used| *used != room) {
                let place = match self.floor(used) {
                    Some(below) if below > floor => continue,
                    Some(beside) if beside == floor => "beside it",
                    Some(_) => "above it",
                    None => "not in the plan",
                };
                faults.insert(format!("{file} uses {used}, which is {place}"));
            }
        }
        for room in self.floors.iter().flatten() {
            if !sources.rooms().any(|(file, _)| Sources::room(file) == room) {
                faults.insert(format!("{room} is in the plan and not in src"));
            }
        }
        let mut edges = sources.files();
        for (from, to) in &self.circles {
            let closes = edges.get(from).is_some_and(|used| used.contains(to))
                && path(&edges, to, from).is_some();
            if !closes {
                faults.insert(format!("{from} -> {to} is listed as a circle and is none"));
            }
            edges.entry(from.clone()).or_default().remove(to);
        }
        // Each circle once, from the first of its files.
        let mut seen = BTreeSet::new();
        for (from, used) in &edges {
            for to in used {
                if !seen.contains(from)
                    && let Some(mut circle) = path(&edges, to, from)
                {
                    seen.extend(circle.iter().cloned());
                    circle.insert(0, from.clone());
                    faults.insert(format!("in a circle: {}", circle.join(" -> ")));
                }
            }
        }
        faults.into_iter().collect()
    }
}

/// The shortest way from one file to another.
fn path(edges: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> Option<Vec<String>> {
    let mut ways = std::collections::VecDeque::from([vec![from.to_owned()]]);
    let mut seen = BTreeSet::from([from.to_owned()]);
    while let Some(way) = ways.pop_front() {
        let last = way.last()?;
        if last == to {
            return Some(way);
        }
        for next in edges.get(last).into_iter().flatten() {
            if seen.insert(next.clone()) {
                ways.push_back(way.iter().cloned().chain([next.clone()]).collect());
            }
        }
    }
    None
}
