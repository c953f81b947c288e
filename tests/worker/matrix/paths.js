// UNIX sockets of a server that is not the front's.
'use strict';
const fs = require('node:fs');
const path = require('node:path');

module.exports = async ({ pair, behaviour, clear, place, dial, dialClosed, mode }) => {
  const [one, two] = await pair();
  const opened = '(name, options) => open(name, options)';
  let count = 0;
  const fresh = () => path.join(place, `path-${count++}.sock`);
  const plain = (value, file) => JSON.parse(JSON.stringify(value).replaceAll(file, 'FILE'));
  const rights = (file) => (fs.existsSync(file) ? (fs.statSync(file).mode & 0o777).toString(8) : 'gone');

  for (const [name, more] of Object.entries({
    'a path': {}, 'a path that all may read': { readableAll: true }, 'a path that all may write': { writableAll: true },
    'a path that all may read and write': { readableAll: true, writableAll: true }, 'a path and a backlog': { backlog: 2 },
  })) {
    await behaviour(`${name}: in one worker`, async () => {
      const file = fresh();
      const found = await one.run(opened, 'a', { path: file, ...more });
      return plain([found, rights(file), await dial({ path: file })], file);
    });
    await clear();
    await behaviour(`${name}: in two`, async () => {
      const file = fresh();
      const found = [await one.run(opened, 'a', { path: file, ...more }), await two.run(opened, 'a', { path: file, ...more })];
      return plain([found, rights(file)], file);
    });
    await clear();
    await behaviour(`${name}: in two at once`, async () => {
      const file = fresh();
      const both = await Promise.all([one, two].map((worker) => worker.run(opened, 'a', { path: file, ...more })));
      return plain([both, rights(file)], file);
    });
    await clear();
  }
  await behaviour('a path is gone when the only worker has closed it', async () => {
    const file = fresh();
    await one.run(opened, 'a', file);
    await one.run(() => close('a'));
    await new Promise((resolve) => setTimeout(resolve, 100));
    return rights(file);
  });
  await behaviour('a path stays while one worker has it open', async () => {
    const file = fresh();
    await one.run(opened, 'a', file);
    await two.run(opened, 'a', file);
    await one.run(() => close('a'));
    await new Promise((resolve) => setTimeout(resolve, 100));
    const kept = [rights(file) !== 'gone', await dial({ path: file })];
    await two.run(() => close('a'));
    await new Promise((resolve) => setTimeout(resolve, 100));
    return [...kept, rights(file)];
  });
  await behaviour('a path that was closed can be had again', async () => {
    const file = fresh();
    await one.run(opened, 'a', file);
    await one.run(() => close('a'));
    const again = await one.run(opened, 'a', file);
    return plain([again, await dial({ path: file })], file);
  });
  await clear();
  await behaviour('a path twice in one worker', async () => {
    const file = fresh();
    return plain([await one.run(opened, 'a', file), await one.run(opened, 'b', file)], file);
  });
  await clear();
  await behaviour('a path where there is a file', async () => {
    const file = fresh();
    fs.writeFileSync(file, '');
    return plain([await one.run(opened, 'a', file), fs.statSync(file).isFile()], file);
  });
  await clear();
  await behaviour("a path that is somebody else's", async () => {
    const file = fresh();
    const server = require('node:net').createServer((socket) => socket.end('else'));
    await new Promise((resolve) => server.listen({ path: file, exclusive: true }, resolve));
    const found = plain([await one.run(opened, 'a', file), await dial({ path: file })], file);
    server.close();
    return found;
  });
  await clear();
  await behaviour('a path in a folder that there is not', async () => {
    const file = path.join(place, 'none', 'a.sock');
    return plain(await one.run(opened, 'a', file), file);
  });
  await clear();
  await behaviour('a path that is too long', async () => {
    const file = path.join(place, 'x'.repeat(120));
    return plain(await one.run(opened, 'a', file), file);
  });
  await clear();
  await behaviour('a path that is relative', async () => {
    const file = fresh();
    const found = await one.run((file) => { process.chdir(require('node:path').dirname(file)); return open('a', require('node:path').basename(file)); }, file);
    return plain([rights(file) !== 'gone', await dial({ path: file })], file);
  });
  await clear();
  await behaviour('an exclusive path', async () => {
    const file = fresh();
    return plain([await one.run(opened, 'a', { path: file, exclusive: true }), await two.run(opened, 'a', { path: file, exclusive: true })], file);
  });
  await clear();
  const abstract = `\0matrix-${mode}-${process.pid}`;
  const hidden = (value) => JSON.parse(JSON.stringify(value).replaceAll(JSON.stringify(abstract).slice(1, -1), 'NAME'));
  await behaviour('an abstract socket', async () => hidden([await one.run(opened, 'a', abstract), await dial({ path: abstract })]));
  await behaviour('an abstract socket in another worker too', async () => hidden(await two.run(opened, 'a', abstract)));
  await behaviour('an abstract socket twice', async () => hidden(await one.run(opened, 'b', abstract)));
  await clear();
  await behaviour('an abstract socket that all have closed is gone', () => dialClosed({ path: abstract }));
  await behaviour('a socket that is left from somebody who is gone', async () => {
    const file = fresh();
    require('node:child_process').spawnSync('python3', ['-c', 'import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1])', file]);
    return plain(await one.run(opened, 'a', file), file);
  });
  await clear();
};
