//! systemd's interfaces on the bus, as far as they are used: from these, zbus makes the calls and
//! reads the signals. org.freedesktop.systemd1(5) describes them.

use std::collections::HashMap;

use zbus::{ObjectPath, OwnedObjectPath, OwnedVariant, proxy};

/// systemd's name on the bus.
pub(super) const NAME: &str = "org.freedesktop.systemd1";

/// The service manager's object and interface.
pub(super) const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// Below this are the objects of units.
pub(super) const UNITS: &str = "/org/freedesktop/systemd1/unit";

/// The interface with a unit's `ActiveState`.
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// The interface with a service's `StatusText`.
pub(super) const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// A unit in a list: its name, then (third after it) its `ActiveState`; (seventh) its job's number, or 0.
pub(super) type ListedUnit =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A link that was made or removed: what was done, where, and to what.
pub(super) type Change = (String, String, String);

/// The service manager.
#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;

    fn start_unit(&self, unit: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, unit: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, unit: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn get_job(&self, id: u32) -> zbus::Result<OwnedObjectPath>;

    fn load_unit(&self, unit: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<Vec<ListedUnit>>;
    fn reset_failed_unit(&self, unit: &str) -> zbus::Result<()>;

    fn enable_unit_files(
        &self,
        files: &[&str],
        runtime: bool,
        force: bool,
    ) -> zbus::Result<(bool, Vec<Change>)>;
    fn disable_unit_files(&self, files: &[&str], runtime: bool) -> zbus::Result<Vec<Change>>;
    fn get_unit_file_state(&self, file: &str) -> zbus::Result<String>;
    fn reload(&self) -> zbus::Result<()>;

    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: ObjectPath<'_>, unit: &str, result: &str);
    #[zbus(signal)]
    fn unit_removed(&self, id: &str, unit: ObjectPath<'_>);
    #[zbus(signal)]
    fn reloading(&self, active: bool);
}

/// A unit's object. zbus has this interface, too, but not systemd's empty name for "all".
#[proxy(
    interface = "org.freedesktop.DBus.Properties",
    default_service = "org.freedesktop.systemd1"
)]
pub(super) trait UnitProperties {
    fn get(&self, interface: &str, property: &str) -> zbus::Result<OwnedVariant>;
    fn get_all(&self, interface: &str) -> zbus::Result<HashMap<String, OwnedVariant>>;
}
