//! WebSockets on streams of HTTP/2 (RFC 8441), to servers that speak HTTP/1.1.

use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use h2::ext::Protocol;
use h2::{Reason as Code, RecvStream, SendStream, client};
use http::{HeaderMap, Method, Request};
use roundsman::front::Reason;

use super::clients::said;
use super::support::{Client, proxy, proxy_with, run, send_all, whole};
use crate::http::support::{
    Backend, Message, Proxy, PythonServer, Wire as _, eventually, eventually_meanwhile, ok,
    program_over,
};

/// How a server agrees to this request.
fn switch(request: &Message) -> Vec<u8> {
    let key = request.one("sec-websocket-key").unwrap();
    let hashed = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"); // RFC 6455 4.2.2
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, hashed.as_bytes()));
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let fields = format!("Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n");
    [head, &fields].concat().into_bytes()
}

/// A server that switches and then echoes, with a greeting; it ends when it reads `bye`, and
/// breaks off when it reads `break`.
fn echo() -> Backend {
    Backend::raw(|peer| {
        let Some(request) = peer.request() else { return };
        if request.one("upgrade") != Some("websocket") {
            return drop(peer.send(&ok("plain")));
        }
        let early = std::mem::take(&mut peer.reader.buffer);
        assert!(early.is_empty(), "bytes before the switch: {early:?}");
        peer.send(&[&switch(&request)[..], b"greeting"].concat()).unwrap();
        while let Ok(true) = peer.reader.fill() {
            let bytes = std::mem::take(&mut peer.reader.buffer);
            if bytes.ends_with(b"bye") || peer.send(&bytes).is_err() {
                return;
            }
        }
        let _ = peer.send(b"ended");
    })
}

/// What opens a WebSocket.
fn opening(path: &str, protocol: &'static str) -> Request<()> {
    Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://a.example{path}"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .extension(Protocol::from_static(protocol))
        .body(())
        .unwrap()
}

/// A client that may ask for WebSockets: the front's settings have come.
async fn connect(proxy: &Proxy) -> Client {
    let client = Client::with(proxy, &mut client::Builder::new()).await;
    while !client.send.is_extended_connect_protocol_enabled() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client
}

/// Opens one, which must be granted.
async fn open(client: &Client) -> (HeaderMap, RecvStream, SendStream<Bytes>) {
    let (response, send) = client.begin(opening("/chat?a=b", "websocket"), false).await;
    let (head, body) = response.await.unwrap().into_parts();
    assert_eq!(head.status, 200);
    (head.headers, body, send)
}

