//! A deploy under load as a moving picture, from a real run: `make recording`.

use std::fmt::Write as _;
use std::time::Duration;

use crate::harness::{Clients, Debian, Machine};
use crate::shop;

const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/pictures/reload.svg");

const COMMAND: &str = "roundsman reload shop";

/// How long the end stands before it begins anew.
const END: f64 = 5.0;

/// What stands on a line of the terminal from one moment on, to another or to the end.
struct Shown {
    from: f64,
    to: Option<f64>,
    line: usize,
    class: &'static str,
    text: String,
}

#[test]
#[ignore = "writes a file of the documentation"]
fn a_reload_under_load() {
    let machine = Machine::boot(Debian::Trixie);
    shop::install(&machine, 4, "");
    shop::release(&machine, "two", "late:300");
    let load = machine.load(Clients::new(24, 8).unhurried());
    load.goes_on_for(500);

    // Each line of the command with the time at which it came.
    machine.run(&format!(
        "{{ ({COMMAND}; echo \"ended: $?\") 2>&1 | while read -r line; do echo \"$(date +%s.%N) $line\"; done; }} \
         > /tmp/said 2>&1 < /dev/null & date +%s.%N > /tmp/began"
    ));
    let (began, before) = (load.elapsed(), load.answered());
    let mut counts = Vec::new();
    machine.eventually("it has ended", |machine| {
        counts.push((load.elapsed().saturating_sub(began), load.answered() - before));
        machine.run("cat /tmp/said").contains("ended: ")
    });
    load.goes_on_for(100);
    let tally = load.stop();
    tally.assert_nothing_failed();

    let began: f64 = machine.run("cat /tmp/began").trim().parse().expect("a time");
    let said = machine.run("cat /tmp/said");
    let lines: Vec<(f64, &str)> = said
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(at, text)| (at.parse::<f64>().expect("a time") - began, text))
        .filter(|(_, text)| !text.is_empty() && *text != "ended: 0")
        .collect();
    assert!(said.contains("ended: 0"), "{said}");
    assert!(counts.last().is_some_and(|(_, count)| *count > 0), "nobody asked meanwhile");
    std::fs::write(PICTURE, picture(&lines, &counts)).expect("docs can be written");
}

fn picture(lines: &[(f64, &str)], counts: &[(Duration, u64)]) -> String {
    let mut shown =
        vec![Shown { from: 0.0, to: None, line: 0, class: "p", text: format!("# {COMMAND}") }];
    for (number, (at, text)) in lines.iter().enumerate() {
        let text = (*text).to_owned();
        shown.push(Shown { from: at.max(0.1), to: None, line: number + 1, class: "t", text });
    }
    let last = lines.len() + 2;
    for (number, (at, count)) in counts.iter().enumerate() {
        let text = format!("32 clients ask meanwhile: {count} requests answered, 0 failed");
        let to = counts.get(number + 1).map(|(at, _)| at.as_secs_f64());
        shown.push(Shown { from: at.as_secs_f64(), to, line: last, class: "g", text });
    }
    let whole = shown.iter().map(|shown| shown.from).fold(0.0, f64::max) + END;

    let (mut frames, mut texts) = (String::new(), String::new());
    for (number, Shown { from, to, line, class, text }) in shown.iter().enumerate() {
        let percent = |at: f64| 100.0 * at / whole;
        let _ = write!(
            frames,
            "@keyframes k{number}{{0%{{opacity:0}}{:.2}%{{opacity:1}}",
            percent(*from)
        );
        if let Some(to) = to {
            let _ = write!(frames, "{:.2}%{{opacity:0}}", percent(*to));
        }
        let _ = writeln!(frames, "}}.k{number}{{animation-name:k{number}}}");
        // Who wants nothing to move sees the end.
        let passing = if to.is_some() { " passing" } else { "" };
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let y = 34 + 19 * line;
        let _ = writeln!(
            texts,
            "<text class=\"{class} k{number}{passing}\" x=\"16\" y=\"{y}\">{text}</text>"
        );
    }
    let height = 34 + 19 * last + 16;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 780 {height}\" \
         font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,monospace\" font-size=\"13\">\n\
         <title>A deploy of four workers while 32 clients ask: no request fails</title>\n<style>\n\
         rect{{fill:#0d1117;stroke:#6e7681}}.t{{fill:#e6edf3}}.p{{fill:#ffffff;font-weight:600}}.g{{fill:#3fb950}}\n\
         text{{animation-duration:{whole:.1}s;animation-timing-function:step-end;animation-iteration-count:infinite}}\n\
         @media (prefers-reduced-motion:reduce){{text{{animation:none!important}}.passing{{display:none}}}}\n\
         {frames}</style>\n<rect x=\"1\" y=\"1\" width=\"778\" height=\"{}\" rx=\"6\"/>\n{texts}</svg>\n",
        height - 2
    )
}
