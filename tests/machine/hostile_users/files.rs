//! What root reads, runs and writes for others: nothing that lies in an app's folder steers it.

use crate::harness::{Machine, on_every_debian_in_soak};

const SERVER: &str = "require('node:http').createServer((_, r) => \
                      r.end(require('node:fs').readFileSync('version'))).listen(3000)\n";

/// Users, and an app of `alice` in `/home/alice/shop`, whose release is `current`.
fn set_up(machine: &Machine) {
    machine.run("useradd -m -G roundsman member && useradd -m alice && useradd -m mallory");
    machine.run("chmod 755 /home/alice /home/mallory");
    for release in ["1", "2"] {
        let at = format!("/home/alice/shop/releases/{release}");
        machine.write(&format!("{at}/server.js"), SERVER);
        machine
            .write(&format!("{at}/package.json"), "{\"name\": \"shop\", \"main\": \"server.js\"}");
        machine.write(&format!("{at}/version"), release);
        machine.run(&format!("touch -d '2024-01-0{release}' {at}"));
    }
    machine.run("ln -s releases/2 /home/alice/shop/current && chown -Rh alice: /home/alice/shop");
}

fn by(machine: &Machine, user: &str, command: &str) {
    machine.run(&format!("runuser -u {user} -- sh -c \"{command}\""));
}

fn version(machine: &Machine, expected: &str) {
    machine.eventually(&format!("it answers {expected}"), |m| m.curl("/").trim() == expected);
}

/// The watch begins anew, and says that it watches.
fn watches_anew(machine: &Machine) {
    machine.run("systemctl reset-failed roundsman-watch@shop.service; timeout 30 systemctl restart roundsman-watch@shop.service");
    let status = machine.property("roundsman-watch@shop.service", "StatusText");
    assert!(status.starts_with("watches "), "{status}");
    let pid = machine.property("roundsman-watch@shop.service", "MainPID");
    let peak = machine.run(&format!("grep VmHWM /proc/{pid}/status"));
    let kib: u64 = peak.split_ascii_whitespace().nth(1).expect("a size").parse().expect("a number");
    assert!(kib < 64 * 1024, "it took {kib} KiB");
}

