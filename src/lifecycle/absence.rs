//! Which apps have nobody who is coming: all their workers are down, and systemd starts none of them. To
//! wait for one of those is to wait in vain, so requests fail at once.
//!
//! In the middle of a restart a unit is down for a moment, too. So it is looked a while later, and whether
//! there is a job for it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::balance::{State, Upstream};
use crate::front::Front;
use crate::systemd::dbus::Systemd;

/// How long a worker is down before somebody looks who starts it; longer than any restart leaves it so.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often is looked again while somebody comes.
const AGAIN: Duration = Duration::from_secs(5);

/// Follows the front's servers for as long as it is polled.
pub(crate) async fn run(front: Arc<Front>) {
    watch(&front, async || {
        let systemd = Systemd::connect().await.ok()?;
        let busy = systemd.busy(crate::base::unit::ALL_SERVICES).await.ok()?;
        let name = |unit: String| crate::base::unit::Instance::of_service(&unit);
        Some(busy.into_iter().filter_map(name).map(|worker| worker.to_string()).collect())
    })
    .await;
}

/// Whose workers are all down.
fn down(front: &Front) -> Vec<Arc<Upstream>> {
    let snapshot = front.snapshot();
    let apps = snapshot.upstreams.values().filter(|upstream| upstream.name.starts_with("app:"));
    let is_down = |upstream: &&Arc<Upstream>| {
        let mut servers = upstream.servers.iter();
        !upstream.is_deserted() && servers.all(|server| server.state() == State::Down)
    };
    apps.filter(is_down).cloned().collect()
}

/// `busy` asks systemd which workers run, or have a job.
async fn watch(front: &Front, busy: impl AsyncFn() -> Option<HashSet<String>>) {
    let mut changes = front.changes();
    loop {
        let before = down(front);
        let mut again = false;
        if !before.is_empty() {
            sleep(PATIENCE).await;
            changes.mark_unchanged();
            again = look(front, &before, &busy).await;
        }
        let changed = async { changes.changed().await.is_ok() };
        let goes_on = tokio::select! {
            goes_on = changed => goes_on,
            () = sleep(AGAIN), if again => true,
        };
        if !goes_on {
            return;
        }
    }
}

/// Says of which of these nobody is coming; true when somebody may be, so that it is to be looked again.
async fn look(
    front: &Front,
    before: &[Arc<Upstream>],
    busy: &impl AsyncFn() -> Option<HashSet<String>>,
) -> bool {
    let Some(busy) = busy().await else { return true };
    let (mut again, mut found) = (false, false);
    for upstream in down(front) {
        // One that has gone down only now has its time, too.
        let is_new = !before.iter().any(|known| known.name == upstream.name);
        if is_new || upstream.servers.iter().any(|server| busy.contains(&server.name)) {
            again = true;
            continue;
        }
        for server in &upstream.servers {
            found |= server.set_absent(true);
        }
    }
    if found {
        front.health_changed(); // wakes those who wait
    }
    again
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::config::sample;

    fn front() -> Front {
        Front::new(sample::shop("command = [\"/bin/x\"]\nworkers = 2\n"), 1)
    }

    async fn for_seconds(seconds: u64, watch: &mut std::pin::Pin<&mut impl Future<Output = ()>>) {
        tokio::select! {
            () = watch => panic!("it watches on"),
            () = sleep(Duration::from_secs(seconds)) => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_workers_that_are_down_and_have_no_job_none_is_coming() {
        let front = front();
        let busy = RefCell::new(HashSet::<String>::new());
        let mut watch = std::pin::pin!(watch(&front, async || Some(busy.borrow().clone())));
        let shop = front.snapshot().upstreams["app:shop"].clone();
        let set = |number: usize, state| front.set_state(&shop.servers[number], state);
        for_seconds(9, &mut watch).await;
        assert!(!shop.is_deserted(), "they run");
        set(0, State::Down);
        for_seconds(9, &mut watch).await;
        assert!(!shop.is_deserted(), "one runs");
        // A restart of the other one.
        set(1, State::Down);
        for_seconds(0, &mut watch).await;
        set(1, State::Up);
        for_seconds(9, &mut watch).await;
        assert!(!shop.is_deserted(), "it is back");
        // One whose start waits for something else.
        busy.borrow_mut().insert("shop:1".to_owned());
        set(1, State::Down);
        for_seconds(9, &mut watch).await;
        assert!(!shop.is_deserted(), "one is coming");
        let mut woken = front.changes();
        woken.mark_unchanged();
        busy.borrow_mut().clear();
        for_seconds(9, &mut watch).await;
        assert!(shop.is_deserted(), "nobody is");
        assert!(woken.has_changed().unwrap(), "who waits is told");
        shop.servers[0].set_absent(false);
        assert!(!shop.is_deserted(), "one starts");
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_everybody_may_be_coming() {
        let front = front();
        let shop = front.snapshot().upstreams["app:shop"].clone();
        for server in &shop.servers {
            front.set_state(server, State::Down);
        }
        let mut watch = std::pin::pin!(watch(&front, async || None));
        for_seconds(60, &mut watch).await;
        assert!(!shop.is_deserted());
    }
}
