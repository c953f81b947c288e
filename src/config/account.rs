//! As whom an app's workers run that has no `user`: a user that exists only while they run, one for
//! all of them, and another one for each other app.

use sha2::{Digest as _, Sha256};

use super::settings::App;
use crate::base::text;
use crate::base::user::ROUNDSMAN;

/// How the names begin of users that exist only while an app runs.
const PREFIX: &str = "rmw-";

/// The same where the app's name is too long: a part of it and a number for all of it follow.
const PREFIX_OF_LONG: &str = "rmx-";

/// What systemd takes at most.
const LONGEST: usize = 31;

/// The numbers that systemd gives to such users (systemd.exec(5), `DynamicUser=`).
pub(crate) const DYNAMIC: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// The users of Roundsman's own services and their like, which no app may run as. Whoever is the
/// front reads the keys of certificates, and whoever is the session store everybody's sessions.
pub(crate) const OURS: [&str; 2] = [ROUNDSMAN, "roundsman-session"];

/// What an account is: the names and numbers of ours, and of apps without `user`, are the same for
/// both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccountKind {
    /// As whom an app runs.
    User,
    /// What it may do beside.
    Group,
}

/// Why no app's file may say that it runs as this user, or in this group, and what it should say.
/// Whoever is in the group of Roundsman's own has its control sockets, and in another app's that
/// app's files.
pub(super) fn fault(kind: AccountKind, name: &str) -> Option<(String, &'static str)> {
    let (what, own) = match kind {
        AccountKind::User => {
            ("user", "write another user, or leave `user` out: the app then has one of its own")
        }
        AccountKind::Group => {
            ("group", "write another group, or leave `group` out: the app then has its user's own")
        }
    };
    if name == ROUNDSMAN || name.starts_with("roundsman-") {
        return Some((format!("`{name}` is a {what} of Roundsman's own, not one for apps"), own));
    }
    if name.starts_with(PREFIX) || name.starts_with(PREFIX_OF_LONG) {
        let why =
            format!("`{name}` is a name of {what}s that apps without `user` get by themselves");
        return Some((why, own));
    }
    if name.parse().is_ok_and(|number| DYNAMIC.contains(&number)) {
        let why = format!("{what} number {name} is systemd's to give, to any service and any app");
        return Some((why, own));
    }
    None
}

/// The name of the user that the app's workers run as.
pub(crate) fn user(app: &App) -> String {
    app.user.clone().unwrap_or_else(|| dynamic(&app.name))
}

/// Whether the app's file says that it runs as root: nothing else makes it so.
pub(crate) fn is_root(app: &App) -> bool {
    matches!(app.user.as_deref(), Some("root" | "0"))
}

/// Names of apps are lower case and may be twice as long as a user's.
fn dynamic(app: &str) -> String {
    if PREFIX.len() + app.len() <= LONGEST {
        return format!("{PREFIX}{app}");
    }
    // 64 bits: no two of the apps of a machine have the same by chance.
    let digits = text::hex(&Sha256::digest(app)[..8]);
    let room = LONGEST - PREFIX_OF_LONG.len() - 1 - digits.len();
    format!("{PREFIX_OF_LONG}{}-{digits}", &app[..room])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_say_whose_they_are() {
        assert_eq!(dynamic("shop"), "rmw-shop");
        assert_eq!(dynamic(&"a".repeat(27)), format!("rmw-{}", "a".repeat(27)));
        let long = dynamic("the-shop-of-the-whole-company");
        assert!(long.starts_with("rmx-the-shop-o-"), "{long}");
        assert_ne!(long, dynamic("the-shop-of-the-whole-company2"));
    }

    #[test]
    fn an_app_runs_as_its_own_user_and_as_another_where_its_file_says_so() {
        for (line, as_whom, root) in [
            ("", "rmw-shop", false),
            ("user = \"deploy\"", "deploy", false),
            ("user = \"root\"", "root", true),
        ] {
            let text = format!("command = [\"/bin/x\"]\n{line}\n");
            let app = &super::super::sample::shop(&text).apps["shop"];
            assert_eq!((user(app).as_str(), is_root(app)), (as_whom, root));
        }
    }

    #[test]
    fn no_app_runs_as_a_user_of_ours_or_of_another_app() {
        let another = dynamic("other");
        let long = dynamic("the-shop-of-the-whole-company");
        for user in [
            "roundsman",
            "roundsman-session",
            "roundsman-unset",
            &another,
            &long,
            "61184",
            "65519",
            "061184",
        ] {
            assert!(fault(AccountKind::User, user).is_some(), "{user}");
            let (why, _) = fault(AccountKind::Group, user).expect("nor is it in such a group");
            assert!(why.contains("group"), "{why}");
        }
        for user in ["deploy", "root", "0", "1000", "65520", "roundsmans", "rm", "nobody"] {
            assert_eq!(fault(AccountKind::User, user), None, "{user}");
            assert_eq!(fault(AccountKind::Group, user), None, "{user}");
        }
    }

    proptest! {
        #[test]
        fn names_are_valid_and_nobody_elses(
            one in "[a-z0-9_][a-z0-9_-]{0,63}", two in "[a-z0-9_][a-z0-9_-]{0,63}"
        ) {
            let name = dynamic(&one);
            prop_assert!(name.len() <= LONGEST);
            prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b)));
            prop_assert_eq!(one == two, name == dynamic(&two));
        }
    }
}