on_every_debian_in_soak! {
    /// Root looks at an app's files with the app's own rights, reads no more of them than makes
    /// sense, waits for none, and follows no link; its `rollback` swaps the app's link and nothing
    /// else, wherever the owner of the folder points it meanwhile.
    fn an_apps_folder_steers_nothing_of_roots(machine: &Machine) {
        set_up(machine);
        machine.run("roundsman start /home/alice/shop/current --name shop");
        machine.run("printf 'watch = true\\n' >> /etc/roundsman/apps/shop.toml && roundsman apply");
        version(machine, "2");
        let folder = "/home/alice/shop/releases/2";

        by(machine, "alice", &format!("truncate -s 400M {folder}/.gitignore"));
        watches_anew(machine);
        by(machine, "alice", &format!("mkdir -p {folder}/.git/info && mkfifo {folder}/.git/info/exclude"));
        watches_anew(machine);
        by(machine, "alice", &format!("rm {folder}/.gitignore && mkfifo {folder}/.gitignore"));
        watches_anew(machine);
        machine.write("/root/rules", "version\n");
        by(machine, "alice", &format!("rm {folder}/.gitignore && ln -s /root/rules {folder}/.gitignore"));
        watches_anew(machine);
        by(machine, "alice", &format!("ln -s /root {folder}/all-of-roots"));
        // Names that speak to whoever prints them.
        by(machine, "alice", &format!("mkdir \\\"$(printf '{folder}/a\\nMAINPID=1')\\\""));
        watches_anew(machine);
        by(machine, "alice", &format!("echo 2b > {folder}/version"));
        version(machine, "2b");

        // What only root may see is not looked at, though the link leads there.
        machine.run("mkdir -p /root/vault/deep");
        by(machine, "alice", "ln -sfn /root/vault /home/alice/shop/current");
        machine.eventually("it says what it may not do", |machine| {
            let status = machine.property("roundsman-watch@shop.service", "StatusText");
            status.contains("FILES ARE NOT WATCHED") && status.contains("ermission denied")
        });
        by(machine, "alice", "ln -sfn releases/2 /home/alice/shop/current");
        machine.eventually("it watches again", |machine| {
            machine.property("roundsman-watch@shop.service", "StatusText").starts_with("watches ")
        });
        version(machine, "2b");
        machine.run("sed -i '/^watch/d' /etc/roundsman/apps/shop.toml");
        machine.eventually("no deploy is under way any more", |machine| {
            machine.try_run("roundsman apply").ok()
        });

        // Root goes back and forth while the owner of the folder swaps it for a link.
        machine.run("mkdir -p /srv/victim/releases/1 /srv/victim/releases/2 && ln -s releases/2 /srv/victim/current");
        let victim = machine.run("stat -c '%i %z' /srv/victim/current && readlink /srv/victim/current");
        machine.write("/tmp/swap", "while :; do mv -T shop real; ln -s /srv/victim shop; rm shop; mv -T real shop; done\n");
        machine.run("systemd-run --quiet --unit=swap -p User=alice -p WorkingDirectory=/home/alice sh /tmp/swap");
        for turn in 0..12 {
            let to = format!("/home/alice/shop/releases/{}", 1 + turn % 2);
            machine.try_run(&format!("timeout 30 roundsman rollback shop --to {to} --surge 0"));
            let now = machine.run("stat -c '%i %z' /srv/victim/current && readlink /srv/victim/current");
            assert_eq!(now, victim, "root swapped a link that was not the app's, in turn {turn}");
        }
        machine.run("systemctl stop swap.service");
        machine.run("cd /home/alice; test -L shop && rm shop; test -d real && mv -T real shop; true");
        // Nor is it steered by a link that stays.
        machine.run("mv /home/alice/shop /home/alice/real && ln -s /srv/victim /home/alice/shop && chown -h alice: /home/alice/shop");
        let said = machine.try_run("roundsman rollback shop");
        assert!(!said.ok(), "{said}");
        assert_eq!(machine.run("stat -c '%i %z' /srv/victim/current && readlink /srv/victim/current"), victim);
        machine.run("rm /home/alice/shop && mv /home/alice/real /home/alice/shop");
        machine.run("ln -sfn releases/2 /home/alice/shop/current && chown -h alice: /home/alice/shop/current");
        machine.try_run("roundsman stop shop");
        machine.run("roundsman start shop");
        machine.run("roundsman rollback shop");
        assert_eq!(machine.run("readlink /home/alice/shop/current").trim(), "releases/1");
        assert_eq!(machine.run("stat -c %U /home/alice/shop/current").trim(), "alice", "it stays its owner's");
        nobody_makes_the_release_that_root_goes_back_to(machine);
    }
}

/// What takes the place of a release is of those who made that one, whatever its age says, or root's
/// note of what ran before, at a path that was deleted and made again.
fn nobody_makes_the_release_that_root_goes_back_to(machine: &Machine) {
    let releases = "/home/alice/shop/releases";
    // Root has noted itself what the worker runs, and asks no process of the app's user.
    let noted = machine.run("cat /run/roundsman/crashes/running/shop:1");
    assert_eq!(noted.trim(), format!("{releases}/1"));
    machine.run(&format!("chmod 1777 {releases} && mv {releases}/2 /home/alice/two"));
    let evil = format!("{releases}/evil");
    by(machine, "mallory", &format!("cp -r {releases}/1 {evil} && touch -r {releases}/1 {evil}"));
    for note in [String::new(), format!("{releases}/1\n{evil}\n")] {
        machine.write("/var/lib/roundsman/releases/shop", &note);
        let said = machine.try_run("roundsman rollback shop");
        assert!(!said.ok() && said.stderr.contains("no earlier release"), "{said}");
        assert_eq!(machine.run("readlink /home/alice/shop/current").trim(), "releases/1");
    }
    // One of the owner's that others may write into.
    machine
        .run(&format!("rm -r {evil} && mv /home/alice/two {releases}/2 && chmod 755 {releases}"));
    machine.run(&format!("touch -r {releases}/1 {releases}/2 && chmod 1777 {releases}/2"));
    let said = machine.try_run("roundsman rollback shop");
    assert!(!said.ok() && said.stderr.contains("no earlier release"), "{said}");
}

