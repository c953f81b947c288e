//! Configuration: what files mean, what is said about their mistakes, what becomes of them as units,
//! and how other programs' files are taken over.

mod catalog;
mod certificates;
mod check;
mod generator;
mod handoff;
mod import_cases;
mod import_nginx;
mod import_nginx_cases;
mod import_nginx_habits;
mod import_pm2;
mod import_real;
mod load;
mod never_panics;
mod schema;
