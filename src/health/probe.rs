//! One check of one server: connect, and for HTTP ask and look at the answer.
//!
//! Each check has a connection of its own: a kept-alive one would say that an old connection is
//! still there, not that a new one can be made.

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::base::worker_socket;
use crate::config::settings::ProxyVersion;
use crate::config::settings::{Address, HttpProbe, Probe};
use crate::io::preface;

/// How much of a body is searched.
const BODY_LIMIT: usize = 64 * 1024;

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// No connection.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// What came back was not a whole HTTP response.
    #[error("no proper response")]
    Http(#[from] hyper::Error),
    /// The request cannot be made of these settings.
    #[error("cannot ask for this path or host")]
    Request(#[from] hyper::http::Error),
    /// Another status.
    #[error("the status is {0}")]
    Status(u16),
    /// The body lacks the text.
    #[error("the body does not contain {0:?}")]
    Body(String),
    /// Too late.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
}

/// Checks a server once; the caller sees to the time.
pub(crate) async fn probe(
    address: &Address,
    probe: &Probe,
    proxy_protocol: Option<ProxyVersion>,
) -> Result<(), ProbeError> {
    let mut header = Vec::new();
    if let Some(version) = proxy_protocol {
        preface::write(&mut header, version, None);
    }
    match address {
        Address::Tcp(socket) => {
            let mut stream = TcpStream::connect(socket).await.map_err(ProbeError::Connect)?;
            stream.write_all(&header).await.map_err(ProbeError::Connect)?;
            ask(stream, probe, &address.to_string()).await
        }
        Address::Unix(path) => {
            let mut stream = worker_socket::server(path).await.map_err(ProbeError::Connect)?;
            stream.write_all(&header).await.map_err(ProbeError::Connect)?;
            ask(stream, probe, "localhost").await
        }
    }
}

async fn ask<S>(stream: S, probe: &Probe, own_name: &str) -> Result<(), ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Probe::Http(http) = probe else { return Ok(()) };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::get(&http.path)
        .header(HOST, http.host.as_deref().unwrap_or(own_name))
        .header(USER_AGENT, concat!("roundsman/", env!("CARGO_PKG_VERSION"), " (health check)"))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        judge(http, response).await
    };
    // Side by side instead of in a task of its own: when the check is given up, so is this.
    tokio::pin!(connection, exchange);
    tokio::select! {
        result = &mut exchange => result,
        ended = &mut connection => {
            ended?; // a connection that ended well has left its answer
            exchange.await
        }
    }
}

async fn judge(
    http: &HttpProbe,
    mut response: hyper::Response<hyper::body::Incoming>,
) -> Result<(), ProbeError> {
    let status = response.status().as_u16();
    if !http.statuses.contains(status) {
        return Err(ProbeError::Status(status));
    }
    let Some(text) = &http.body else { return Ok(()) };
    let mut body = Vec::new();
    while body.len() < BODY_LIMIT
        && let Some(frame) = response.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            body.extend_from_slice(&data);
        }
    }
    body.truncate(BODY_LIMIT);
    if memchr::memmem::find(&body, text.as_bytes()).is_none() {
        return Err(ProbeError::Body(text.clone()));
    }
    Ok(())
}

impl ProbeError {
    /// The whole story, for the journal.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }
}
