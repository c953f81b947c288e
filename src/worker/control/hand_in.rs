//! Connections that the front hands in.

use std::io;
use std::os::fd::AsFd;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::ControlContext;
use crate::handoff::{Record, receive_connections};
use crate::worker::cluster::HandedIn;

/// Answers that are written at once.
const TOGETHER: usize = 64;

impl ControlContext {
    /// Serves the front until it or the app is gone.
    pub(super) async fn hand_in(&self, mut stream: UnixStream) -> io::Result<()> {
        let Some(channel) = self.channel.as_ref().filter(|channel| channel.is_cluster()) else {
            return stream.write_all(b"error: the app is no cluster worker\n").await;
        };
        let (answer, mut answers) = mpsc::unbounded_channel();
        let mut view = channel.view();
        let mut takes = false;
        loop {
            let now = view.borrow_and_update().takes;
            if now != takes {
                takes = now;
                let record = if takes { Record::Ready } else { Record::Busy };
                stream.write_all(&record.bytes()).await?;
            }
            tokio::select! {
                changed = view.changed() => if changed.is_err() {
                    return Ok(());
                },
                Some(record) = answers.recv() => {
                    let mut bytes = Vec::from(Record::bytes(record));
                    for _ in 1..TOGETHER {
                        let Ok(record) = answers.try_recv() else { break };
                        bytes.extend_from_slice(&Record::bytes(record));
                    }
                    stream.write_all(&bytes).await?;
                }
                ready = stream.readable() => {
                    ready?;
                    let received = stream
                        .try_io(Interest::READABLE, || receive_connections(stream.as_fd()));
                    match received {
                        Ok(connections) => for (number, socket) in connections {
                            match socket {
                                Some(socket) => {
                                    let answer = answer.clone();
                                    channel.hand_in(HandedIn { socket, number, answer });
                                }
                                // This process has no descriptor left for it.
                                None => drop(answer.send(Record::Refused(number))),
                            }
                        },
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
}
