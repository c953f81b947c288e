//! Deploys: the rolling replacement of an app's workers.
//!
//! [`Roll`] decides, without doing anything itself: events in, actions out. [`execute`] does what
//! it says, over D-Bus and the front's admin socket.

pub(crate) mod able;
pub(crate) mod drift;
pub(crate) mod execute;
pub(crate) mod front;
pub(crate) mod listener_queue;
pub(crate) mod progress;
pub(crate) mod record;
pub(crate) mod release;
pub(crate) mod roll;
pub(crate) mod sockets;
pub(crate) mod surge;

pub use roll::{Action, Event, Outcome, Plan, Roll};
