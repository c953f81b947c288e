//! What the machine runs short of.

use super::Scene;

/// The front has no descriptors left for a while.
pub(super) fn descriptors(scene: &mut Scene<'_>) {
    scene.trouble(None, |scene| {
        scene.run(
            "p=$(systemctl show -p MainPID --value roundsman.service); \
             c=$(cat /proc/$p/task/$p/children); c=${c%% *}; \
             was=$(prlimit --pid $c --nofile --noheadings --output SOFT | tr -d ' '); \
             prlimit --pid $c --nofile=$(ls /proc/$c/fd | wc -l):; sleep 2; prlimit --pid $c --nofile=$was:",
        );
        scene.rest(200, 500);
    });
}

/// Nobody can connect anywhere by a port of the kernel's choice. (Clients on this machine cannot, either: they rest.)
pub(super) fn ports(scene: &mut Scene<'_>) {
    scene.run(
        "f=/proc/sys/net/ipv4/ip_local_port_range; was=$(cat $f); echo '32768 32769' > $f; sleep 2; echo $was > $f",
    );
}

fn fill(scene: &mut Scene<'_>, directory: &str) {
    scene.run(&format!(
        "dd if=/dev/zero of={directory}/ballast bs=1M 2> /dev/null; sleep 1.5; rm {directory}/ballast"
    ));
}

pub(super) fn tmp(scene: &mut Scene<'_>) {
    fill(scene, "/tmp");
}

pub(super) fn run(scene: &mut Scene<'_>) {
    fill(scene, "/run");
}

/// Hundreds that connect and say nothing, or half of something.
pub(super) fn silent_clients(scene: &mut Scene<'_>) {
    scene.run(
        "python3 -c \"\nimport socket, time\nall = []\nfor n in range(400):\n    \
         s = socket.create_connection(('127.0.0.1', 80))\n    \
         s.send(b'GET / HTTP/1.1\\r\\nHost' * (n % 2))\n    all.append(s)\ntime.sleep(1)\n\"",
    );
}

/// The loopback device is down: connections that there are outlive it, or do not.
pub(super) fn no_network(scene: &mut Scene<'_>) {
    scene.trouble(None, |scene| {
        scene.run("ip link set lo down; sleep 1; ip link set lo up");
        // What was lost on the way is sent again later and later.
        scene.rest(3000, 3000);
    });
}
