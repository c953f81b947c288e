//! What is said of a configuration's import, and how bad it is.

use super::Import;

/// Something that the files do not say, or say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is in the original: `shop: watch`, `nginx.conf:12: gzip`.
    pub at: String,
    /// What it is, and what to do about it.
    pub text: String,
}

/// How bad it is that something is not in the files as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Requests are turned away until somebody has decided.
    Closed,
    /// What the original did is not done.
    Lost,
    /// It is done, in another way.
    Differs,
    /// It is done once somebody has taken this step.
    ToDo,
}

/// How much of a configuration is in the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// All of it does what it did.
    All,
    /// Something is lost or closed.
    WithLosses,
    /// No file could be made.
    Nothing,
}

impl Severity {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Lost => "lost",
            Self::Differs => "differs",
            Self::ToDo => "to do",
        }
    }
}

impl Import {
    /// How much of the original is in it.
    pub fn carried(&self) -> Carried {
        let is_loss = |note: &Note| note.severity <= Severity::Lost;
        if self.files.is_empty() {
            Carried::Nothing
        } else if self.unprotected.is_empty() && !self.notes.iter().any(is_loss) {
            Carried::All
        } else {
            Carried::WithLosses
        }
    }

    /// Says something, once.
    pub(super) fn say(
        &mut self,
        severity: Severity,
        at: impl Into<String>,
        text: impl Into<String>,
    ) {
        let note = Note { severity, at: at.into(), text: text.into() };
        // A snippet that several sites include would be told once for each.
        if self.said.insert(note.clone()) {
            self.notes.push(note);
        }
    }

    /// Says, once, that a rule that keeps somebody out is not in the files.
    pub(super) fn say_unprotected(&mut self, at: impl Into<String>, text: impl Into<String>) {
        let note = Note { severity: Severity::Lost, at: at.into(), text: text.into() };
        if self.said_unprotected.insert(note.clone()) {
            self.unprotected.push(note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::File;
    use super::*;

    #[test]
    fn the_worst_is_said_first_and_has_a_word() {
        let words = [Severity::Closed, Severity::Lost, Severity::Differs, Severity::ToDo];
        assert!(words.is_sorted());
        assert_eq!(words.map(Severity::word), ["closed", "lost", "differs", "to do"]);
    }

    #[test]
    fn how_much_is_carried_over_is_the_worst_that_is_said() {
        let mut import = Import::default();
        assert_eq!(import.carried(), Carried::Nothing);
        import.files.push(File { path: "a".into(), text: String::new(), secret: false });
        import.say(Severity::Differs, "a", "b");
        import.say(Severity::ToDo, "a", "b");
        import.say(Severity::ToDo, "a", "b");
        assert_eq!(import.notes.len(), 2, "the same is said once");
        assert_eq!(import.carried(), Carried::All);
        import.say(Severity::Lost, "a", "b");
        assert_eq!(import.carried(), Carried::WithLosses);
        import.notes.clear();
        import.unprotected.push(Note {
            severity: Severity::Lost,
            at: String::new(),
            text: String::new(),
        });
        assert_eq!(import.carried(), Carried::WithLosses);
    }
}
