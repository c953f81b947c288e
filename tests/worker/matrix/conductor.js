// Tries the behaviours of a topic on two workers, and writes a line of JSON for each.
//
//   node conductor.js primary|shim TOPIC [ROUNDSMAN]
//
// `primary`: this process is Node's own cluster primary. `shim`: each worker has a `roundsman worker`.
'use strict';
const { spawn, execFileSync } = require('node:child_process');
const cluster = require('node:cluster');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');

const [mode, topic, roundsman] = process.argv.slice(2);
const place = fs.mkdtempSync(path.join(os.tmpdir(), 'matrix-'));
const links = path.join(place, 'link');
const LATE = 15000;

const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What it comes to, or that it never does. */
const inTime = (promise, ms = LATE) => {
  let timer;
  const late = new Promise((resolve) => { timer = setTimeout(resolve, ms, { never: true }); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

/** The first that is not undefined. */
const until = async (look, ms = LATE) => {
  const end = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > end) return { never: true };
    await later(5);
  }
};

/** A port that nobody has, below those of outgoing connections. */
const freePort = async () => {
  for (;;) {
    const port = 12000 + Math.floor(Math.random() * 18000);
    const isFree = await new Promise((resolve) => {
      const server = net.createServer();
      server.on('error', () => resolve(false));
      server.listen({ port, exclusive: true }, () => server.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
};

/** Calls with each line that comes. (Some versions of readline end lines within a message, too.) */
const eachLine = (socket, take) => {
  let rest = '';
  socket.setEncoding('utf8').on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    lines.forEach(take);
  });
};

/** Connects, and reads to the end. */
const dial = (options) => new Promise((resolve) => {
  let text = '';
  const socket = net.connect(options);
  socket.setTimeout(5000, () => socket.destroy(new Error('late')));
  socket.on('data', (bytes) => { text += bytes; });
  socket.on('error', (error) => resolve(error.code ?? error.message));
  socket.on('close', () => resolve(text));
});

/** What dialling comes to when all is closed: who is just about to close it may still take one. */
const dialClosed = (options) => until(async () => {
  const found = await dial(options);
  return found === 'ECONNRESET' || found === '' ? undefined : found;
});

/** A worker, and what it is to do. */
class Worker {
  constructor(number, process) {
    Object.assign(this, { number, process, heard: [], waiting: new Map(), next: 1, exit: null });
    this.up = new Promise((resolve) => { this.isUp = resolve; });
    this.ended = new Promise((resolve) => { this.hasEnded = resolve; });
  }

  take(line) {
    const { id, value } = JSON.parse(line);
    this.waiting.get(id)?.(value);
    this.waiting.delete(id);
  }

  /** Has the worker run this. */
  run(code, ...args) {
    const id = this.next++;
    const answer = new Promise((resolve) => this.waiting.set(id, resolve));
    this.link.write(`${JSON.stringify({ id, code: String(code), args })}\n`);
    return inTime(answer);
  }
}

const workers = new Map();
net.createServer((socket) => {
  let worker;
  socket.on('error', () => {});
  eachLine(socket, (line) => {
    if (worker) return worker.take(line);
    worker = workers.get(JSON.parse(line).worker);
    worker.link = socket;
    worker.isUp();
  });
}).listen(links);

const certificate = () => {
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
    '-subj', '/CN=matrix', '-days', '2', '-keyout', `${links}.key`, '-out', `${links}.cert`], { stdio: 'ignore' });
};

/** Starts a script as worker `number`. */
const start = {
  async primary(number, script, { env, execArgv = [], args = [] }) {
    cluster.setupPrimary({ exec: script, args, execArgv, silent: true });
    const child = cluster.fork(env);
    const worker = new Worker(number, child.process);
    worker.say = (message) => child.send(message);
    worker.leave = () => child.disconnect();
    worker.terminate = () => child.process.kill('SIGTERM');
    worker.pid = child.process.pid;
    child.on('message', (message) => worker.heard.push(message));
    child.on('listening', (address) => { worker.listening = address; });
    child.on('exit', (code, signal) => worker.hasEnded({ code, signal }));
    child.process.stdout.on('data', (bytes) => { worker.out = (worker.out ?? '') + bytes; });
    child.process.stderr.on('data', (bytes) => { worker.err = (worker.err ?? '') + bytes; });
    return worker;
  },

  async shim(number, script, { env, execArgv = [], args = [] }) {
    const config = path.join(place, `config-${number}`);
    fs.mkdirSync(path.join(config, 'apps'), { recursive: true });
    const quote = (value) => JSON.stringify(String(value));
    const command = [process.execPath, ...execArgv, script, ...args].map(quote).join(', ');
    const variables = Object.entries(env).map(([name, value]) => `${name} = ${quote(value)}`).join('\n');
    fs.writeFileSync(path.join(config, 'apps/m.toml'),
      `command = [${command}]\nworkers = 2\nwatchdog = "0s"\nsandbox = "off"\nlisten = "cluster"\n[environment]\n${variables}\n`);
    const port = await freePort();
    const child = spawn(roundsman, ['worker', `m:${number}`, '--config', config, '--listen', `127.0.0.1:${port}`,
      '--runtime', path.join(place, 'run')], { stdio: ['ignore', 'pipe', 'pipe'] });
    const worker = new Worker(number, child);
    worker.address = { host: '127.0.0.1', port };
    worker.leave = worker.terminate = () => child.kill('SIGTERM');
    child.on('exit', (code, signal) => worker.hasEnded({ code, signal }));
    child.stdout.on('data', (bytes) => { worker.out = (worker.out ?? '') + bytes; });
    child.stderr.on('data', (bytes) => { worker.err = (worker.err ?? '') + bytes; });
    const control = path.join(place, 'run', `m:${number}`, 'control.sock');
    const connect = (first) => until(() => new Promise((resolve) => {
      const socket = net.connect(control, () => { socket.write(`${first}\n`); resolve(socket); });
      socket.on('error', () => resolve(undefined));
    }));
    worker.say = async (message) => {
      const socket = await connect('send');
      socket.end(`${JSON.stringify(message)}\n`);
      return new Promise((resolve) => { socket.on('data', (bytes) => resolve(String(bytes).trim())); });
    };
    connect('events 0').then((socket) => eachLine(socket, (line) => {
      const event = JSON.parse(line);
      if (event.event === 'message') worker.heard.push(event.message);
      if (event.event === 'listening') worker.listening = event;
      if (event.event === 'exit') worker.exit = { code: event.code ?? null, signal: event.signal ?? null };
      if (event.event === 'started') worker.pid = event.pid;
    }));
    return worker;
  },
};

(async () => {
  const failed = (error) => {
    process.stderr.write(`${error?.stack ?? error}\n`);
    process.exit(1);
  };
  process.on('unhandledRejection', failed);
  const stage = {
    mode, place, links, later, until, inTime, freePort, dial, dialClosed, certificate,
    /** Starts a script and returns the worker at once. */
    async begin(number, script, options) {
      const worker = await start[mode](number, script, { env: {}, ...options });
      workers.set(number, worker);
      return worker;
    },
    /** Two workers that do as they are told. */
    async pair(options = {}) {
      stage.front = await freePort();
      const env = { MATRIX: links, PORT: stage.front, ...options.env };
      for (const number of [1, 2]) {
        await stage.begin(number, path.join(__dirname, 'worker.js'), { ...options, env });
      }
      for (const worker of workers.values()) {
        const up = await inTime(worker.up, 30000);
        if (up?.never) failed(`no worker: ${worker.out} ${worker.err}`);
      }
      return [...workers.values()];
    },
    /** Both close what they have opened. */
    clear: () => Promise.all([...workers.values()].map((worker) => worker.run('clear'))),
    async behaviour(name, attempt) {
      let value;
      try {
        value = await inTime(attempt(), 30000);
      } catch (error) {
        value = { fails: error.message };
      }
      // As text: half a character is none elsewhere.
      const text = JSON.stringify(value === undefined ? null : value);
      process.stdout.write(`${JSON.stringify({ name, value: text })}\n`);
    },
  };
  await require(`./${topic}.js`)(stage);
  for (const worker of workers.values()) {
    worker.process.kill('SIGKILL');
  }
  fs.rmSync(place, { recursive: true, force: true });
  process.exit(0);
})();
