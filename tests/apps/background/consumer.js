// A queue consumer: takes jobs from the folder "jobs", one at a time, and finishes the one that it has when it is
// asked to end. The file "version" is what it notes of each job; with "broken" in it, it cannot start.
const fs = require('node:fs');

const version = fs.readFileSync('version', 'utf8').trim();
if (version === 'broken') throw new Error('release broken cannot start');
const self = process.env.ROUNDSMAN_WORKER;
let ends = false;
process.on('SIGTERM', () => { ends = true; });
process.on('message', (message) => process.send({ self, message }));
process.send?.('ready');

const rest = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function take() {
  for (const job of fs.readdirSync('jobs').sort()) {
    try {
      fs.renameSync(`jobs/${job}`, `taken/${job}`); // one of all workers succeeds
      return job;
    } catch {}
  }
  return null;
}

(async () => {
  while (!ends) {
    const job = take();
    await rest(20);
    if (job) fs.appendFileSync(`done/${self}`, `${job} ${version}\n`);
  }
  fs.appendFileSync('ended', `${self}\n`);
  process.exit(0);
})();
