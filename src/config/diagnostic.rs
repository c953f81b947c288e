//! What is wrong with the files, shown as rustc shows it: file, line, caret, and what to write.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use crate::base::text;
use crate::base::want;

/// One file as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// Where it was read from; what messages name.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
    /// Where its lines start.
    lines: Vec<usize>,
}

/// A stretch of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    file: Arc<File>,
    span: Range<usize>,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The file is not used.
    Error,
    /// The file is used; somebody should look at it all the same.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    severity: Severity,
    title: String,
    path: PathBuf,
    place: Option<(Place, String)>,
    also: Option<(Place, String)>,
    help: Option<String>,
    /// Nothing is wrong with the file: this process had nothing left to read it with.
    is_ours: bool,
}

/// Everything that is wrong, by file and place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
}

// === impl File ===

impl File {
    /// The file at `path` with this content.
    pub fn new(path: PathBuf, text: String) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        Self { path, text, lines }
    }

    /// The line, from 1, that this byte is on.
    fn line_at(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    /// The whole lines of a span: where they start, and their text.
    fn lines_of(&self, span: &Range<usize>) -> (usize, &str) {
        let start = self.lines[self.line_at(span.start) - 1];
        let end = self.lines.get(self.line_at(span.end)).copied().unwrap_or(self.text.len());
        (start, &self.text[start..end])
    }
}

// === impl Place ===

