//! The difference between two versions of a small file, line by line.

use std::fmt::Write as _;

/// A line of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// In both.
    Same(&'a str),
    /// Only in the old one.
    Old(&'a str),
    /// Only in the new one.
    New(&'a str),
}

/// All lines of both, by the longest common subsequence.
pub(crate) fn lines<'a>(old: &'a str, new: &'a str) -> Vec<Line<'a>> {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    // common[i][j]: how many lines a[i..] and b[j..] have in common. Files have some dozen lines.
    let mut common = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut out = Vec::new();
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            out.push(Line::Same(a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            out.push(Line::Old(a[i]));
            i += 1;
        } else {
            out.push(Line::New(b[j]));
            j += 1;
        }
    }
    out
}

/// As text: changed lines with `-` and `+`, and one line around each; empty when nothing differs.
pub(crate) fn text(old: &str, new: &str) -> String {
    let lines = lines(old, new);
    let changed = |i: usize| lines.get(i).is_some_and(|line| !matches!(line, Line::Same(_)));
    let mut out = String::new();
    for (i, line) in lines.iter().enumerate() {
        let near = changed(i) || changed(i + 1) || (i > 0 && changed(i - 1));
        // Writing to a string cannot fail.
        let _ = match line {
            Line::Old(text) => writeln!(out, "- {text}"),
            Line::New(text) => writeln!(out, "+ {text}"),
            Line::Same(text) if near => writeln!(out, "  {text}"),
            Line::Same(_) => Ok(()),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_shown_with_their_neighbours() {
        let old = "a\nb\nc\nd\ne\n";
        assert_eq!(text(old, "a\nb\nX\nd\ne\n"), "  b\n- c\n+ X\n  d\n");
        assert_eq!(text(old, old), "");
        assert_eq!(text("", "a\n"), "+ a\n");
        assert_eq!(text("a\n", ""), "- a\n");
    }

    #[test]
    fn as_much_as_can_be_is_the_same() {
        for (old, new, same) in [
            ("a\nb\nc\n", "c\na\nb\n", "ab"),
            ("c\na\nb\n", "a\nb\nc\n", "ab"),
            ("a\nx\nb\ny\nc\n", "a\nb\nc\nx\n", "abc"),
            ("a\nb\na\nb\na\n", "b\na\nb\n", "bab"),
            ("a\nb\n", "b\na\nb\na\nb\n", "ab"),
        ] {
            let lines = lines(old, new);
            let kept = lines.iter().filter_map(|line| match line {
                Line::Same(text) => Some(*text),
                _ => None,
            });
            assert_eq!(kept.collect::<String>(), same, "{old:?} {new:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn both_files_can_be_read_from_it(old in "[abc\n]{0,20}", new in "[abc\n]{0,20}") {
            let lines = lines(&old, &new);
            let side = |other: fn(&Line<'_>) -> bool| -> Vec<String> {
                lines.iter().filter(|line| !other(line)).map(|line| match line {
                    Line::Same(text) | Line::Old(text) | Line::New(text) => (*text).to_owned(),
                }).collect()
            };
            let of = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
            proptest::prop_assert_eq!(side(|line| matches!(line, Line::New(_))), of(&old));
            proptest::prop_assert_eq!(side(|line| matches!(line, Line::Old(_))), of(&new));
        }
    }
}
