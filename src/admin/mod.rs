//! The control API over the admin socket: status, drain, reload.
