//! What tests of several kinds use.

pub(crate) mod algorithms;
pub(crate) mod backend;
pub(crate) mod event;
pub(crate) mod guide;
pub(crate) mod http;
pub(crate) mod program;
pub(crate) mod python;
pub(crate) mod random;
pub(crate) mod skip;
pub(crate) mod waiting;
