//! Installing the package on a pristine machine.

use crate::harness::{Machine, Package, on_every_debian};

on_every_debian! {
    /// The units that the package ships are clean on this release's systemd: no unknown key, no
    /// missing program or manual page, and a front with next to nothing to attack.
    fn units_are_clean(machine: &Machine) {
        machine.install(&Package::built());
        let said = machine.try_run("systemd-analyze verify --man=no /usr/lib/systemd/system/roundsman*");
        assert!(said.ok() && said.stderr.is_empty(), "{said}");
        machine.run("systemd-analyze security --threshold=15 roundsman.service");
    }
}
