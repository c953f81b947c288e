//! The session store as its clients see it: the real binary, over a real socket.

mod access;
mod client;
mod crash;
mod damage;
mod differential;
mod disk;
mod hostile;
mod persistence;
mod redis;
mod server;
mod shares;
mod tools;
