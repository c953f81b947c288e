//! The session store as its clients see it: the real binary, over a real socket.

mod client;
mod crash;
mod damage;
mod differential;
mod hostile;
mod persistence;
mod redis;
mod server;
mod tools;
