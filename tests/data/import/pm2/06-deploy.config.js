const base = { instances: 2, exec_mode: 'cluster', wait_ready: true, listen_timeout: 10000, kill_timeout: 5000 };
module.exports = {
  apps: [
    { ...base, name: 'front', script: 'front.js', env_production: { NODE_ENV: 'production', PORT: 3000 } },
    { ...base, name: 'back', script: 'back.js', env_production: { NODE_ENV: 'production', PORT: 4000 } },
  ],
  deploy: {
    production: { user: 'deploy', host: ['a.example.com'], ref: 'origin/main', repo: 'git@example.com:x.git', path: '/srv/x', 'post-deploy': 'npm ci && pm2 reload ecosystem.config.js' },
  },
};