/// Reads so many bytes.
async fn read(body: &mut RecvStream, count: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < count {
        let data = body.data().await.expect("it goes on").unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    assert_eq!(all.len(), count);
    all
}

/// Nothing more comes, and that is how it is to be.
async fn ends(body: &mut RecvStream) {
    while let Some(data) = body.data().await {
        assert_eq!(data.unwrap(), b""[..]);
    }
}

#[test]
fn bytes_go_both_ways_beside_other_requests() {
    let backend = echo();
    let proxy = proxy(&[&backend]);
    run(async {
        let client = connect(&proxy).await;
        let (fields, mut body, mut send) = open(&client).await;
        assert_eq!(fields["sec-websocket-protocol"], "chat");
        for name in ["sec-websocket-accept", "connection", "upgrade", "content-length"] {
            assert!(!fields.contains_key(name), "{name}");
        }
        assert_eq!(read(&mut body, 8).await, b"greeting");
        let (_, mut other, _other) = open(&client).await;
        assert_eq!(read(&mut other, 8).await, b"greeting");
        for number in 0..100_u32 {
            let message = Bytes::copy_from_slice(&number.to_be_bytes());
            send_all(&mut send, message.clone(), false).await;
            assert_eq!(read(&mut body, 4).await, message);
        }
        // More than all windows hold, while nobody reads: it waits, and comes whole.
        let large = Bytes::from((0..3_000_000_u32).map(|n| n as u8).collect::<Vec<_>>());
        let sender = tokio::task::spawn_local({
            let large = large.clone();
            async move {
                send_all(&mut send, large, false).await;
                send
            }
        });
        assert_eq!(read(&mut body, large.len()).await, large);
        let mut send = sender.await.unwrap();
        assert_eq!(client.get("/").await.unwrap().body, b"plain");
        assert_eq!(proxy.in_flight(), 2, "two conversations");
        // The client ends its side, and still hears the server's last word.
        send.send_data(Bytes::new(), true).unwrap();
        assert_eq!(read(&mut body, 5).await, b"ended");
        ends(&mut body).await;
    });
    eventually("both are over", || proxy.in_flight() == 0 && backend.open() == 0);
    assert_eq!(proxy.totals().upgraded, 0);
    let request = &backend.requests()[0];
    assert_eq!(request.start, "GET /chat?a=b HTTP/1.1");
    assert_eq!(request.one("host"), Some("a.example"));
    assert_eq!(request.one("connection"), Some("Upgrade"));
    assert_eq!(request.one("upgrade"), Some("websocket"));
    assert_eq!(request.one("sec-websocket-version"), Some("13"));
    assert_eq!(request.one("sec-websocket-protocol"), Some("chat"));
    assert_eq!(request.one("via"), Some("2 roundsman"));
    let key = request.one("sec-websocket-key").unwrap();
    assert!(key.len() == 24 && key.ends_with("==") && !key.contains(' '), "{key}");
    assert_ne!(Some(key), backend.requests()[1].one("sec-websocket-key"));
}

#[test]
fn either_side_may_end_it_or_break_it_off() {
    let backend = echo();
    let proxy = proxy(&[&backend]);
    run(async {
        let client = connect(&proxy).await;
        // The server ends: so does the stream, in good order.
        let (_, mut body, mut send) = open(&client).await;
        send.send_data(Bytes::from_static(b"bye"), true).unwrap();
        assert_eq!(read(&mut body, 8).await, b"greeting");
        ends(&mut body).await;
        // The client breaks off: the server's connection is closed.
        let (_, _body, mut send) = open(&client).await;
        assert_eq!(proxy.in_flight(), 1);
        send.send_reset(Code::CANCEL);
        eventually_meanwhile("nothing is in flight", || proxy.in_flight() == 0).await;
        assert_eq!(client.get("/").await.unwrap().body, b"plain");
    });
    eventually("the server has nothing to do", || backend.open() == 0);
}

#[test]
fn what_is_no_websocket_is_no_success() {
    let backend = Backend::new(|request| match request.target() {
        "/forbidden" => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".to_vec(),
        "/other-key" => {
            let other = ("sec-websocket-key".into(), "b3RoZXIgc2FtcGxlIG5vbmNlIQ==".into());
            switch(&Message { fields: vec![other], ..request.clone() })
        }
        "/no-key" => b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
            Upgrade: websocket\r\n\r\n"
            .to_vec(),
        _ => ok("a page"),
    });
    let proxy = proxy(&[&backend]);
    run(async {
        let client = connect(&proxy).await;
        let ask = async |request| whole(client.begin(request, false).await.0).await.unwrap().status;
        assert_eq!(ask(opening("/forbidden", "websocket")).await, 403);
        // Its 200 would say that it has switched.
        assert_eq!(ask(opening("/", "websocket")).await, 502);
        assert_eq!(backend.requests().len(), 2);
        // Its client cannot look at what the server answers to the key.
        assert_eq!(ask(opening("/other-key", "websocket")).await, 502);
        assert_eq!(ask(opening("/no-key", "websocket")).await, 502);
        // Nobody's server gets to see these.
        assert_eq!(ask(opening("/", "connect-udp")).await, 405);
        let mut sized = opening("/", "websocket");
        sized.headers_mut().insert("content-length", "5".parse().unwrap());
        assert_eq!(ask(sized).await, 400);
        let mut other = opening("/", "websocket");
        other.headers_mut().insert("host", "b.example".parse().unwrap());
        assert_eq!(ask(other).await, 400);
        assert_eq!(client.get("/").await.unwrap().body, b"a page");
    });
    assert_eq!(backend.requests().len(), 5);
}

/// A server's time to drain is up: its WebSockets end with a close frame (1012), in good order.
#[test]
fn a_drain_ends_it_with_a_frame() {
    let backend = Backend::raw(|peer| {
        let request = peer.request().unwrap();
        peer.send(&[&switch(&request)[..], &[0x81, 2], b"hi"].concat()).unwrap();
        peer.wait_for_end();
    });
    let proxy = proxy(&[&backend]);
    run(async {
        let client = connect(&proxy).await;
        let (_, mut body, mut send) = open(&client).await;
        assert_eq!(read(&mut body, 4).await, [0x81, 2, b'h', b'i']);
        let server = proxy.front.snapshot().servers().next().map(|(_, s)| s.clone()).unwrap();
        proxy.threads.end_conversations(&server);
        assert_eq!(read(&mut body, 4).await, [0x88, 2, 0x03, 0xf4]);
        ends(&mut body).await;
        send.send_data(Bytes::new(), true).unwrap();
    });
    eventually("it is over for the server, too", || proxy.in_flight() == 0 && backend.open() == 0);
    assert_eq!(proxy.totals().of(Reason::ClientGone), 0);
}

#[test]
fn an_idle_one_is_ended_as_over_http1() {
    let backend = echo();
    let proxy = proxy_with(&[&backend], |s| {
        s.front.timeouts.tunnel_idle = Duration::from_millis(200);
    });
    run(async {
        let client = connect(&proxy).await;
        let (_, mut body, _send) = open(&client).await;
        assert_eq!(read(&mut body, 8).await, b"greeting");
        let error = body.data().await.expect("it does not look whole").unwrap_err();
        assert_eq!(error.reason(), Some(Code::CANCEL));
    });
    eventually("its server is free", || proxy.in_flight() == 0 && backend.open() == 0);
    assert_eq!(proxy.totals().of(Reason::ClientGone), 0);
}

#[test]
fn nodes_client_and_pythons_server() {
    let echo = PythonServer::start("websocket_echo.py");
    let front = program_over(&[echo.address], "[listen.http]\nhttp2 = true\n");
    let script = r"
        const client = require('http2').connect(process.argv[1]);
        const frame = (opcode, data) => {
            const mask = Buffer.from([1, 2, 3, 4]), long = data.length > 125;
            const head = Buffer.alloc(long ? 10 : 2);
            head[0] = 0x80 | opcode;
            head[1] = 0x80 | (long ? 127 : data.length);
            if (long) head.writeBigUInt64BE(BigInt(data.length), 2);
            return Buffer.concat([head, mask, data.map((byte, i) => byte ^ mask[i % 4])]);
        };
        client.on('remoteSettings', (settings) => {
            if (!settings.enableConnectProtocol) throw new Error('no extended CONNECT');
            const stream = client.request({ ':method': 'CONNECT', ':protocol': 'websocket',
                ':path': '/socket', ':scheme': 'http', 'sec-websocket-version': '13' });
            const long = Buffer.alloc(500000, 'x');
            let got = Buffer.alloc(0);
            stream.on('response', (head) => {
                if (head[':status'] !== 200) throw new Error(head[':status']);
                stream.write(frame(1, Buffer.from('hello')));
                stream.write(frame(2, long));
            });
            stream.on('data', (data) => {
                got = Buffer.concat([got, data]);
                if (got.length === 17 + long.length) stream.write(frame(8, Buffer.from([3, 232])));
            });
            stream.on('end', () => {
                const text = got.subarray(2, 7).toString(), size = got.readBigUInt64BE(9);
                const whole = got.subarray(17, 17 + long.length).equals(long);
                const close = got.subarray(17 + long.length);
                console.log(text, size, whole, close[0] & 15, close.readUInt16BE(2));
                stream.end();
                client.close();
            });
        });
    ";
    let url = format!("http://{}", front.at());
    let text = said(std::process::Command::new("node").args(["-e", script, &url]));
    assert_eq!(text, "hello 500000n true 8 1000\n");
}
