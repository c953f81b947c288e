//! End-to-end tests on freshly booted Debian machines, one machine per test: what the package
//! promises, seen with `apt`, `systemctl`, `journalctl`, `curl` and `roundsman` alone.
//!
//! They need root (for containers) and the built package: `make test-machine` sees to both.

mod chaos;
mod handoff;
mod harness;
mod hostile_users;

mod app_kinds;
mod background;
mod balancing;
mod commands;
mod crash;
mod deploy;
mod drift;
mod handover;
mod idle;
mod install;
mod interrupts;
mod journal;
mod manage;
mod messages;
mod misbehaving_apps;
mod mistakes;
mod moves;
mod node_cluster;
mod peers_comparison;
mod pm2_cases;
mod pm2_comparison;
mod readme;
mod recording;
mod restart_under_load;
mod sessions;
mod shop;
mod started_anew;
mod stores;
mod supervision;
mod tls;
mod upgrade_purge;
mod valkey;
mod watchdog;
mod zoo;
