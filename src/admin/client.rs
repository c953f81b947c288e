//! The command line's side of the admin API.

use std::io;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::model::ErrorResponse;
use crate::base::dial;

/// How long the front may take to accept, whatever the answer may take.
const CONNECT: Duration = Duration::from_secs(30);

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// Nobody listens there, or we may not.
    #[error("cannot reach the front at {path}: {source}{}", advice(.source))]
    Connect {
        /// The admin socket.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the front did not answer: {0}")]
    Broken(String),
    /// The front says no.
    #[error("{0}")]
    Refused(String),
    /// The front does not take the configuration.
    #[error("{0}")]
    Configuration(String),
    /// The front has no room for it.
    #[error("the front has no room: {0}")]
    NoRoom(String),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "\nIs it running? Try: systemctl start roundsman-admin.socket"
        }
        io::ErrorKind::PermissionDenied => {
            "\nRun this as root or as a member of the group \"roundsman\"."
        }
        _ => "",
    }
}

/// Calls the front and waits for its answer, `limit` at most.
pub(crate) fn call<Q: Serialize, A: DeserializeOwned>(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Q>,
    limit: Duration,
) -> Result<A, AdminError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| AdminError::Broken(error.to_string()))?;
    runtime.block_on(call_async(socket, method, path, body, limit))
}

/// As [`call`], for those who have a runtime.
pub(crate) async fn call_async<Q: Serialize, A: DeserializeOwned>(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Q>,
    limit: Duration,
) -> Result<A, AdminError> {
    tokio::time::timeout(limit, exchange(socket, method, path, body, limit))
        .await
        .unwrap_or_else(|_| Err(AdminError::Broken(format!("no answer within {limit:?}"))))
}

async fn exchange<Q: Serialize, A: DeserializeOwned>(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Q>,
    limit: Duration,
) -> Result<A, AdminError> {
    let broken = |error: &dyn std::fmt::Display| AdminError::Broken(error.to_string());
    let stream = dial::within_async(CONNECT.min(limit), socket)
        .await
        .map_err(|source| AdminError::Connect { path: socket.display().to_string(), source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    let body = body.map(serde_json::to_vec).transpose().map_err(|error| broken(&error))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "roundsman")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .map_err(|error| broken(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| broken(&error))?;
        Ok((status, body.to_bytes()))
    };
    let (status, body) = tokio::select! {
        answer = answer => answer?,
        Err(error) = connection => return Err(broken(&error)),
    };
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|error| broken(&error));
    }
    Err(serde_json::from_slice::<ErrorResponse>(&body).map_or_else(
        |_| broken(&format_args!("status {status}")),
        |failure| match status {
            StatusCode::UNPROCESSABLE_ENTITY => AdminError::Configuration(failure.error),
            StatusCode::SERVICE_UNAVAILABLE => AdminError::NoRoom(failure.error),
            _ => AdminError::Refused(failure.error),
        },
    ))
}