impl Place {
    /// The stretch `span` of `file`, moved inside the file and onto character borders.
    pub fn new(file: &Arc<File>, span: Range<usize>) -> Self {
        let border = |at: usize| file.text.floor_char_boundary(at);
        let start = border(span.start);
        Self { file: Arc::clone(file), span: start..border(span.end).max(start) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Line, from 1.
    pub fn line(&self) -> usize {
        self.file.line_at(self.span.start)
    }

    /// Column in characters, from 1.
    pub fn column(&self) -> usize {
        let start = self.file.lines[self.line() - 1];
        self.file.text[start..self.span.start].chars().count() + 1
    }
}

// === impl Problem ===

impl Problem {
    /// An error at a place; `label` stands beside the caret.
    pub fn error(place: &Place, title: impl Into<String>, label: impl Into<String>) -> Self {
        Self::at(Severity::Error, place, title.into(), label.into())
    }

    /// A warning at a place.
    pub fn warning(place: &Place, title: impl Into<String>, label: impl Into<String>) -> Self {
        Self::at(Severity::Warning, place, title.into(), label.into())
    }

    /// A problem with a file or directory as a whole.
    pub fn file(severity: Severity, path: &Path, title: impl Into<String>) -> Self {
        let (title, path) = (printable(title.into()), path.to_owned());
        Self { severity, title, path, place: None, also: None, help: None, is_ours: false }
    }

    /// A file or directory (`what`) that could not be read.
    pub(super) fn unread(path: &Path, what: &str, error: &io::Error) -> Self {
        if let Some((lack, mend)) = want::of_reading(error) {
            let title = format!("the {what} was not read: {lack}");
            Self::file(Severity::Error, path, title).help(mend).ours()
        } else {
            let title = format!("the {what} cannot be read: {error}");
            Self::file(Severity::Error, path, title)
        }
    }

    /// For want of something of this process's, and no fault of the file.
    #[must_use]
    pub(crate) fn ours(self) -> Self {
        Self { is_ours: true, ..self }
    }

    fn at(severity: Severity, place: &Place, title: String, label: String) -> Self {
        let path = place.path().to_owned();
        let (title, label) = (printable(title), printable(label));
        let place = Some((place.clone(), label));
        Self { severity, title, path, place, also: None, help: None, is_ours: false }
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(printable(help.into()));
        self
    }

    /// Adds a second place that has to do with it.
    #[must_use]
    pub fn also(mut self, place: &Place, label: impl Into<String>) -> Self {
        self.also = Some((place.clone(), printable(label.into())));
        self
    }

    /// Whether the file is not used because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// What is wrong, in one line.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// What to write instead, where there is something to say.
    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The file that it is in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where in the file, when it is not the file as a whole.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref().map(|(place, _)| place)
    }

    fn render(&self, renderer: &Renderer) -> String {
        let level = if self.is_error() { Level::ERROR } else { Level::WARNING };
        let title = level.primary_title(self.title.as_str());
        let mut group = if let Some((place, label)) = &self.place {
            let primary = (&place.span, label, AnnotationKind::Primary);
            match &self.also {
                None => title.element(snippet(&place.file, &[primary])),
                Some((also, label)) => {
                    let context = (&also.span, label, AnnotationKind::Context);
                    if Arc::ptr_eq(&place.file, &also.file) {
                        title.element(snippet(&place.file, &[primary, context]))
                    } else {
                        title
                            .element(snippet(&place.file, &[primary]))
                            .element(snippet(&also.file, &[context]))
                    }
                }
            }
        } else {
            Group::with_title(title).element(Origin::path(text::path(&self.path)))
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }
}

/// What files hold goes into messages, and messages to terminals and logs: one line, no escapes.
fn printable(text: String) -> String {
    if !text.contains(text::is_command) {
        return text;
    }
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if text::is_command(c) { printable.extend(c.escape_default()) } else { printable.push(c) }
    }
    printable
}

/// The lines that are marked, not the whole file: the renderer takes its time for every line.
fn snippet<'a>(
    file: &'a File,
    marks: &[(&Range<usize>, &'a String, AnnotationKind)],
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let start = marks.iter().map(|(span, ..)| span.start).min().unwrap_or(0);
    let end = marks.iter().map(|(span, ..)| span.end).max().unwrap_or(start);
    let (start, marked) = file.lines_of(&(start..end));
    let annotate = |(span, label, kind): &(&Range<usize>, &'a String, AnnotationKind)| {
        kind.span(span.start - start..span.end - start).label(*label)
    };
    Snippet::source(marked)
        .line_start(file.line_at(start))
        .path(text::path(&file.path))
        .annotations(marks.iter().map(annotate))
}

impl fmt::Display for Problem {
    /// One line for logs: `path:line:column: what is wrong; what to write`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", text::path(&self.path))?;
        if let Some(place) = self.place() {
            write!(f, "{}:{}:", place.line(), place.column())?;
        }
        write!(f, " {}", self.title)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

// === impl Problems ===

impl Problems {
    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Adds an error at a place, with what to write instead.
    pub fn error(
        &mut self,
        place: &Place,
        title: impl Into<String>,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Problem::error(place, title, label).help(help));
    }

    /// Sorts by file and place, so that people can work from top to bottom.
    pub(super) fn sort(&mut self) {
        let start = |p: &Problem| p.place().map(|place| place.span.start);
        self.list.sort_by(|a, b| a.path.cmp(&b.path).then(start(a).cmp(&start(b))));
    }

    /// Whether there is none, not even a warning.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Number of errors, without the warnings.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|p| p.is_error()).count()
    }

    /// Number of warnings.
    pub fn warnings(&self) -> usize {
        self.list.len() - self.errors()
    }

    /// What this process had none left of to read the files with: then nothing is known of them.
    pub(crate) fn want(&self) -> Option<String> {
        let problem = self.list.iter().find(|problem| problem.is_ours)?;
        let mend = problem.help_text().unwrap_or_default();
        Some(format!("{}: {}\n{mend}", text::path(&problem.path), problem.title))
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// All of them as rustc shows its own, with a closing line that counts them.
    pub fn render(&self, color: bool) -> String {
        use fmt::Write as _;
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for problem in &self.list {
            let _ = writeln!(text, "{}\n", problem.render(&renderer));
        }
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        match (self.errors(), self.warnings()) {
            (0, 0) => {}
            (0, w) => text.push_str(&count(w, "warning")),
            (e, 0) => text.push_str(&count(e, "error")),
            (e, w) => {
                let _ = write!(text, "{}, {}", count(e, "error"), count(w, "warning"));
            }
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        self.list.extend(problems);
    }
}

impl std::error::Error for Problems {}
