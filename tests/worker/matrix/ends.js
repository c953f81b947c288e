// How workers end, and what of it is seen from outside.
'use strict';
const path = require('node:path');
const script = path.join(__dirname, 'script.js');

module.exports = async ({ begin, behaviour, freePort, links, until, mode }) => {
  let number = 0;
  const lines = (worker) => (worker.out ?? '').split('\n').filter((line) => /^(listens|another|handler|flushed|closed|disconnect|exit|inspector) ?/.test(line));
  const started = async (name, options = {}) => {
    const env = { PORT: await freePort(), OTHER: await freePort(), MATRIX: links, ...options.env };
    number += 1;
    const worker = await begin(number, script, { ...options, args: [name], env });
    await until(() => (/^listens$/m.test(worker.out ?? '') && worker.listening ? true : undefined), 30000);
    return worker;
  };
  /** The exit of the app's process, and what it has said. */
  const ended = async (worker) => {
    const exit = await worker.ended;
    return [mode === 'primary' ? exit : worker.exit, lines(worker)];
  };

  for (const name of ['handler', 'handlerThatTakesTime', 'handlerThatCloses', 'handlerBesideAnOpenConnection',
    'handlerBesideAnotherServer', 'onceHandler']) {
    await behaviour(`SIGTERM: ${name}`, async () => {
      const worker = await started(name);
      worker.terminate();
      return ended(worker);
    });
  }
  await behaviour('SIGTERM: no handler', async () => {
    const worker = await started('plain');
    worker.terminate();
    return ended(worker);
  });
  for (const name of ['exits', 'throws', 'rejects', 'kills', 'aborts', 'disconnects', 'killsItself', 'leavesTheChannel', 'exitCode']) {
    await behaviour(`on a message: ${name}`, async () => {
      const worker = await started(name);
      await worker.say('now');
      return ended(worker);
    });
  }
  for (const [name, execArgv, env] of [
    ['as an option', ['--inspect=PORT'], {}],
    ['with a host', ['--inspect=127.0.0.1:PORT'], {}],
    ['with a port apart', ['--inspect', '--inspect-port=PORT'], {}],
    ['none', [], {}],
  ]) {
    await behaviour(`an inspector: ${name}`, async () => {
      const port = await freePort();
      const options = { execArgv: execArgv.map((word) => word.replace('PORT', port)), env };
      const workers = [await started('inspected', options), await started('inspected', options)];
      const found = [];
      for (const worker of workers) {
        found.push(await until(() => /^inspector (.*)$/m.exec(worker.out)?.[1]));
        worker.process.kill('SIGKILL');
      }
      return [found.map((text) => (text === 'none' ? text : 'some')), found[0] !== found[1]];
    });
  }
};
