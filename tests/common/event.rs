//! The events of the journal, by the names that they have in `src/systemd/message.rs`.

const EVENTS: &str = include_str!("../../src/systemd/message.rs");

/// The `MESSAGE_ID=` of an event.
#[track_caller]
pub(crate) fn id(event: &str) -> &'static str {
    let rest = EVENTS.split(&format!("const {event}: &str = \"")).nth(1);
    rest.and_then(|rest| rest.split('"').next()).unwrap_or_else(|| panic!("no event {event}"))
}
