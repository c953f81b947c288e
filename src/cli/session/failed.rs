//! How the tools of the session store end, and what they print.

use serde::Serialize;

use crate::base::exit;
use crate::cli::manage;
use crate::session::store::OpenError;

/// Why it did not work: exit status and words.
pub(super) struct Failed(pub(super) u8, pub(super) String);

impl Failed {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(exit::FAILURE, message.into())
    }
}

impl From<OpenError> for Failed {
    fn from(error: OpenError) -> Self {
        let code = match error {
            OpenError::InUse(_) => exit::UNAVAILABLE,
            _ => exit::OS,
        };
        Self(code, error.to_string())
    }
}

/// Prints a result for programs.
pub(super) fn print_json(result: &impl Serialize) {
    manage::print(&serde_json::to_string_pretty(result).unwrap_or_default());
}
