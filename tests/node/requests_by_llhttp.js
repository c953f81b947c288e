// Reads what connections carry with Node's own server and its parser, llhttp: the requests that are
// whole, and what is wrong with what follows them. In and out go as JSON, each connection
// as pieces in latin1.
'use strict';
const http = require('node:http');
const { Duplex } = require('node:stream');

const server = http.createServer({ maxHeaderSize: 1 << 20, requireHostHeader: false });
server.maxHeadersCount = 0;
server.httpAllowHalfOpen = true;

const taken = (request, response) => {
    // Of what comes in one piece with an offer to switch, Node reads nothing.
    const { connection = '', upgrade } = request.headers;
    if (upgrade && /\bupgrade\b/i.test(connection)) request.socket.found.error = 'an offer to switch';
    let body = '';
    request.setEncoding('latin1');
    request.on('data', (part) => { body += part; });
    request.on('end', () => {
        if (request.complete) {
            request.socket.found.requests.push({
                method: request.method,
                target: request.url,
                origin: request.headers['x-forwarded-for'] ?? '',
                chunked: 'transfer-encoding' in request.headers,
                body,
                trailers: pairs(request.rawTrailers),
            });
        }
        response.end();
    });
};
const pairs = (raw) => {
    const all = [];
    for (let at = 0; at < raw.length; at += 2) all.push([raw[at].toLowerCase(), raw[at + 1]]);
    return all;
};
for (const event of ['request', 'checkContinue', 'checkExpectation']) server.on(event, taken);
server.on('clientError', (error, socket) => {
    socket.found.error = error.code;
    // Those before it are on their way.
    setImmediate(() => socket.destroy());
});

// A connection is read when it has ended, or nothing is left to do.
let done;
process.on('beforeExit', () => done?.());

const read = (pieces) => new Promise((resolve) => {
    const socket = new Duplex({ read() {}, write(part, encoding, next) { next(); } });
    socket.found = { requests: [], error: '' };
    done = () => resolve(socket.found);
    socket.on('close', done);
    socket.on('error', () => {});
    server.emit('connection', socket);
    for (const piece of pieces) socket.push(Buffer.from(piece, 'latin1'));
    socket.push(null);
});

let input = '';
process.stdin.setEncoding('utf8');
process.stdin.on('data', (part) => { input += part; });
process.stdin.on('end', async () => {
    const found = [];
    for (const pieces of JSON.parse(input)) found.push(await read(pieces));
    done = undefined;
    process.stdout.write(JSON.stringify(found));
});
