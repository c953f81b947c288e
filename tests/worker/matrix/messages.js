// Messages, with and without a handle beside them.
'use strict';
const VALUES = {
  'null': 'null', 'true': 'true', 'a number': '7', 'a fraction': '-0.25', 'not a number': 'NaN', 'minus 0': '-0',
  'a large number': '1e300', 'a text': '"text"', 'an empty text': '""', 'a text in Unicode': '"naïve 🙂 \\u2028"',
  'half a character': '"\\ud83d"', 'a line end': '"a\\nb"', 'a zero': '"a\\0b"', 'a list': '[1, [2, [3]]]',
  'an empty object': '{}', 'an object': '({ a: { b: [1, null] } })', 'undefined within': '({ a: undefined, b: [undefined] })',
  'a date': 'new Date(0)', 'bytes': 'Buffer.from("ab")', 'a map': 'new Map([[1, 2]])', 'an error': 'new Error("x")',
  'toJSON': '({ toJSON: () => "own" })', '__proto__': 'JSON.parse(\'{"__proto__": {"a": 1}}\')',
  'cmd that is not Nodes': '({ cmd: "start" })', 'cmd NODE_': '({ cmd: "NODE_" })', "a cmd of Node's": '({ cmd: "NODE_OWN", a: 1 })',
  'many keys': 'Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`k${n}`, n]))', 'a megabyte': '"x".repeat(1 << 20)',
};
const BAD = {
  'nothing': 'undefined', 'a function': '() => {}', 'a symbol': 'Symbol("x")', 'a large integer': '1n', 'a circle': '(() => { const a = {}; a.a = a; return a; })()',
};
const HANDLES = {
  'a server': 'net.createServer().listen({ port: 0, host: "127.0.0.1", exclusive: true })',
  'a socket for datagrams': 'dgram.createSocket("udp4").bind({ port: 0, exclusive: true })',
  'a connection': 'net.connect(process.env.MATRIX)',
};
const short = (value) => (JSON.stringify(value)?.length > 2000 ? JSON.stringify(value).length : value);

module.exports = async ({ pair, behaviour, clear, until, later }) => {
  const [one] = await pair();
  let mark = 0;
  /** What is heard until a mark that is sent afterwards. */
  const heard = async (send, ...args) => {
    one.heard.length = 0;
    const number = ++mark;
    const said = await one.run(send, ...args);
    await one.run((number) => process.send({ mark: number }) && null, number);
    await until(() => one.heard.find((message) => message?.mark === number));
    return [said, one.heard.filter((message) => message?.mark !== number).map(short)];
  };
  for (const [name, text] of Object.entries(VALUES)) {
    await behaviour(`${name}: to the primary`, () => heard((text) => { process.send((0, eval)(text)); return 'sent'; }, text));
    await behaviour(`${name}: with a callback`, () => heard((text) => new Promise((resolve) => {
      process.send((0, eval)(text), (error) => resolve(error === null ? 'sent' : String(error)));
    }), text));
  }
  for (const [name, text] of Object.entries(BAD)) {
    await behaviour(`${name} cannot be sent`, () => heard((text) => {
      try { process.send((0, eval)(text)); return 'sent'; } catch (error) { return error.code ?? error.name; }
    }, text));
  }
  for (const [name, text] of Object.entries(HANDLES)) {
    await behaviour(`${name} beside a message`, () => heard((text) => new Promise((resolve, reject) => {
      const handle = (0, eval)(text);
      const ready = handle instanceof net.Socket ? 'connect' : 'listening';
      handle.once('error', reject);
      handle.once(ready, () => process.send({ beside: 1 }, handle, (error) => {
        try { handle.close?.(); } catch { /* it is gone */ }
        resolve(String(error));
      }));
    }), text));
  }
  await behaviour('messages and handles keep their order', () => heard(async () => {
    const server = net.createServer().listen({ port: 0, host: '127.0.0.1', exclusive: true });
    await new Promise((resolve) => server.once('listening', resolve));
    process.send(1);
    process.send(2, server);
    process.send(3);
    process.send({ four: 4 }, server);
    process.send(5);
    return 'sent';
  }));
  await behaviour('a thousand messages keep their order', async () => {
    const [, list] = await heard(() => { for (let n = 0; n < 1000; n += 1) process.send(n); return 'sent'; });
    return [list.length, list.every((value, index) => value === index)];
  });
  await behaviour('send says whether there is room', () => one.run(() => [process.send('small'), process.send('x'.repeat(1 << 20))]));
  for (const value of [null, true, 7, 'text', '', [], {}, { a: [1, { b: null }] }, 'naïve 🙂', 'x'.repeat(300000), { cmd: 'NODE_' }]) {
    await behaviour(`${JSON.stringify(value).slice(0, 30)}: from the primary`, async () => {
      await one.run(() => { heard.length = 0; });
      await one.say(value);
      return short(await until(() => one.run(() => (heard.length > 0 ? [heard[0]] : null)).then((found) => found ?? undefined)));
    });
  }
  await behaviour('messages from the primary keep their order', async () => {
    await one.run(() => { heard.length = 0; });
    for (let n = 0; n < 50; n += 1) await one.say(n);
    await until(() => one.run(() => heard.length).then((length) => (length >= 50 ? true : undefined)));
    return one.run(() => heard.every((value, index) => value === index));
  });
  await behaviour('a listener that throws does not end the channel', async () => {
    await one.run(() => {
      heard.length = 0;
      process.once('uncaughtException', () => {});
      process.once('message', () => { throw new Error('thrown'); });
    });
    await one.say('first');
    await one.say('second');
    return until(() => one.run(() => (heard.length > 1 ? heard : null)).then((found) => found ?? undefined));
  });
};
