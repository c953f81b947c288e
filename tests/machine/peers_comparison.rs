//! What a restart, a reload and an upgrade cost clients of nginx, of HAProxy, of PM2 and of Roundsman: the same app,
//! the same clients, the same machine. `make bench-pm2` fetches all of them and prints the table.

use std::path::Path;
use std::time::Duration;

use crate::harness::{Clients, Debian, Machine, Package};

/// Where `benches/pm2` has put PM2, and Debian's packages of nginx and HAProxy with one of a later version of each.
const PM2: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/pm2");
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers");

/// How long the clients go on after the deed.
const AFTERWARDS: Duration = Duration::from_secs(6);

/// The two servers behind nginx and HAProxy.
const SERVERS: &str = "for port in 3001 3002; do systemd-run --quiet --unit=server-$port --setenv=PORT=$port \
    --working-directory=/srv/plain node server.js; done";

const NGINX: &str = "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
upstream app { server 127.0.0.1:3001; server 127.0.0.1:3002; keepalive 32; }
server {
    listen 8080;
    client_max_body_size 0;
    location / {
        proxy_pass http://app;
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_read_timeout 1h;
    }
}
";

const HAPROXY: &str = "
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    timeout tunnel 1h
frontend http
    bind 127.0.0.1:8090
    default_backend app
backend app
    server one 127.0.0.1:3001
    server two 127.0.0.1:3002
";

/// One of them: its name, its port, and what is done to it.
struct Peer {
    name: &'static str,
    port: u16,
    restart: &'static str,
    reload: &'static str,
    upgrade: &'static str,
}

const PEERS_AT_WORK: [Peer; 4] = [
    Peer {
        name: "nginx",
        port: 8080,
        restart: "systemctl restart nginx",
        reload: "systemctl reload nginx",
        upgrade: "dpkg -i /opt/peers/later/nginx.deb",
    },
    Peer {
        name: "HAProxy",
        port: 8090,
        restart: "systemctl restart haproxy",
        reload: "systemctl reload haproxy",
        upgrade: "dpkg -i /opt/peers/later/haproxy.deb",
    },
    Peer {
        name: "PM2",
        port: 3000,
        restart: "PM2_HOME=/root/pm2 pm2 restart shop",
        reload: "PM2_HOME=/root/pm2 pm2 reload shop",
        upgrade: "PM2_HOME=/root/pm2 pm2 update",
    },
    Peer {
        name: "Roundsman",
        port: 80,
        restart: "systemctl restart roundsman",
        reload: "systemctl reload roundsman",
        upgrade: "dpkg -i /opt/next.deb",
    },
];

#[test]
#[ignore = "minutes, and needs PM2, nginx and HAProxy: make bench-pm2"]
fn peers_comparison() {
    for needed in [PM2, PEERS] {
        assert!(Path::new(needed).exists(), "{needed} is missing: make bench-pm2 makes it");
    }
    let machine = Machine::boot(Debian::Trixie);
    start(&machine);
    println!(
        "PEERS | | restart: lost | longest wait | reload: lost | longest wait | upgrade: lost | longest wait |"
    );
    println!("PEERS | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for peer in &PEERS_AT_WORK {
        let cells =
            [peer.restart, peer.reload, peer.upgrade].map(|deed| measured(&machine, peer, deed));
        println!("PEERS | {} | {} |", peer.name, cells.join(" | "));
    }
}

fn start(machine: &Machine) {
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/deploy");
    for directory in ["/srv/plain", "/srv/shop"] {
        machine.copy_in(app, directory);
        machine.write(&format!("{directory}/version"), "it");
        machine.write(&format!("{directory}/behaviour"), "well");
    }
    machine.copy_in(PM2, "/opt/pm2");
    machine.copy_in(PEERS, "/opt/peers");
    let next = machine.bring(&Package::next_version());
    machine.run(&format!(
        "mv {next} /opt/next.deb; ln -s /opt/pm2/node_modules/.bin/pm2 /usr/bin/pm2"
    ));
    machine.run(SERVERS);
    machine.write("/etc/nginx/conf.d/app.conf", NGINX);
    machine.write("/etc/haproxy/haproxy.cfg", HAPROXY);
    // The page that comes with nginx would have port 80.
    machine.run(
        "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d && \
         apt-get install -y -o Dpkg::Options::=--force-confold /opt/peers/*.deb && \
         rm -f /etc/nginx/sites-enabled/default /usr/sbin/policy-rc.d && systemctl start nginx haproxy",
    );
    machine.write(
        "/etc/roundsman/apps/shop.toml",
        "command = [\"node\", \"server.js\"]\ndirectory = \"/srv/shop\"\nworkers = 2\n",
    );
    machine.run("roundsman start shop");
    machine
        .run("cd /srv/shop && PM2_HOME=/root/pm2 PORT=3000 pm2 start server.js --name shop -i 2");
}

/// Does the deed while clients ask; the cells for it.
fn measured(machine: &Machine, peer: &Peer, deed: &str) -> String {
    let Peer { name, port, .. } = *peer;
    machine.eventually("the app answers", |machine| {
        machine.try_run(&format!("curl -sSf http://127.0.0.1:{port}/")).ok()
    });
    let clients = Clients::new(8, 4).with(4, 1, 2).slow(Duration::from_secs(3)).on(port);
    let load = machine.load(clients);
    load.goes_on_for(300);
    let said = machine.try_run(deed);
    std::thread::sleep(AFTERWARDS);
    let tally = load.stop();
    println!("{name}, {deed}: {said}\n{tally}");
    format!("{} | {:.1} s", tally.failed.len(), tally.slowest.as_secs_f64())
}
