//! Who says what: anybody on the machine may send a signal of any name to anybody. Only the bus
//! itself says, and truly, which connection a message is from; so systemd is heard only as the
//! connection that owns its name now.

use zbus::fdo::{NameOwnerChanged, PropertiesChanged};
use zbus::{MatchRule, Message, message};

use super::interface::{self, JobRemoved, Reloading, UnitRemoved};
use super::unit::UnitState;

/// The bus itself; nobody else can have this name.
const BUS: &str = "org.freedesktop.DBus";

/// What systemd says, and the bus of systemd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signal {
    /// systemd speaks over another connection from now on; `false`: over none, for the time being.
    Systemd(bool),
    /// A job ended.
    JobRemoved {
        /// Its object's path.
        job: String,
        /// How, in systemd's word.
        result: String,
    },
    /// A unit's state changed.
    State(String, UnitState),
    /// What a service says of itself has changed.
    Status(String, String),
    /// A unit is not loaded any more.
    UnitRemoved(String),
    /// systemd reads its files again; `false`: has read them.
    Reloading(bool),
}

/// Hears systemd, and nobody else.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    systemd: Owner,
}

/// The connection that owns systemd's name, by its unique name.
#[derive(Debug, Default, PartialEq, Eq)]
enum Owner {
    #[default]
    Unknown,
    Nobody,
    Is(String),
    /// There is nobody else: the connection leads to systemd itself.
    Alone,
}

// === impl Hearing ===

impl Hearing {
    /// Over a connection to systemd itself, where nobody else can say anything.
    pub(super) fn of_systemd_alone() -> Self {
        Self { systemd: Owner::Alone }
    }

    /// What the bus has to pass on so that everything is heard that there is to hear.
    pub(super) fn rules() -> zbus::Result<Vec<MatchRule<'static>>> {
        let signal = || MatchRule::builder().msg_type(message::Type::Signal);
        let manager = |member| {
            let interface = "org.freedesktop.systemd1.Manager";
            signal().sender(interface::NAME).interface(interface).member(member).build()
        };
        let changed = |interface| {
            signal()
                .sender(interface::NAME)
                .interface("org.freedesktop.DBus.Properties")
                .member("PropertiesChanged")
                .path_namespace(interface::UNITS)
                .arg(0, interface)
                .build()
        };
        let owner =
            signal().sender(BUS).interface(BUS).member("NameOwnerChanged").arg(0, interface::NAME);
        Ok(vec![
            owner.build()?,
            changed(interface::UNIT)?,
            changed(interface::SERVICE)?,
            manager("JobRemoved")?,
            manager("UnitRemoved")?,
            manager("Reloading")?,
        ])
    }

    /// Takes in which connection the bus has said is systemd's. What it said later counts more.
    pub(super) fn learn(&mut self, systemd: &str) {
        if self.systemd == Owner::Unknown {
            self.systemd = Owner::Is(systemd.to_owned());
        }
    }

    /// What a message says, if it is a signal from one who is to be heard.
    pub(super) fn hear(&mut self, message: &Message) -> Option<Signal> {
        if message.message_type() != message::Type::Signal {
            return None;
        }
        let header = message.header();
        match (&self.systemd, header.sender().map(zbus::names::UniqueName::as_str)) {
            (Owner::Alone, _) => {}
            (_, Some(BUS)) => return self.hear_bus(message),
            (Owner::Is(systemd), Some(sender)) if systemd == sender => {}
            _ => return None,
        }
        if let Some(signal) = PropertiesChanged::from_message(message.clone()) {
            let arguments = signal.args().ok()?;
            let changed =
                |property| <&str>::try_from(arguments.changed_properties().get(property)?).ok();
            let unit = unit_of_path(header.path()?.as_str())?;
            return match arguments.interface_name().as_str() {
                interface::UNIT => {
                    Some(Signal::State(unit, UnitState::parse(changed("ActiveState")?)?))
                }
                interface::SERVICE => Some(Signal::Status(unit, changed("StatusText")?.to_owned())),
                _ => None,
            };
        }
        if let Some(signal) = JobRemoved::from_message(message.clone()) {
            let arguments = signal.args().ok()?;
            let (job, result) = (arguments.job().to_string(), arguments.result().to_string());
            return Some(Signal::JobRemoved { job, result });
        }
        if let Some(signal) = UnitRemoved::from_message(message.clone()) {
            return Some(Signal::UnitRemoved(signal.args().ok()?.id().to_string()));
        }
        let signal = Reloading::from_message(message.clone())?;
        Some(Signal::Reloading(*signal.args().ok()?.active()))
    }

    fn hear_bus(&mut self, message: &Message) -> Option<Signal> {
        let signal = NameOwnerChanged::from_message(message.clone())?;
        let arguments = signal.args().ok()?;
        if arguments.name() != interface::NAME {
            return None;
        }
        let owner = arguments.new_owner().as_ref().map(ToString::to_string);
        self.systemd = owner.map_or(Owner::Nobody, Owner::Is);
        Some(Signal::Systemd(self.systemd != Owner::Nobody))
    }
}

