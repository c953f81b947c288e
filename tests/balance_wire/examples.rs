//! The worked examples of docs/balancing.md over the wire; the files are taken from its text.

use std::collections::{BTreeMap, BTreeSet};

use super::guide::balancing;
use super::origin::Origin;
use super::support::{Client, Front};
use super::{client_addresses, eventually, origins};

/// The files of an example, with real servers in the place of the guide's.
fn files(section: &str, places: &[&str], origins: &[Origin]) -> BTreeMap<String, String> {
    let mut files = balancing(section);
    for text in files.values_mut() {
        for (place, origin) in places.iter().zip(origins) {
            *text = text.replace(place, &origin.address.to_string());
        }
        // The clients of this test come through a proxy on this machine.
        let proxies = "trusted-proxies = [";
        *text = text.replace(proxies, &format!("{proxies}\"127.0.0.1\", "));
    }
    files
}

fn front(threads: usize, files: &BTreeMap<String, String>) -> Front {
    let own = files.get("roundsman.toml").map_or("trusted-proxies = [\"127.0.0.1\"]\n", |own| own);
    let settings = format!("{own}[threads]\ncount = {threads}\npin = false\n");
    let others = files.iter().filter(|(name, _)| *name != "roundsman.toml");
    let files: Vec<_> = others.map(|(name, text)| (&**name, &**text)).collect();
    Front::with(&settings, &files)
}

const GREY: &str = "Example: a grey release";
const SHOP: [&str; 3] = ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.9:8080"];
const NEW: &str = "s2";

fn ask(client: &mut Client, fields: &str) -> (String, Option<String>) {
    let got = client.get(&format!("Host: shop.example.com\r\n{fields}")).expect("a response");
    assert_eq!(got.status(), 200, "{got:?}");
    (got.text().to_owned(), got.cookie().map(str::to_owned))
}

/// What answers each of these clients, which come through one proxy or, every other one, two.
fn sides(front: &Front, clients: &[String]) -> Vec<String> {
    let mut client = Client::new(front);
    let mut side = |(number, ip): (usize, &String)| {
        let far = if number % 2 == 0 { "" } else { ", 10.1.0.7" };
        ask(&mut client, &format!("X-Forwarded-For: {ip}{far}\r\n")).0
    };
    clients.iter().enumerate().map(&mut side).collect()
}

fn tomorrow(files: &BTreeMap<String, String>) -> String {
    let today = &files["routes/grey.toml"];
    today.replace("share = 95", "share = 90").replace("share = 5 ", "share = 10 ")
}

#[test]
fn a_grey_release_behind_proxies() {
    let origins = origins(3);
    let files = files(GREY, &SHOP, &origins);
    let front = front(2, &files);
    let clients = client_addresses(2_000);
    let today = sides(&front, &clients);
    let again = sides(&front, &clients);
    let is_new = |side: &String| *side == NEW;
    assert!(today.iter().zip(&again).all(|(a, b)| is_new(a) == is_new(b)), "somebody moved");
    front.reload_with("routes/grey.toml", &tomorrow(&files));
    let after = sides(&front, &clients);
    let new = today.iter().filter(|side| is_new(side)).count();
    let moved = today.iter().zip(&after).filter(|(a, b)| is_new(a) != is_new(b)).count();
    println!("of 2000 clients {new} are on the new version at 5 %, {moved} more at 10 %");
    assert!((60..=140).contains(&new) && (60..=140).contains(&moved), "{new}, {moved}");
    assert!(today.iter().zip(&after).all(|(a, b)| !is_new(a) || is_new(b)), "somebody moved back");
}

#[test]
fn a_grey_release_without_a_proxy() {
    let origins = origins(3);
    let mut files = files(GREY, &SHOP, &origins);
    files.insert("roundsman.toml".into(), String::new());
    let front = front(2, &files);
    let mut counts = BTreeMap::new();
    for number in 0..150 {
        let ip = [127, 3, number, 9];
        let text = std::net::Ipv4Addr::from(ip).to_string();
        let mut sides = BTreeSet::new();
        for lie in ["", "X-Forwarded-For: 198.18.0.1\r\n", "X-Forwarded-For: 2001:db8::1\r\n"] {
            // A connection each, so that threads differ, too.
            let mut client = Client::from(&front, ip.into());
            sides.insert(ask(&mut client, lie).0 == NEW);
        }
        assert_eq!(sides.len(), 1, "{text} is on both sides");
        let explained = front.explain(&["--host", "shop.example.com", "--ip", &text]);
        let new = sides.contains(&true);
        assert_eq!(explained["upstream"] == "upstream:shop-next", new, "{explained}");
        *counts.entry(new).or_insert(0) += 1;
    }
    println!("150 clients without a proxy, on the new version: {counts:?}");
    assert!(counts[&true] < 30 && counts[&false] > 120, "{counts:?}");
}

