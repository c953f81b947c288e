//! The front's side of the control API.

use std::convert::Infallible;
use std::rc::Rc;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;

use super::control::Control;
use crate::admin::explain::{Query, explain};
use crate::admin::model::{Drain, Failure, Undrain};

/// Bytes of a request body: a drain has about a hundred.
const BODY: usize = 64 * 1024;

/// Serves the control API on `listener` for as long as it is polled. Run it in a `LocalSet`.
pub async fn serve(listener: UnixListener, control: Rc<Control>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the admin socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let control = Rc::clone(&control);
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let control = Rc::clone(&control);
                async move { Ok::<_, Infallible>(answer(&control, request).await) }
            });
            // A client that goes away in the middle is its own business.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(control: &Rc<Control>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let result = match (request.method(), path.as_str()) {
        (&Method::GET, "/v1/status") => Ok(json(StatusCode::OK, &control.status())),
        (&Method::POST, "/v1/reload") => match control.reload() {
            Ok(()) => Ok(json(StatusCode::OK, &serde_json::json!({}))),
            Err(error) => Err((StatusCode::UNPROCESSABLE_ENTITY, error)),
        },
        (&Method::POST, "/v1/drain") => match read::<Drain>(request).await {
            Ok(drain) => match control.drain(&drain).await {
                Ok(drained) => Ok(json(StatusCode::OK, &drained)),
                Err(error) => Err((StatusCode::NOT_FOUND, error)),
            },
            Err(error) => Err((StatusCode::BAD_REQUEST, error)),
        },
        (&Method::POST, "/v1/undrain") => match read::<Undrain>(request).await {
            Ok(undrain) => match control.undrain(&undrain.target) {
                Ok(()) => Ok(json(StatusCode::OK, &serde_json::json!({}))),
                Err(error) => Err((StatusCode::NOT_FOUND, error)),
            },
            Err(error) => Err((StatusCode::BAD_REQUEST, error)),
        },
        (&Method::POST, "/v1/explain") => match read::<Query>(request).await {
            Ok(query) => Ok(json(StatusCode::OK, &explain(&control.front().snapshot(), &query))),
            Err(error) => Err((StatusCode::BAD_REQUEST, error)),
        },
        (_, "/v1/status" | "/v1/reload" | "/v1/drain" | "/v1/undrain" | "/v1/explain") => {
            Err((StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes another method")))
        }
        _ => Err((StatusCode::NOT_FOUND, format!("there is no {path} in this API"))),
    };
    result.unwrap_or_else(|(status, error)| json(status, &Failure { error }))
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, String> {
    let body = Limited::new(request.into_body(), BODY)
        .collect()
        .await
        .map_err(|error| format!("cannot read the request body: {error}"))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| format!("the request body is not what this call takes: {error}"))
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).unwrap_or_default(); // our own types always serialise
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}
