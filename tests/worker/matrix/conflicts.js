// Which two servers may have the same port: in one worker, in two, and beside the front's server.
'use strict';
const HOSTS = {
  'every address': {},
  'IPv6 only': { ipv6Only: true },
  '0.0.0.0': { host: '0.0.0.0' },
  '127.0.0.1': { host: '127.0.0.1' },
  '127.0.0.2': { host: '127.0.0.2' },
  '::': { host: '::' },
  ':: only': { host: '::', ipv6Only: true },
  '::1': { host: '::1' },
};

module.exports = async ({ pair, behaviour, clear, freePort }) => {
  const [one, two] = await pair();
  const own = await one.run(() => portOf('front'));
  for (const [first, a] of Object.entries(HOSTS)) {
    for (const [second, b] of Object.entries(HOSTS)) {
      const opened = `(name, options) => open(name, options)`;
      await behaviour(`a port at ${first}, then at ${second}`, async () => {
        const port = await freePort();
        return [await one.run(opened, 'a', { port, ...a }), await one.run(opened, 'b', { port, ...b })];
      });
      await clear();
      if (first === second) continue;
      await behaviour(`a port at ${first}, then in another worker at ${second}`, async () => {
        const port = await freePort();
        return [await one.run(opened, 'a', { port, ...a }), await two.run(opened, 'b', { port, ...b })];
      });
      await clear();
    }
  }
  await two.run(() => close('front'));
  for (const [first, a] of Object.entries(HOSTS)) {
    for (const [second, b] of Object.entries(HOSTS)) {
      await behaviour(`the front's port at ${first}, then at ${second}`, async () => {
        await one.run(() => close('front'));
        const opened = `(name, options) => open(name, options)`;
        const found = [await one.run(opened, 'front', { port: own, ...a }), await one.run(opened, 'b', { port: own, ...b })];
        await one.run(() => close('b'));
        return found;
      });
    }
  }
};
