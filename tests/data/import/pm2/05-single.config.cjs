// One app, exported bare, in the oldest style.
module.exports = { name: 'bot', script: 'bot.js', node_args: ['--max-old-space-size=256'], watch: true, env: { TOKEN: 'x' } };
