//! The session store as its clients see it: the real binary, over a real socket.

mod access;
mod client;
mod collections;
mod crash;
mod damage;
mod differential;
mod disk;
mod hostile;
mod libraries;
mod persistence;
mod redis;
mod server;
mod shares;
mod syncs;
mod tools;
mod turns;
mod watch;
