//! The privileged helper: what members of the group `roundsman` may have done as root.
//!
//! It is made of systemd's own parts. `roundsman-helper.socket` starts a `roundsman helper` for each
//! connection, so nothing of ours runs while nobody asks. The helper looks at who asks
//! ([`peer`](crate::base::peer)), reads one line that says what is wanted ([`request`]: a handful of verbs over configured apps,
//! nothing that names a file, a command or a user), and runs the very command that root would type;
//! its output and its end go back over the connection ([`frame`]). A client that goes away, or sends
//! an interrupt, is to that command what Ctrl-C is to root's.

pub(crate) mod client;
pub(crate) mod frame;
pub(crate) mod request;
pub(crate) mod serve;

pub(crate) use request::Request;