/// A unit's name from its object's path, in which each byte that is not a letter or a digit is
/// `_xx`.
fn unit_of_path(path: &str) -> Option<String> {
    let label = path.strip_prefix(interface::UNITS)?.strip_prefix('/')?.as_bytes();
    let mut name = Vec::with_capacity(label.len());
    let mut rest = label;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'_' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            name.push(u8::from_str_radix(hex, 16).ok()?);
            rest = tail.get(2..)?;
        } else {
            name.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    const SYSTEMD: &str = ":1.1";
    const STRANGER: &str = ":1.66";

    fn hearing() -> Hearing {
        let mut hearing = Hearing::default();
        hearing.learn(SYSTEMD);
        hearing
    }

    /// Each kind of signal, from whoever it is.
    fn signals(sender: &str) -> Vec<Message> {
        vec![
            fake::job_removed(sender, 7, "a.service", "done"),
            fake::state(sender, "a.service", "failed"),
            fake::status(sender, "a.service", "works"),
            fake::unit_removed(sender, "a.service"),
            fake::reloading(sender, true),
        ]
    }

    #[test]
    fn hears_systemd() {
        let mut hearing = hearing();
        let heard: Vec<_> = signals(SYSTEMD).iter().map(|s| hearing.hear(s).unwrap()).collect();
        let job = "/org/freedesktop/systemd1/job/7".to_owned();
        assert_eq!(
            heard,
            [
                Signal::JobRemoved { job, result: "done".to_owned() },
                Signal::State("a.service".to_owned(), UnitState::Failed),
                Signal::Status("a.service".to_owned(), "works".to_owned()),
                Signal::UnitRemoved("a.service".to_owned()),
                Signal::Reloading(true),
            ]
        );
    }

    #[test]
    fn hears_nobody_else() {
        let mut hearing = hearing();
        for signal in signals(STRANGER) {
            assert_eq!(hearing.hear(&signal), None, "{signal:?}");
        }
        let owner = fake::owner_changed(STRANGER, SYSTEMD, STRANGER);
        assert_eq!(hearing.hear(&owner), None, "only the bus says who systemd is");
        for signal in signals(STRANGER) {
            assert_eq!(hearing.hear(&signal), None, "{signal:?}");
        }
    }

    #[test]
    fn hears_nobody_before_it_knows_who_systemd_is() {
        let mut hearing = Hearing::default();
        for signal in signals(SYSTEMD) {
            assert_eq!(hearing.hear(&signal), None, "{signal:?}");
        }
    }

    #[test]
    fn hears_who_is_alone_by_no_name() {
        let mut hearing = Hearing::of_systemd_alone();
        for signal in signals("") {
            assert!(hearing.hear(&signal).is_some(), "{signal:?}");
        }
    }

    #[test]
    fn follows_systemd_to_another_connection() {
        let mut hearing = hearing();
        let gone = fake::owner_changed(BUS, SYSTEMD, "");
        assert_eq!(hearing.hear(&gone), Some(Signal::Systemd(false)));
        assert_eq!(hearing.hear(&fake::reloading(SYSTEMD, true)), None);
        let back = fake::owner_changed(BUS, "", ":1.9");
        assert_eq!(hearing.hear(&back), Some(Signal::Systemd(true)));
        assert_eq!(hearing.hear(&fake::reloading(SYSTEMD, true)), None, "the old name is nobody's");
        assert!(hearing.hear(&fake::reloading(":1.9", true)).is_some());
        // An answer that was on its way when the change came is old.
        hearing.learn(SYSTEMD);
        assert_eq!(hearing.hear(&fake::reloading(SYSTEMD, true)), None);
    }

    #[test]
    fn units_have_their_names_in_their_paths() {
        let path = "/org/freedesktop/systemd1/unit/roundsman_2dworker_40my_2dapp_3a12_2eservice";
        assert_eq!(unit_of_path(path).as_deref(), Some("roundsman-worker@my-app:12.service"));
        for path in [
            "/org/freedesktop/systemd1/unit/broken_2",
            "/org/freedesktop/systemd1/unit/broken_zz",
            "/org/freedesktop/systemd1/unit/broken_ff",
            "/org/freedesktop/systemd1/units",
            "/org/freedesktop/systemd1",
        ] {
            assert_eq!(unit_of_path(path), None, "{path}");
        }
    }
}