/// Nobody has their code run as another user because it lies in that one's folder, or theirs in a
/// folder where many may make things.
fn nobody_runs_code_as_another_user(machine: &Machine) {
    let server = "require('node:http').createServer((_, r) => r.end('mallory')).listen(3000)\n";
    for folder in ["proj/plugin", "grp", "up/good"] {
        machine.write(&format!("/srv/{folder}/server.js"), server);
    }
    machine.write("/srv/proj/package.json", "{\"name\": \"proj\"}");
    machine.run(
        "chown -R alice: /srv/proj /srv/grp /srv/up/good && chown -R mallory: /srv/proj/plugin",
    );
    machine.run("install -d -o alice -g alice -m 1777 /srv/drop && chmod 1777 /srv/up");
    // A group has those in it, too, whose first one it is.
    machine.run("useradd -M -g alice mate && chmod 775 /srv/grp");
    by(machine, "mallory", "cp /srv/proj/plugin/server.js /srv/drop/");
    machine.write("/srv/up/theirs.json", "{\"name\": \"theirs\"}");
    by(machine, "mallory", "cp /srv/up/theirs.json /srv/up/package.json");
    for (what, who) in [
        ("/srv/proj/plugin/server.js", "plugin to mallory"),
        ("/srv/drop/server.js", "everybody may put files into /srv/drop"),
        ("/srv/drop", "everybody may put files into /srv/drop"),
        ("/srv/grp", "the group alice may write to /srv/grp"),
        ("/srv/up/good/server.js", "everybody may put files into /srv/up"),
    ] {
        let said = machine.try_run(&format!("roundsman start {what}"));
        assert!(!said.ok() && said.stderr.contains("--user NAME"), "{said}");
        assert!(said.stderr.contains(who), "{said}");
    }
    let files = machine.run("ls /etc/roundsman/apps");
    assert!(
        !["proj", "drop", "grp", "theirs", "good"].iter().any(|app| files.contains(app)),
        "{files}"
    );
}

