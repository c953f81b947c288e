//! Users who crowd what all share, so that nobody else gets through: groups and the admin socket, the
//! system bus, a directory for everybody's files.

use std::time::Duration;

use crate::harness::{Machine, on_every_debian_in_soak};
use crate::shop;

/// More groups than anybody looks at.
const GROUPS: u32 = 4200;

/// Runs `client.py` as this user in the background, in a group of the user's own service manager.
fn in_the_background(machine: &Machine, user: &str, arguments: &str) {
    machine.run(&format!(
        "echo $$ > {}/cgroup.procs; \
         runuser -u {user} -- python3 /usr/local/lib/client.py {arguments} > /tmp/{user} 2>&1 &",
        own_group(machine, user)
    ));
}

/// A group as `systemd-run --user` makes it, and the service manager's above it.
fn own_group(machine: &Machine, user: &str) -> String {
    let uid = machine.run(&format!("id -u {user}"));
    let uid = uid.trim();
    let group =
        format!("/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service/app.slice/x.scope");
    machine
        .run(&format!("systemctl start user@{uid} && mkdir -p {group} && chown -R {user} {group}"));
    group
}

/// Root and every client get an answer.
#[track_caller]
fn all_are_served(machine: &Machine) {
    let said = machine.try_run("timeout 5 roundsman status");
    assert!(said.ok(), "{said}");
    let said = machine.try_run("curl -sS --max-time 5 --output /dev/null --fail localhost");
    assert!(said.ok(), "{said}");
}

on_every_debian_in_soak! {
    /// Neither a member nor a stranger keeps the front, or root's commands, from others.
    fn nobody_keeps_the_front_from_others(machine: &Machine) {
        machine.run("useradd -m -G roundsman member && useradd -m stranger");
        machine.write("/usr/local/lib/client.py", include_str!("client.py"));
        shop::install(machine, 2, "");
        machine.eventually("it is served", |machine| {
            machine.try_run("curl -sS --output /dev/null --fail localhost").ok()
        });
        many_groups_and_connections(machine);
        a_crowded_bus(machine);
        a_bus_without_systemd(machine);
        a_full_directory(machine);
    }
}

/// Whose a connection is costs the same however many groups a user has made.
fn many_groups_and_connections(machine: &Machine) {
    let group = own_group(machine, "member");
    let by_member = |arguments: &str| {
        machine.try_run(&format!(
            "echo $$ > {group}/cgroup.procs; exec runuser -u member -- {arguments}"
        ))
    };
    let said =
        by_member(&format!("python3 /usr/local/lib/client.py groups {group}/../.. {GROUPS}"));
    assert!(said.ok(), "{said}");
    // A member is one, wherever its shell is.
    for command in ["roundsman status", "roundsman send shop 1"] {
        let said = by_member(command);
        assert!(said.ok(), "{said}");
    }
    // Longer than the front's watchdog waits.
    in_the_background(machine, "member", "knock /run/roundsman/admin.sock 15");
    let pid = machine.front_process();
    while !machine.run("cat /tmp/member 2> /dev/null || true").contains("connections") {
        all_are_served(machine);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(machine.front_process(), pid, "the front was killed");
    println!("{}", machine.run("cat /tmp/member"));
}

/// While nobody else gets through to the system bus, workers that restart are served again, also by a front
/// that has never heard the bus, and root's commands do what they are for.
fn a_crowded_bus(machine: &Machine) {
    const CROWD: &str = "crowd /run/dbus/system_bus_socket 400 600";
    let crowd = "systemd-run --quiet --unit=crowd --uid=stranger --property=LimitNOFILE=4096 \
                 --property=StandardOutput=file:/run/crowd python3 /usr/local/lib/client.py";
    machine.run(&format!("{crowd} {CROWD}"));
    machine.eventually("nobody gets through to the bus", |machine| {
        !machine
            .try_run(
                "timeout 2 busctl --system call org.freedesktop.DBus / org.freedesktop.DBus GetId",
            )
            .ok()
    });
    machine.run("systemctl restart roundsman.service");
    for worker in [1, 2] {
        machine.run(&format!("systemctl restart roundsman-worker@shop:{worker}.service"));
        machine.is_up_again(&format!("shop:{worker}"));
        all_are_served(machine);
    }
    let before = shop::runs(machine, 2);
    let said = machine.try_run("timeout 60 roundsman reload shop");
    assert!(said.ok(), "{said}");
    let after = shop::runs(machine, 2);
    assert!(
        before.iter().zip(&after).all(|(before, after)| before != after),
        "nothing was replaced"
    );
    for command in ["stop shop", "start shop", "diff"] {
        let said = machine.try_run(&format!("timeout 60 roundsman {command}"));
        assert!(said.ok(), "{said}");
    }
    assert!(!machine.try_run("timeout 2 busctl --system status").ok(), "the bus is free again");
    machine.run("systemctl stop crowd.service");
}

/// Where systemd has left the bus, as messages from anybody can make it do, root still stops an app in good order.
fn a_bus_without_systemd(machine: &Machine) {
    machine.run("systemctl stop dbus.socket dbus.service");
    machine.run("systemd-run --quiet --unit=other-bus dbus-daemon --system --nofork --nopidfile");
    machine.eventually("there is a bus, and systemd is not on it", |machine| {
        let said = machine.try_run(
            "timeout 2 busctl --system call org.freedesktop.DBus / org.freedesktop.DBus NameHasOwner s \
             org.freedesktop.systemd1",
        );
        said.stdout.contains("b false")
    });
    for command in ["stop shop", "start shop", "reload shop", "stop shop"] {
        let said = machine.try_run(&format!("timeout 60 roundsman {command}"));
        assert!(said.ok(), "{said}");
        assert!(!said.stderr.contains("without a drain"), "{said}");
    }
    machine.run("systemctl stop other-bus.service && systemctl start dbus.socket dbus.service");
    machine.run("roundsman start shop");
}

/// A deploy that could not start what it stops stops nothing.
fn a_full_directory(machine: &Machine) {
    machine.run("mount -t tmpfs -o nr_inodes=1k,mode=1777 tmpfs /tmp");
    machine.run("runuser -u stranger -- python3 /usr/local/lib/client.py fill /tmp");
    let said = machine.try_run("timeout 60 roundsman reload shop");
    println!("with a full /tmp: {said}");
    if !said.ok() {
        assert!(said.stderr.contains("/tmp is full"), "{said}");
    }
    let states = machine.states();
    assert!(
        ["shop:1", "shop:2"].iter().all(|worker| states[*worker] == "up"),
        "{states:?}: {said}"
    );
    machine.run("umount --lazy /tmp");
}
