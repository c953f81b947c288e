//! What others call it: keys of PM2, nginx, systemd and Docker that people type from habit.

/// Their word, in small letters and with `_`, and ours.
const WORDS: &[(&str, &str)] = &[
    ("args", "command"),
    ("autorestart", "restart"),
    ("client_max_body_size", "limits"),
    ("cmd", "command"),
    ("cron", "restart-at"),
    ("cron_restart", "restart-at"),
    ("cwd", "directory"),
    ("dir", "directory"),
    ("domain", "route"),
    ("entrypoint", "command"),
    ("env", "environment"),
    ("env_file", "environment-files"),
    ("environmentfile", "environment-files"),
    ("exec", "command"),
    ("exec_interpreter", "command"),
    ("exec_mode", "mode"),
    ("execstart", "command"),
    ("exp_backoff_restart_delay", "restart"),
    ("gid", "group"),
    ("host", "route"),
    ("hosts", "route"),
    ("ignore_watch", "watch"),
    ("instances", "workers"),
    ("interpreter", "command"),
    ("ip_hash", "balance"),
    ("keepalive_timeout", "timeouts"),
    ("kill_timeout", "stop-timeout"),
    ("least_conn", "balance"),
    ("listen_timeout", "start-timeout"),
    ("location", "route"),
    ("max_memory_restart", "max-memory"),
    ("max_restarts", "restart"),
    ("memorymax", "max-memory"),
    ("min_uptime", "restart"),
    ("path", "route"),
    ("processes", "workers"),
    ("proxy_pass", "servers"),
    ("replicas", "workers"),
    ("restart_delay", "restart"),
    ("script", "command"),
    ("server", "servers"),
    ("server_name", "route"),
    ("shutdown_with_message", "shutdown"),
    ("timeoutstartsec", "start-timeout"),
    ("timeoutstopsec", "stop-timeout"),
    ("uid", "user"),
    ("wait_ready", "ready"),
    ("working_dir", "directory"),
    ("workingdirectory", "directory"),
];

/// Our word for what others call so.
pub(super) fn ours(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    WORDS.binary_search_by_key(&word.as_str(), |(theirs, _)| theirs).ok().map(|at| WORDS[at].1)
}

#[cfg(test)]
mod tests {
    use super::super::schema::{FILES, SHARED};
    use super::*;

    #[test]
    fn words_are_in_order_and_lead_to_keys_that_there_are() {
        assert!(WORDS.is_sorted_by(|a, b| a.0 < b.0));
        let sections = FILES.iter().flat_map(|file| file.sections).chain(SHARED);
        let known: Vec<&str> =
            sections.flat_map(|section| section.keys).map(|key| key.name).collect();
        for (theirs, ours) in WORDS {
            assert!(known.contains(ours), "{theirs} leads to {ours}, which is no key");
        }
    }

    #[test]
    fn other_ways_of_writing_are_the_same_word() {
        for word in ["env", "Env", "WorkingDirectory", "working-dir", "max_memory_restart"] {
            assert!(ours(word).is_some(), "{word}");
        }
        assert_eq!(ours("speed"), None);
    }
}
