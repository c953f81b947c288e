//! The worker units' states, over D-Bus: the front knows within milliseconds that a worker stops,
//! fails or is back.

use std::collections::HashMap;
use std::num::NonZero;
use std::time::Duration;

use tokio::time::sleep;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant, message};

use crate::base::unit;
use crate::base::unit::Instance;

/// What systemd says a unit is doing, as far as it matters here (`ActiveState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitState {
    /// `active` (or `reloading`): started and ready.
    Active,
    /// `activating`: being started, or waiting for its restart.
    Activating,
    /// `deactivating`: being stopped; what it has in flight may finish.
    Deactivating,
    /// `inactive`: stopped, or not there at all.
    Inactive,
    /// `failed`: given up.
    Failed,
}

/// Something the bus said.
#[derive(Debug)]
pub enum Event {
    /// The states of all loaded worker units, by instance (`shop:1`): at the beginning, and after
    /// a lost connection. What is not in it is not loaded.
    All(HashMap<String, UnitState>),
    /// One worker's state changed.
    Changed(String, UnitState),
    /// The bus cannot be reached; the last states stay true until it can.
    Lost(String),
}

const MANAGER: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// Between two attempts to reach the bus. systemd restarts the bus within that.
const RECONNECT: Duration = Duration::from_secs(1);

/// Signals that may wait for us: a boot with hundreds of workers has a few thousand.
const SIGNALS: usize = 4096;

/// Tells `on_event` what happens to the worker units, for as long as it is polled.
pub async fn follow(mut on_event: impl FnMut(Event)) {
    loop {
        if let Err(error) = follow_once(&mut on_event).await {
            on_event(Event::Lost(error.to_string()));
        }
        sleep(RECONNECT).await;
    }
}

type Unit =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

async fn follow_once(on_event: &mut impl FnMut(Event)) -> zbus::Result<()> {
    let connection = Connection::system().await?;
    let rule = MatchRule::builder()
        .msg_type(message::Type::Signal)
        .sender(MANAGER)
        .path_namespace(MANAGER_PATH)
        .build()?;
    // First subscribe, then list: nothing can happen in between unseen.
    let mut signals =
        MessageStream::for_match_rule(rule, &connection, NonZero::new(SIGNALS)).await?;
    call(&connection, "Subscribe", &()).await?;
    on_event(Event::All(list(&connection).await?));
    // A daemon-reload says of every unit that it is gone, and then that it is there again.
    let mut reloading = false;
    while let Some(signal) = next(&mut signals).await {
        let signal = signal?;
        let header = signal.header();
        let member = header.member().map(|m| m.as_str().to_owned());
        match member.as_deref() {
            Some("PropertiesChanged") => {
                let Some(path) = header.path() else { continue };
                let Some(instance) = instance_of_path(path.as_str()) else { continue };
                let body = signal.body();
                let Ok((_, changed, _)) =
                    body.deserialize::<(String, HashMap<String, OwnedVariant>, Vec<String>)>()
                else {
                    continue;
                };
                let state = changed.get("ActiveState").and_then(|v| <&str>::try_from(v).ok());
                if let Some(state) = state.and_then(UnitState::parse) {
                    on_event(Event::Changed(instance, state));
                }
            }
            Some("UnitRemoved") if !reloading => {
                let body = signal.body();
                let Ok((name, _)) = body.deserialize::<(String, OwnedObjectPath)>() else {
                    continue;
                };
                if let Some(instance) = instance_of_unit(&name) {
                    on_event(Event::Changed(instance, UnitState::Inactive));
                }
            }
            Some("Reloading") => {
                let Ok((begins,)) = signal.body().deserialize::<(bool,)>() else { continue };
                reloading = begins;
                if !begins {
                    // Units may have come and gone: look at all of them again.
                    on_event(Event::All(list(&connection).await?));
                }
            }
            _ => {}
        }
    }
    Err(zbus::Error::Failure("the connection to the system bus was closed".to_owned()))
}

async fn next(signals: &mut MessageStream) -> Option<zbus::Result<zbus::Message>> {
    use std::pin::Pin;
    std::future::poll_fn(|context| {
        futures_core::Stream::poll_next(Pin::new(&mut *signals), context)
    })
    .await
}

async fn call<B>(connection: &Connection, method: &str, body: &B) -> zbus::Result<zbus::Message>
where
    B: serde::Serialize + zbus::zvariant::DynamicType,
{
    connection.call_method(Some(MANAGER), MANAGER_PATH, Some(MANAGER_INTERFACE), method, body).await
}

async fn list(connection: &Connection) -> zbus::Result<HashMap<String, UnitState>> {
    let none: [&str; 0] = [];
    let reply =
        call(connection, "ListUnitsByPatterns", &(&none[..], &[unit::ALL_SERVICES][..])).await?;
    let units: Vec<Unit> = reply.body().deserialize()?;
    Ok(units
        .iter()
        .filter_map(|unit| Some((instance_of_unit(&unit.0)?, UnitState::parse(&unit.3)?)))
        .collect())
}

/// `shop:1` of `roundsman-worker@shop:1.service`.
fn instance_of_unit(name: &str) -> Option<String> {
    Some(Instance::of_service(name)?.to_string())
}

/// The same of a unit's object path, in which each byte that is not a letter or a digit is `_xx`.
fn instance_of_path(path: &str) -> Option<String> {
    let label = path.strip_prefix("/org/freedesktop/systemd1/unit/")?.as_bytes();
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
    instance_of_unit(std::str::from_utf8(&name).ok()?)
}

// === impl UnitState ===

impl UnitState {
    pub(super) fn parse(active_state: &str) -> Option<Self> {
        Some(match active_state {
            "active" | "reloading" | "refreshing" => Self::Active,
            "activating" => Self::Activating,
            "deactivating" => Self::Deactivating,
            "inactive" | "maintenance" => Self::Inactive,
            "failed" => Self::Failed,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_instance_from_an_object_path() {
        let path = "/org/freedesktop/systemd1/unit/roundsman_2dworker_40my_2dapp_3a12_2eservice";
        assert_eq!(instance_of_path(path).as_deref(), Some("my-app:12"));
    }

    #[test]
    fn other_units_are_not_workers() {
        for path in [
            "/org/freedesktop/systemd1/unit/roundsman_2eservice",
            "/org/freedesktop/systemd1/unit/roundsman_2dworker_40a_3a1_2esocket",
            "/org/freedesktop/systemd1/unit/broken_2",
            "/org/freedesktop/systemd1",
        ] {
            assert_eq!(instance_of_path(path), None, "{path}");
        }
    }
}