/// Gives the file that it is told an access list (version 2: the owner, one user, the group, the mask,
/// everybody), as setfacl would.
const LET_MALLORY_WRITE: &str = "
import os, pwd, struct, sys
entry = lambda tag, may, who=0xffffffff: struct.pack(\"<HHI\", tag, may, who)
mallory = pwd.getpwnam(\"mallory\").pw_uid
list = [entry(1, 6), entry(2, 6, mallory), entry(4, 4), entry(16, 6), entry(32, 4)]
os.setxattr(sys.argv[1], \"system.posix_acl_access\", struct.pack(\"<I\", 2) + b\"\".join(list))
";

/// What `import pm2` does with the ecosystem files of others.
fn a_program_of_others_runs_as_theirs(machine: &Machine) {
    // An ecosystem file is a program: it runs with the rights of the one who could have written
    // it, and of nobody if there are several.
    let ran = "require('node:fs').writeFileSync('/srv/ran-as', process.getuid() + ' ' + Object.keys(process.env)); \
               module.exports = { apps: [{ name: 'x', script: 'x.js' }] }\n";
    machine.write("/home/mallory/pm2/ecosystem.config.js", ran);
    machine.run(
        "chown -R mallory: /home/mallory/pm2 && chown root: /home/mallory/pm2/ecosystem.config.js",
    );
    machine.run("install -m 666 /dev/null /srv/ran-as");
    machine.try_run("SECRET_TOKEN=1 roundsman import pm2 /home/mallory/pm2/ecosystem.config.js");
    let said = machine.run("cat /srv/ran-as");
    let mallory = machine.run("id -u mallory");
    assert!(said.starts_with(&format!("{} ", mallory.trim())), "as mallory: {said}");
    assert!(!said.contains("SECRET_TOKEN") && said.contains("PATH"), "with what is root's: {said}");
    // It cannot type into the shell from which root runs it.
    machine.write("/home/mallory/pm2/types.config.js", "let terminal = 'open'; \
        try { require('node:fs').openSync('/dev/tty') } catch { terminal = 'closed' } \
        module.exports = { apps: [{ script: 'x.js', user: 'root', args: 'terminal-is-' + terminal }] }\n");
    machine.run("chown mallory: /home/mallory/pm2/types.config.js");
    // (Its route is there already, so nothing would be written.)
    let said = machine.try_run("script --quiet --command 'roundsman import pm2 /home/mallory/pm2/types.config.js' /dev/null").stdout;
    assert!(said.contains("terminal-is-closed"), "{said}");
    // Nor have what it describes run as root.
    assert!(said.contains("user: \"root\" was left out"), "{said}");
    assert!(said.contains("user = \"mallory\"") && !said.contains("user = \"root\""), "{said}");
    machine.run("chown alice: /home/mallory/pm2/ecosystem.config.js && : > /srv/ran-as");
    let said = machine.try_run("roundsman import pm2 /home/mallory/pm2/ecosystem.config.js");
    assert_eq!(machine.run("cat /srv/ran-as"), "", "mallory cannot have it run as alice");
    assert!(
        !said.ok() && said.stderr.contains("alice") && said.stderr.contains("mallory"),
        "{said}"
    );
    // Nor where an access list, of which its mode says nothing, lets others write to it.
    machine.run(&format!(
        ": > /srv/ran-as && install -D -m 644 /home/mallory/pm2/ecosystem.config.js \
         /root/pm2/listed.config.js && python3 -c '{LET_MALLORY_WRITE}' /root/pm2/listed.config.js"
    ));
    let said = machine.try_run("roundsman import pm2 /root/pm2/listed.config.js");
    assert_eq!(machine.run("cat /srv/ran-as"), "", "mallory could have written it: {said}");
    assert!(!said.ok() && said.stderr.contains("access list"), "{said}");
    // Nor where others can put modules for it, though each entry stays its owner's.
    machine.write("/tmp/roots/till.config.js", "module.exports = require('theirs')\n");
    by(
        machine,
        "mallory",
        "mkdir /tmp/node_modules && cp /home/mallory/pm2/types.config.js /tmp/node_modules/theirs.js",
    );
    let said = machine.try_run("roundsman import pm2 /tmp/roots/till.config.js");
    assert!(!said.ok() && said.stderr.contains("everybody may put files into /tmp"), "{said}");
    machine.write(
        "/root/pm2/endless.config.js",
        "process.stdout.write('x'.repeat(1e6)); while (true) {}\n",
    );
    let said = machine.try_run("timeout 50 roundsman import pm2 /root/pm2/endless.config.js");
    assert!(said.status.code() == Some(78) && said.stderr.contains("seconds"), "{said}");
}

on_every_debian_in_soak! {
    /// A name that is taken stays whose it is; files keep their modes, owners and links; secrets go
    /// where only root reads; and what others wrote is never run with more rights than theirs.
    fn what_root_writes_and_runs_for_others_stays_theirs(machine: &Machine) {
        set_up(machine);
        machine.run("roundsman start /home/alice/shop/current");
        version(machine, "2");

        // Another user's folder with the same name in it.
        machine.write("/home/mallory/web/server.js", "require('node:http').createServer((_, r) => r.end('mallory')).listen(3000)\n");
        machine.write("/home/mallory/web/package.json", "{\"name\": \"shop\", \"main\": \"server.js\"}");
        machine.run("chown -R mallory: /home/mallory/web");
        let before = machine.run("cat /etc/roundsman/apps/shop.toml");
        for command in [
            "roundsman start /home/mallory/web",
            "cd /home/mallory/web && roundsman start server.js",
            "cd /home/mallory/web && roundsman start --name shop -- node server.js",
        ] {
            let said = machine.try_run(command);
            assert_eq!(said.status.code(), Some(1), "{said}");
            assert!(said.stderr.contains("--name") && said.stderr.contains("--replace"), "{said}");
            assert_eq!(machine.run("cat /etc/roundsman/apps/shop.toml"), before);
        }
        version(machine, "2");
        // The same folder in other hands: the app would run the new owner's code as the old one.
        machine.run("chown -Rh mallory: /home/alice/shop");
        let said = machine.try_run("roundsman start /home/alice/shop/current");
        assert!(!said.ok() && said.stderr.contains("/home/alice/shop to mallory"), "{said}");
        assert!(said.stderr.contains("--user NAME"), "{said}");
        machine.run("chown -Rh alice: /home/alice/shop");
        // A link of a member's to it, who may have it lead to their own code tomorrow: as a new app,
        // and as the one that is there, since it leads to the same folder today.
        machine.run("chmod 755 /home/member && mkdir /home/member/dep");
        machine.run("ln -s /home/alice/shop/releases/2 /home/member/dep/current && chown -Rh member: /home/member/dep");
        for options in ["--name dep", "", "--replace"] {
            let said = machine.try_run(&format!("roundsman start /home/member/dep/current {options}"));
            assert_eq!(said.status.code(), Some(1), "{said}");
            for word in ["alice", "member", "--user NAME"] {
                assert!(said.stderr.contains(word), "{said}");
            }
        }
        // Nor does anybody's code run as a user of our own, or of another app.
        for user in ["roundsman", "roundsman-session", "roundsman-unset", "rmw-shop", "61184"] {
            let said = machine.try_run(&format!("roundsman start /home/mallory/web --name dep --path /dep --user {user}"));
            assert_eq!(said.status.code(), Some(78), "{said}");
            assert!(said.stderr.contains(user), "{said}");
        }
        nobody_runs_code_as_another_user(machine);
        machine.run("test ! -e /etc/roundsman/apps/dep.toml");
        assert_eq!(machine.run("cat /etc/roundsman/apps/shop.toml"), before);
        machine.run("roundsman start /home/mallory/web --name web --path /web");
        machine.write("/root/pm2/shop.config.js", "module.exports = { apps: [{ name: 'shop', script: 'x.js', cwd: '/tmp' }] }\n");
        let said = machine.try_run("roundsman import pm2 /root/pm2/shop.config.js --write");
        assert!(!said.ok() && said.stderr.contains("there already"), "{said}");
        // Also where the package of the app, or a program, has put it.
        machine.run("mkdir -p /run/roundsman.d/apps && mv /etc/roundsman/apps/web.toml /run/roundsman.d/apps/");
        machine.run("sed -i 's/shop/web/' /root/pm2/shop.config.js");
        let said = machine.try_run("roundsman import pm2 /root/pm2/shop.config.js --write");
        assert!(!said.ok() && said.stderr.contains("there already"), "{said}");
        machine.run("mv /run/roundsman.d/apps/web.toml /etc/roundsman/apps/");

        // Mode, owner, group, and a link to where the administrator keeps it.
        machine.run("mkdir /etc/kept && mv /etc/roundsman/apps/shop.toml /etc/kept/ && \
                     ln -s /etc/kept/shop.toml /etc/roundsman/apps/shop.toml && \
                     chgrp roundsman /etc/kept/shop.toml && chmod 640 /etc/kept/shop.toml");
        machine.run("roundsman scale shop 2");
        assert_eq!(machine.run("readlink /etc/roundsman/apps/shop.toml").trim(), "/etc/kept/shop.toml");
        assert_eq!(machine.run("stat -c '%a %U %G' /etc/kept/shop.toml").trim(), "640 root roundsman");
        assert!(machine.run("cat /etc/kept/shop.toml").contains("workers = 2"));
        // Into a folder where others can put what they like, root does not write.
        machine.run("mv /etc/kept/shop.toml /home/mallory/ && ln -sfn /home/mallory/shop.toml /etc/roundsman/apps/shop.toml");
        let said = machine.try_run("roundsman scale shop 1");
        assert!(!said.ok() && said.stderr.contains("/home/mallory"), "{said}");
        machine.run("rm /etc/roundsman/apps/shop.toml && mv /home/mallory/shop.toml /etc/roundsman/apps/shop.toml");

        // Secrets of an ecosystem file.
        let environment = "env: { PORT: 3000, DB_PASSWORD: 'hunter2 \"$x', DATABASE_URL: 'postgres://u:pw@db/till' }";
        machine.write("/root/pm2/ecosystem.config.js", &format!(
            "module.exports = {{ apps: ['till', 'till2'].map((name) => ({{ name, script: 'till.js', cwd: '/srv/till', {environment} }})) }}\n"));
        machine.write("/srv/till/till.js", "require('node:http').createServer((_, r) => \
            r.end(process.env.DB_PASSWORD + ' ' + process.env.DATABASE_URL)).listen(3000)\n");
        let said = machine.run("roundsman import pm2 /root/pm2/ecosystem.config.js --write");
        assert!(!said.contains("hunter2"), "it is not shown either: {said}");
        let file = machine.run("cat /etc/roundsman/apps/till.toml");
        assert!(!file.contains("hunter2") && !file.contains("pw@db") && file.contains("PORT"), "{file}");
        assert_eq!(machine.run("stat -c '%a %U' /etc/roundsman/apps/till.env").trim(), "600 root");
        machine.run("roundsman apply");
        machine.eventually("the app has its secrets", |machine| {
            let said = machine.try_run("curl --silent --max-time 10 -H 'Host: till.localhost' http://localhost/");
            said.stdout == "hunter2 \"$x postgres://u:pw@db/till"
        });
        // What lies open is told.
        machine.run("sed -i 's|^command|session = \"redis://:pw@10.0.0.5\"\\ncommand|' /etc/roundsman/apps/web.toml && chmod 644 /etc/roundsman/apps/web.toml");
        let said = machine.try_run("roundsman check");
        assert!(said.stderr.contains("everybody may read") && said.stderr.contains("chmod 640"), "{said}");
        machine.run("sed -i '/^session/d' /etc/roundsman/apps/web.toml");

        a_program_of_others_runs_as_theirs(machine);
    }
}
