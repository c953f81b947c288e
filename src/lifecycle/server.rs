//! The front's side of the admin API.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::control::{Control, NotReloaded};
use super::earlier::RELIEVE;
use crate::admin::explain::{Query, explain};
use crate::admin::model::{Drain, ErrorResponse, Reload, Undrain};
use crate::base::limiter::Limiter;
use crate::base::peer::{Peer, Standing};
use crate::base::places::Places;
use crate::systemd::anchor;

/// Bytes of a request body: a drain has about a hundred.
const BODY: usize = 64 * 1024;

/// How long a request's head, and its body, may take to come.
const HEAD: Duration = Duration::from_secs(10);

/// How long a connection may take in all: longer than any drain.
const LONGEST: Duration = Duration::from_mins(40);

/// When it is tried again to accept, and how often it is said that this fails.
const AGAIN: Duration = Duration::from_millis(100);
const EVERY: Duration = Duration::from_mins(1);

/// Connections of one member of the group, and of all of them. Root's are not counted: each worker
/// that stops has one.
const OF_MEMBER: usize = 64;
const OF_MEMBERS: usize = 256;

/// What is answered to more.
const TOO_MANY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
                        content-length: 61\r\nconnection: close\r\n\r\n\
                        {\"error\":\"you have too many connections to the admin socket\"}";

/// What is answered to whoever is in a worker's unit, or has ended.
const DENIED: &str = "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\n\
                      content-length: 44\r\nconnection: close\r\n\r\n\
                      {\"error\":\"the admin socket is not for apps\"}";

/// Serves the admin API on `listener` for as long as it is polled. Run it in a `LocalSet`.
///
/// Not for this process itself, nor for an earlier front: they connect to where their servers listen,
/// and if one of them should bring them here, their clients would speak with the front's rights.
pub(crate) async fn serve(listener: UnixListener, control: Rc<Control>) {
    serve_all_but(Some(std::process::id()), listener, control).await;
}

async fn serve_all_but(own: Option<u32>, listener: UnixListener, control: Rc<Control>) {
    let places = Places::new(OF_MEMBER, OF_MEMBERS);
    let looks = Rc::new(Mutex::new(()));
    let failures = Limiter::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if failures.may_write(1, EVERY).is_some() {
                    tracing::warn!("cannot accept on the admin socket, and tries again: {error}");
                }
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        let Ok(peer) = Peer::of(&stream) else { continue };
        let is_front =
            (own.is_some() && peer.pid == own) || peer.pid.is_some_and(anchor::has_let_go);
        if is_front {
            continue;
        }
        // Not root, also where it drains its own worker, in whose unit it is.
        let counted = (peer.uid != 0).then(|| places.take(peer.uid));
        if let Some(None) = counted {
            let _ = stream.try_write(TOO_MANY.as_bytes()); // there is room, or it is gone
            continue;
        }
        let (control, looks) = (Rc::clone(&control), Rc::clone(&looks));
        tokio::task::spawn_local(async move {
            // An app may run as a user who is a member. Who is one the socket's mode says.
            if counted.is_some() && !is_for(&standing(peer, &looks).await) {
                let _ = stream.try_write(DENIED.as_bytes()); // there is room, or it is gone
                return;
            }
            let service = service_fn(|request| {
                let control = Rc::clone(&control);
                async move { Ok::<_, Infallible>(answer(&control, request).await) }
            });
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD).keep_alive(false);
            // A client that goes away in the middle is its own business.
            let serving = server.serve_connection(TokioIo::new(stream), service);
            let _ = timeout(LONGEST, serving).await;
            drop(counted);
        });
    }
}

/// Not in this thread, which does all else that the front is asked to do, and for one peer at a time,
/// so that whoever connects again and again has no more than one core's attention.
async fn standing(peer: Peer, looks: &Mutex<()>) -> Standing {
    let _only = looks.lock().await;
    let looked_at = tokio::task::spawn_blocking(move || peer.standing());
    looked_at.await.unwrap_or(Standing::Nobody)
}

/// Whether a peer that may open the socket may use it.
fn is_for(standing: &Standing) -> bool {
    *standing == Standing::Elsewhere
}

type Answer = Response<Full<Bytes>>;

