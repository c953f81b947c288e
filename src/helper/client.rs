//! The side of whoever asks the helper.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use super::Request;
use super::frame::Frame;
use crate::base::dial;
use crate::base::interrupts::Interrupts;

/// How long systemd may take to accept.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the helper did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    /// Nobody who may.
    #[error(
        "this is for root, and for members of the group \"roundsman\".\nRun it as root (sudo), or \
         have root add you: adduser USER roundsman, and log in again"
    )]
    NotAllowed,
    /// Its socket is not there.
    #[error(
        "cannot reach the helper that does this for members of the group \"roundsman\" ({0}).\n\
         Run it as root (sudo), or have root start roundsman-helper.socket"
    )]
    Unreachable(io::Error),
    /// It went away.
    #[error(
        "the helper has ended without an answer: too many ask it at once, or it was stopped; \
         journalctl -u 'roundsman-helper@*' has more"
    )]
    Lost,
}

/// Has it done; prints what the command says, and returns its exit status. Ctrl-C, a lost terminal
/// and a termination interrupt the command, which ends in its own way.
///
/// # Errors
/// When the helper cannot be reached, or does not answer.
pub(crate) async fn ask(socket: &Path, request: &Request) -> Result<u8, HelperError> {
    let client =
        dial::within_async(PATIENCE, socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => HelperError::NotAllowed,
            _ => HelperError::Unreachable(error),
        })?;
    let (mut from, mut to) = client.into_split();
    to.write_all(&request.line()).await.map_err(|_| HelperError::Lost)?;
    let mut interrupts = Interrupts::new().map_err(HelperError::Unreachable)?;
    let (frames, mut received) = mpsc::channel(8);
    // In a task of its own, since a frame that is half read must not be lost to a signal.
    tokio::task::spawn_local(async move {
        while let Ok(Some(frame)) = Frame::read(&mut from).await {
            if frames.send(frame).await.is_err() {
                return;
            }
        }
    });
    loop {
        tokio::select! {
            frame = received.recv() => match frame {
                // A terminal that is gone is no reason to stop in the middle.
                Some(Frame::Out(bytes)) => drop(write(&mut io::stdout(), &bytes)),
                Some(Frame::Err(bytes)) => drop(write(&mut io::stderr(), &bytes)),
                Some(Frame::Exit(status)) => return Ok(status),
                None => return Err(HelperError::Lost),
            },
            () = interrupts.recv() => {
                // Where it is gone, the end of its answers says so.
                let _ = to.write_all(b"\n").await;
            }
        }
    }
}

fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
