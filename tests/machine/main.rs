//! End-to-end tests on freshly booted Debian machines, one machine per test: what the package
//! promises, seen with `apt`, `systemctl`, `journalctl`, `curl` and `roundsman` alone.
//!
//! They need root (for containers) and the built package: `make test-machine` sees to both.

mod harness;

mod install;
mod upgrade_purge;
