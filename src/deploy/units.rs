//! The names of an app's units.

use crate::config::settings::{App, Listen};

/// `roundsman-app@shop.target`: all workers of the app.
pub fn target(app: &str) -> String {
    format!("roundsman-app@{app}.target")
}

/// `roundsman-worker@shop:1.service`.
pub fn service(app: &str, number: u16) -> String {
    format!("roundsman-worker@{app}:{number}.service")
}

/// `roundsman-worker@shop:1.socket`.
pub fn socket(app: &str, number: u16) -> String {
    format!("roundsman-worker@{app}:{number}.socket")
}

/// `roundsman-watch@shop.service`: looks after the app's workers.
pub fn watch(app: &str) -> String {
    format!("roundsman-watch@{app}.service")
}

/// `roundsman-restart@shop.timer`: replaces the app's workers at certain times.
pub fn restart_timer(app: &str) -> String {
    format!("roundsman-restart@{app}.timer")
}

/// What must be stopped so that a worker runs no more and no connection starts it again.
pub fn of_worker(app: &App, number: u16) -> Vec<String> {
    let mut units = vec![service(&app.name, number)];
    if matches!(app.listen, Listen::Cluster | Listen::Fd) {
        units.push(socket(&app.name, number));
    }
    units
}

/// The worker's number, if this is the name of a worker's service or socket of this app.
pub fn number(app: &str, unit: &str) -> Option<u16> {
    let instance = unit.strip_prefix("roundsman-worker@")?;
    let instance =
        instance.strip_suffix(".service").or_else(|| instance.strip_suffix(".socket"))?;
    instance.strip_prefix(app)?.strip_prefix(':')?.parse().ok()
}

/// All loaded workers' services of an app, as a pattern.
pub fn services(app: &str) -> String {
    format!("roundsman-worker@{app}:*.service")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_in_the_names_of_its_own_app_only() {
        assert_eq!(number("shop", &service("shop", 12)), Some(12));
        assert_eq!(number("shop", &socket("shop", 1)), Some(1));
        for other in
            ["roundsman-worker@shop-next:1.service", "roundsman-worker@shop:x.service", "shop:1"]
        {
            assert_eq!(number("shop", other), None, "{other}");
        }
    }
}
