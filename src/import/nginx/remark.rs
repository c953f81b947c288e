//! What is said of a directive that comes to no line of a file.

use super::super::Severity;

/// What is said, and how bad it is.
pub(super) struct Remark {
    /// What it is a part of, where one sentence goes for all.
    pub(super) family: Option<&'static str>,
    pub(super) severity: Severity,
    pub(super) text: String,
}

impl Remark {
    pub(super) fn lost(text: impl Into<String>) -> Self {
        Self { family: None, severity: Severity::Lost, text: text.into() }
    }

    pub(super) fn differs(text: impl Into<String>) -> Self {
        Self { family: None, severity: Severity::Differs, text: text.into() }
    }

    pub(super) fn family(family: &'static str, severity: Severity, text: &str) -> Self {
        Self { family: Some(family), severity, text: text.to_owned() }
    }
}
