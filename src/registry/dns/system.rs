//! What the machine says about looking names up: `/etc/resolv.conf` and `/etc/hosts`.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::base::want;
use crate::config::settings::Dns;

const PORT: u16 = 53;
/// As many as the C library uses.
const MAX_SERVERS: usize = 3;

/// Whom to ask, and how short names are completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// In the order in which they are asked.
    pub servers: Vec<SocketAddr>,
    /// What short names are tried with.
    pub search: Vec<String>,
    /// With so many dots a name is tried as it is first.
    pub dots: u32,
    /// `/etc/hosts`.
    pub hosts: String,
}

impl System {
    /// As it is now. It may change at any time: a machine moves between networks.
    ///
    /// # Errors
    /// When this process has nothing left to read it with. That a file is not there is none.
    pub fn read(settings: &Dns) -> io::Result<Self> {
        let file = |path| match std::fs::read(path) {
            Err(error) if want::is_ours(&error) => Err(error),
            content => Ok(content.unwrap_or_default()), // as the C library takes it
        };
        let hosts = String::from_utf8_lossy(&file("/etc/hosts")?).into_owned();
        Ok(Self::new(settings, &file("/etc/resolv.conf")?, hosts))
    }

    /// With these files.
    pub fn new(settings: &Dns, resolv_conf: &[u8], hosts: String) -> Self {
        let (config, _) = resolv_conf::Config::parse_with_errors(resolv_conf);
        let servers = if settings.servers.is_empty() {
            let found = config.get_nameservers_or_local();
            found.iter().take(MAX_SERVERS).map(|ip| SocketAddr::new(ip.into(), PORT)).collect()
        } else {
            settings.servers.clone()
        };
        let search = config.get_last_search_or_domain();
        let search = search.map(|s| s.trim_matches('.').to_ascii_lowercase());
        let search = search.filter(|s| !s.is_empty()).collect();
        Self { servers, search, dots: config.ndots, hosts }
    }

    /// What a name may stand for, in the order in which it is tried.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(whole) = name.strip_suffix('.') {
            return vec![whole.to_owned()];
        }
        let dots = name.bytes().filter(|&b| b == b'.').count();
        let mut names: Vec<_> = self.search.iter().map(|end| format!("{name}.{end}")).collect();
        let at = if dots >= self.dots as usize { 0 } else { names.len() };
        names.insert(at, name.to_owned());
        names
    }

    /// The addresses that `/etc/hosts` has for a name.
    pub fn hosts(&self, name: &str) -> Vec<IpAddr> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let line = |line: &str| {
            let mut words = line.split('#').next()?.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        };
        self.hosts.lines().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(resolv_conf: &str, hosts: &str) -> System {
        System::new(&Dns::default(), resolv_conf.as_bytes(), hosts.to_owned())
    }

    #[test]
    fn the_servers_are_those_of_the_machine_or_of_the_configuration() {
        let text =
            "# by hand\nnameserver 10.0.0.53\nnameserver fe80::1\noptions ndots:2 nonsense\n";
        let of_machine = system(text, "");
        let servers: Vec<_> = of_machine.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.53:53", "[fe80::1]:53"]);
        assert_eq!(of_machine.dots, 2);
        assert_eq!(system("", "").servers[0].to_string(), "127.0.0.1:53");
        let settings = Dns { servers: vec![([10, 0, 0, 1], 5353).into()], ..Dns::default() };
        let own = System::new(&settings, text.as_bytes(), String::new());
        assert_eq!(own.servers, settings.servers);
    }

    #[test]
    fn short_names_are_completed() {
        let system = system("search a.example b.example.\n", "");
        assert_eq!(system.candidates("api"), ["api.a.example", "api.b.example", "api"]);
        assert_eq!(system.candidates("x.api"), ["x.api", "x.api.a.example", "x.api.b.example"]);
        assert_eq!(system.candidates("api."), ["api"]);
    }

    #[test]
    fn the_hosts_file_has_all_addresses_of_a_name() {
        let hosts = "127.0.0.1 localhost\n::1 localhost ip6 # api\n10.0.0.1\tAPI api.internal\n\
                     10.0.0.2 api\nnonsense api\n";
        let system = system("", hosts);
        let found = |name: &str| {
            let found = system.hosts(name);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found("localhost"), ["127.0.0.1", "::1"]);
        assert_eq!(found("api"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(found("api.internal."), ["10.0.0.1"]);
        assert!(found("other").is_empty());
    }
}
