//! `roundsman worker-ended`: not for people; what a worker's unit runs when the worker has ended.

use std::fs::{self, Metadata};
use std::io::Write as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::failure::Done;
use super::manage;
use crate::base::access_list;
use crate::base::exit;
use crate::base::file::{self, Links};
use crate::base::paths;
use crate::base::unit;
use crate::base::unit::Instance;
use crate::base::user::{self, ROUNDSMAN};
use crate::config::addresses;
use crate::config::copy::{self, AppCopy};
use crate::config::settings::App;
use crate::config::user_record;
use crate::deploy::listener_queue;
use crate::deploy::release;
use crate::deploy::sockets::{self, Held, SocketFault};
use crate::supervise::crashes::{Crashes, End};
use crate::supervise::leftovers;
use crate::supervise::life::{self, Life};
use crate::systemd::dbus::{Systemd, Verb};

/// Note how a worker ended (used by its unit)
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct WorkerEnded {
    /// Which one, as in shop:1
    #[arg(value_name = "APP:N")]
    instance: Instance,
    /// It is about to begin
    #[arg(long)]
    begins: bool,
}

/// What an app's workers are started with now: the settings that they get.
fn app(name: &str) -> Option<App> {
    let copy = AppCopy::path(Path::new("/"), name);
    let text = file::read_text(&copy, Links::Refuse, copy::MOST).ok()?;
    AppCopy::from_text(&text)?.app().ok()
}

impl WorkerEnded {
    /// Has the next start get a socket, where this one got none: at a `daemon-reload` systemd closes one
    /// whose address has changed, and opens none anew while its service runs.
    async fn open_socket(&self) -> Done {
        let Some(app) = app(&self.instance.app) else { return Ok(()) };
        let systemd = Systemd::connect().await?;
        let held = Held::now(&systemd).await;
        let fault = sockets::look(&systemd, &held, &app, self.instance.number).await?;
        if fault == Some(SocketFault::Lost) {
            // As below. Where the service has not ended by then, its own start opens it.
            let socket = unit::socket(&app.name, self.instance.number);
            systemd.begin(Verb::Restart, &socket).await?;
        }
        Ok(())
    }

    /// Where systemd is to close the worker's UNIX listener, has its process not wait for what an app has put
    /// into the queue there. In all other cases whoever waits there is served by the next run.
    async fn empty_listener(&self) -> Done {
        let Instance { app, number } = &self.instance;
        let path = paths::inherited_socket(app, *number);
        let is_socket = |found: Metadata| found.file_type().is_socket();
        if !fs::symlink_metadata(&path).is_ok_and(is_socket) {
            return Ok(()); // over TCP nobody is sent descriptors
        }
        let systemd = Systemd::connect().await?;
        if systemd.is_to_close(&unit::socket(app, *number)).await?
            && let Some(process) = systemd.process().await
        {
            let emptied = listener_queue::empty(process, &path);
            if let Err(error) = emptied {
                let _ = writeln!(
                    std::io::stderr(),
                    "warning: cannot take what waits at {} before systemd closes it: {error}; if it takes long to \
                     close, systemd does nothing else meanwhile",
                    path.display()
                );
            }
        }
        Ok(())
    }

    /// Notes it; where the worker is not to be started again, sees to it that no connection does.
    pub(super) fn run(&self) -> ExitCode {
        if self.begins {
            let instance = self.instance.to_string();
            let app = app(&self.instance.app);
            let release = app.as_ref().and_then(release::current);
            let begun = Crashes::begin(Path::new(paths::CRASHES), &instance, release.as_deref());
            let noted = app.as_ref().map_or(Ok(()), |app| {
                addresses::note(Path::new(paths::ADDRESSES), app, self.instance.number)
            });
            if let Ok(Some(group)) = user::group(ROUNDSMAN) {
                // Where that cannot be said the worker lets everybody in.
                let _ = access_list::let_in(&Path::new(paths::WORKERS).join(&instance), group);
            }
            let opened = app
                .as_ref()
                .map_or(Ok(()), |app| listener_queue::open_again(app, self.instance.number));
            let named = app.map_or(Ok(()), |app| user_record::note(Path::new(paths::USERS), &app));
            return manage::run(async { Ok(begun.and(noted).and(opened).and(named)?) });
        }
        let variable = |name| std::env::var(name).unwrap_or_default();
        let (result, status) = (variable("SERVICE_RESULT"), variable("EXIT_STATUS"));
        let instance = self.instance.to_string();
        let directory = Path::new(paths::CRASHES);
        let exited = |codes: &[u8]| {
            variable("EXIT_CODE") == "exited" && codes.iter().any(|code| status == code.to_string())
        };
        let stays_down = exited(&[exit::WORKER_DONE, exit::WORKER_GIVEN_UP, exit::WORKER_REFUSED]);
        let lacks_something = exited(&[exit::CONFIG]);
        let after = if stays_down {
            Crashes::default()
        } else {
            Crashes::load(directory, &instance).after(&End {
                result: &result,
                status: &status,
                life: Life::read(&Path::new(paths::WORKERS).join(&instance)),
                now: life::now(),
            })
        };
        manage::run(async {
            after.save(directory, &instance)?;
            Crashes::end(directory, &instance);
            addresses::forget(Path::new(paths::ADDRESSES), &instance);
            if let Err(error) = leftovers::remove(Path::new(paths::WORKERS), &instance) {
                let _ = writeln!(
                    std::io::stderr(),
                    "warning: what worker {instance} left in {}/{instance} or in its temporary directories is \
                     not all removed: {error}; it may keep room that other workers need",
                    paths::WORKERS
                );
            }
            if stays_down {
                // Its unit waits for us, and the socket for the unit: no waiting here.
                let socket = unit::socket(&self.instance.app, self.instance.number);
                Systemd::connect().await?.begin(Verb::Stop, &socket).await?;
            } else if lacks_something {
                self.open_socket().await?;
            }
            self.empty_listener().await
        })
    }
}