async fn answer(control: &Rc<Control>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let result = match (request.method(), path.as_str()) {
        (&Method::GET, "/v1/status") => Ok(json(StatusCode::OK, &control.status())),
        (&Method::POST, "/v1/reload") => match read_or_default::<Reload>(request).await {
            Ok(reload) => match control.reload(reload.app.as_deref()) {
                Ok(()) => Ok(json(StatusCode::OK, &serde_json::json!({}))),
                Err(NotReloaded::Errors(errors)) => Err((StatusCode::UNPROCESSABLE_ENTITY, errors)),
                Err(NotReloaded::Want(want)) => Err((StatusCode::SERVICE_UNAVAILABLE, want)),
            },
            Err(error) => Err((StatusCode::BAD_REQUEST, error)),
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
                Err(refused) => Err(refused),
            },
            Err(error) => Err((StatusCode::BAD_REQUEST, error)),
        },
        (&Method::POST, RELIEVE) if control.earlier().is_one() => {
            control.threads().stop_accepting().await;
            control.earlier().be_relieved();
            Ok(json(StatusCode::OK, &serde_json::json!({})))
        }
        (&Method::POST, "/v1/explain") => match read::<Query>(request).await {
            Ok(query) => Ok(json(StatusCode::OK, &explain(&control.front().snapshot(), &query))),
            Err(error) => Err((StatusCode::BAD_REQUEST, error)),
        },
        (_, "/v1/status" | "/v1/reload" | "/v1/drain" | "/v1/undrain" | "/v1/explain") => {
            Err((StatusCode::METHOD_NOT_ALLOWED, format!("{path} takes another method")))
        }
        _ => Err((StatusCode::NOT_FOUND, format!("there is no {path} in this API"))),
    };
    result.unwrap_or_else(|(status, error)| json(status, &ErrorResponse { error }))
}

/// As [`read`], for a call whose body may be left out.
async fn read_or_default<T: DeserializeOwned + Default>(
    request: Request<Incoming>,
) -> Result<T, String> {
    let body = body(request).await?;
    if body.is_empty() { Ok(T::default()) } else { parse(&body) }
}

async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, String> {
    parse(&body(request).await?)
}

async fn body(request: Request<Incoming>) -> Result<Bytes, String> {
    let body = timeout(HEAD, Limited::new(request.into_body(), BODY).collect())
        .await
        .map_err(|_| format!("the request body has not come within {} s", HEAD.as_secs()))?
        .map_err(|error| format!("cannot read the request body: {error}"))?;
    Ok(body.to_bytes())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::task::LocalSet;
    use tokio::time::Instant;

    use super::*;
    use crate::config::{Settings, Sources};
    use crate::front::Front;
    use crate::lifecycle::state::Kept;
    use crate::thread::Threads;

    fn control() -> Rc<Control> {
        let front = Arc::new(Front::new(Settings::default(), 1));
        let threads = Threads::start(Arc::clone(&front), &[0], false).unwrap();
        let sources = Sources::directory("/no/such");
        Rc::new(Control::new(front, threads, sources, Kept::default(), false, false, Vec::new()))
    }

    /// What a client gets for these bytes, after which it says nothing more, and when.
    async fn said(bytes: &[u8]) -> (String, Duration) {
        said_by(None, bytes).await
    }

    /// The same where this process, whose number is given, is the front.
    async fn said_by(own: Option<u32>, bytes: &[u8]) -> (String, Duration) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let serving = async {
            tokio::task::spawn_local(serve_all_but(own, listener, control()));
            let start = Instant::now();
            let mut client = UnixStream::connect(&path).await.unwrap();
            let _ = client.write_all(bytes).await;
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer).await;
            (String::from_utf8(answer).unwrap(), start.elapsed())
        };
        LocalSet::new().run_until(serving).await
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_keeps_a_connection_without_asking_for_something() {
        for silent in [&b""[..], b"GET /v1/status HTTP/1.1\r\nHost: x"] {
            let (_, after) = said(silent).await;
            assert!(after < HEAD * 2, "{after:?}");
        }
        let body = b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{";
        let (answer, after) = said(body).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("within 10 s"), "{answer}");
        assert!(after < HEAD * 2, "{after:?}");
    }

    #[tokio::test]
    async fn the_front_is_no_client_of_itself() {
        let request = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(said_by(Some(std::process::id()), request).await.0, "");
        assert!(said_by(Some(1), request).await.0.starts_with("HTTP/1.1 200 OK"));
    }

    #[tokio::test]
    async fn a_connection_is_for_one_call() {
        let request = "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n";
        let (answer, _) = said(request.repeat(2).as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
        for answer in [TOO_MANY, DENIED] {
            let body = answer.split_once("\r\n\r\n").expect("a head and a body").1;
            assert!(answer.contains(&format!("content-length: {}\r\n", body.len())), "{answer}");
        }
    }

    #[test]
    fn an_app_of_a_member_is_no_client() {
        assert!(is_for(&Standing::Elsewhere));
        for other in [
            Standing::Worker("shop:1".parse().unwrap()),
            Standing::Confined,
            Standing::Hidden,
            Standing::Nobody,
        ] {
            assert!(!is_for(&other), "{other:?}");
        }
    }
}
