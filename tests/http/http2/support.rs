//! An HTTP/2 client and server that do as they are told.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream, client};
use http::{HeaderMap, Request, Response};
use roundsman::config::Settings;
use roundsman::config::settings::{Listener, ServerProtocol};

use crate::http::support::{Backend, PATIENCE, Proxy, Wire};

/// One thread over these servers, whose listener takes HTTP/2.
pub(crate) fn proxy(backends: &[&Backend]) -> Proxy {
    proxy_with(backends, |_| {})
}

pub(crate) fn proxy_with(backends: &[&Backend], change: impl FnOnce(&mut Settings)) -> Proxy {
    Proxy::with(backends, |settings| {
        take_http2(settings);
        change(settings);
    })
}

/// Has the listener take HTTP/2.
pub(crate) fn take_http2(settings: &mut Settings) {
    let listener = Listener { http2: true, ..Listener::default() };
    settings.front.listeners.insert("http".into(), listener);
}

/// Has the servers speak HTTP/2.
pub(crate) fn speak_http2(settings: &mut Settings) {
    let upstream = settings.upstreams.get_mut("test").unwrap();
    upstream.balancing.protocol = ServerProtocol::H2c;
    for server in &mut upstream.servers {
        server.options.protocol = ServerProtocol::H2c;
    }
}

/// Runs a test's client.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let all = async { tokio::time::timeout(PATIENCE * 2, test).await.expect("the test hangs") };
    local.block_on(&runtime, all)
}

/// A client connection.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) send: client::SendRequest<Bytes>,
    /// How the connection ended.
    pub(crate) ended: Rc<tokio::sync::watch::Receiver<Option<Result<(), String>>>>,
}

/// A response with all that belongs to it.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Client {
    pub(crate) async fn connect(front: &impl Wire) -> Self {
        Self::with(front, &mut client::Builder::new()).await
    }

    pub(crate) async fn with(front: &impl Wire, builder: &mut client::Builder) -> Self {
        let stream = tokio::net::TcpStream::connect(front.at()).await.unwrap();
        let (send, connection) = builder.handshake(stream).await.unwrap();
        let (report, ended) = tokio::sync::watch::channel(None);
        tokio::task::spawn_local(async move {
            let result = connection.await.map_err(|error| error.to_string());
            let _ = report.send(Some(result));
        });
        Self { send, ended: Rc::new(ended) }
    }

    /// Sends a head.
    pub(crate) async fn begin(
        &self,
        request: Request<()>,
        end: bool,
    ) -> (client::ResponseFuture, SendStream<Bytes>) {
        let mut ready = self.send.clone().ready().await.unwrap();
        ready.send_request(request, end).unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Whole, h2::Error> {
        let (response, _) = self.begin(get(path), true).await;
        whole(response).await
    }

    /// Waits until the connection has ended; how it did.
    pub(crate) async fn end(&self) -> Result<(), String> {
        let mut ended = (*self.ended).clone();
        let result = ended.wait_for(Option::is_some).await;
        result.map_or(Ok(()), |result| result.clone().unwrap_or(Ok(())))
    }
}

pub(crate) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.example{path}")).body(()).unwrap()
}

pub(crate) fn post(path: &str) -> Request<()> {
    Request::post(format!("http://a.example{path}")).body(()).unwrap()
}

/// Reads a response to its end.
pub(crate) async fn whole(response: client::ResponseFuture) -> Result<Whole, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?;
    Ok(Whole { status: head.status.as_u16(), fields: head.headers, body: all, trailers })
}

/// What a server was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) fields: HeaderMap,
    pub(crate) connection: usize,
}

/// A server that speaks HTTP/2 on a port of its own.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) backend: SocketAddr,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// A server that does this for each request; `number` is the connection's, from 0.
    pub(crate) fn new<F, W>(answer: F) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>, usize) -> W + Clone + Send + 'static,
        W: Future<Output = ()> + 'static,
    {
        Self::with(h2::server::Builder::new(), answer, |_, _| {})
    }

    /// The same; `each` is called with the connection after each request was taken.
    pub(crate) fn with<F, W, E>(builder: h2::server::Builder, answer: F, each: E) -> Self
    where
        F: Fn(Request<RecvStream>, SendResponse<Bytes>, usize) -> W + Clone + Send + 'static,
        W: Future<Output = ()> + 'static,
        E: Fn(&mut h2::server::Connection<tokio::net::TcpStream, Bytes>, usize)
            + Clone
            + Send
            + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let backend = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                for number in 0.. {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (answer, each) = (answer.clone(), each.clone());
                    let (log, builder) = (Arc::clone(&log), builder.clone());
                    tokio::task::spawn_local(async move {
                        let Ok(mut connection) = builder.handshake(stream).await else { return };
                        while let Some(Ok((request, respond))) = connection.accept().await {
                            log.lock().unwrap().push(Asked {
                                method: request.method().to_string(),
                                uri: request.uri().to_string(),
                                fields: request.headers().clone(),
                                connection: number,
                            });
                            each(&mut connection, number);
                            tokio::task::spawn_local(answer(request, respond, number));
                        }
                    });
                }
            });
        });
        Self { backend, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The front over this server.
    pub(crate) fn proxy(&self) -> Proxy {
        let mut settings = crate::http::support::settings(&[self.backend]);
        take_http2(&mut settings);
        speak_http2(&mut settings);
        Proxy::start(settings, 1)
    }
}

/// Answers with this body.
pub(crate) fn answer(mut respond: SendResponse<Bytes>, body: &str) {
    let mut stream = respond.send_response(Response::new(()), body.is_empty()).unwrap();
    if !body.is_empty() {
        stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
    }
}

/// Sends a body as flow control allows.
pub(crate) async fn send_all(stream: &mut SendStream<Bytes>, mut data: Bytes, end: bool) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let mut room = stream.capacity();
        while room == 0 {
            let more = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            let Some(Ok(more)) = more else { return };
            room = more;
        }
        let part = data.split_to(room.min(data.len()));
        if stream.send_data(part, end && data.is_empty()).is_err() {
            return;
        }
    }
}