/// The split goes first; a cookie pins a client within its side.
#[test]
fn a_grey_release_with_sticky_clients() {
    let origins = origins(3);
    let mut files = files(GREY, &SHOP, &origins);
    for name in ["upstreams/shop.toml", "upstreams/shop-next.toml"] {
        let file = files.get_mut(name).expect("the upstream");
        file.insert_str(0, "sticky = { cookie = \"server\" }\n");
    }
    let front = front(2, &files);
    let mut client = Client::new(&front);
    let mut visit = |ip: &str, cookie: &str| {
        ask(&mut client, &format!("X-Forwarded-For: {ip}\r\nCookie: {cookie}\r\n"))
    };
    let clients = client_addresses(400);
    let mut pinned = Vec::new();
    for ip in &clients {
        let (server, cookie) = visit(ip, "other=1");
        let cookie = cookie.expect("a first visit sets the cookie");
        for _ in 0..3 {
            assert_eq!(visit(ip, &cookie), (server.clone(), None), "pinned");
        }
        pinned.push((server, cookie));
    }
    let servers: BTreeSet<_> = pinned.iter().map(|(server, _)| server.as_str()).collect();
    assert_eq!(servers, BTreeSet::from(["s0", "s1", NEW]));
    front.reload_with("routes/grey.toml", &tomorrow(&files));
    let mut moved = 0;
    for (ip, (before, cookie)) in clients.iter().zip(&pinned) {
        let (server, new_cookie) = visit(ip, cookie);
        if server == *before {
            assert_eq!(new_cookie, None, "who stays keeps the pin");
            continue;
        }
        moved += 1;
        assert_eq!(server, NEW, "only to the new version");
        let new_cookie = new_cookie.expect("a new pin on the new side");
        assert_eq!(visit(ip, &new_cookie), (NEW.to_owned(), None));
    }
    println!("of 400 sticky clients {moved} moved from 5 % to 10 %");
    assert!((5..=50).contains(&moved), "{moved}");
}

const UPLOADS: [&str; 3] = ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"];

/// One slice, on a connection of its own.
fn slice(front: &Front, id: &str, ip: &str, number: usize) -> String {
    let body = format!("slice {number:04}");
    let fields = format!(
        "Host: upload.example.com\r\nX-Upload-Id: {id}\r\nX-Forwarded-For: {ip}\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    let path = format!("POST /upload?slice={number} HTTP/1.1");
    let got = Client::new(front).ask(&path, &fields, &body).expect("a response");
    assert_eq!(got.status(), 200, "{got:?}");
    got.text().to_owned()
}

#[test]
fn uploads_in_slices_reach_one_server() {
    let mut origins = origins(3);
    let mut files = files("Example: uploads in slices", &UPLOADS, &origins);
    let by_id = files["upstreams/upload.toml"].clone();
    for by in ["header:x-upload-id", "client-address"] {
        files.insert("upstreams/upload.toml".into(), by_id.replace("header:x-upload-id", by));
        let front = front(4, &files);
        let clients = client_addresses(60);
        let mut homes = BTreeMap::<String, Vec<usize>>::new();
        for (number, ip) in clients.iter().enumerate() {
            let (id, ip) = match by {
                // A phone that changes networks keeps the upload's id …
                "header:x-upload-id" => (format!("upload-{number}"), None),
                // … and a client without an id keeps its address.
                _ => (String::from("none"), Some(ip)),
            };
            let of = |n: usize| ip.unwrap_or(&clients[(number + n) % clients.len()]);
            let servers: BTreeSet<_> = (0..8).map(|n| slice(&front, &id, of(n), n)).collect();
            assert_eq!(servers.len(), 1, "{by}: slices of {number} went to {servers:?}");
            homes.entry(servers.into_iter().next().expect("one")).or_default().push(number);
        }
        println!("uploads by {by}: {homes:?}");
        assert_eq!(homes.len(), 3);

        // One server dies: only its uploads begin anew elsewhere.
        origins[1].kill();
        eventually("it is out", || {
            slice(&front, "upload-1", &clients[homes["s1"][0]], 0);
            slice(&front, &format!("upload-{}", homes["s1"][0]), &clients[homes["s1"][0]], 0);
            front.servers()[1].0 == "ejected"
        });
        for (home, numbers) in &homes {
            for &number in numbers {
                let now = slice(&front, &format!("upload-{number}"), &clients[number], 9);
                assert_eq!(now == *home, home != "s1", "{by}: upload {number}");
            }
        }
        origins[1].revive();
    }
}
