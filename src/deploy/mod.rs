//! Deploys: the rolling replacement of an app's workers.
//!
//! [`Roll`] decides, without doing anything itself: events in, actions out. [`execute`] does what
//! it says, over D-Bus and the front's admin socket.

pub mod drift;
pub mod execute;
pub mod front;
pub mod interrupts;
pub mod progress;
pub mod record;
pub mod release;
pub mod roll;
pub mod surge;

pub use roll::{Action, Event, Outcome, Plan, Roll};
