// A shop's web app as PM2's documentation teaches it: cluster mode, environments, logs.
console.log('loading the ecosystem');
module.exports = {
  apps: [{
    name: 'Web Shop',
    script: './dist/server.js',
    cwd: '/srv/shop/current',
    args: '--color never',
    node_args: '--max-old-space-size=512',
    instances: 'max',
    exec_mode: 'cluster',
    watch: false,
    max_memory_restart: '300M',
    kill_timeout: 5000,
    listen_timeout: 8000,
    wait_ready: true,
    merge_logs: true,
    out_file: '/var/log/shop.out',
    max_restarts: 10,
    exp_backoff_restart_delay: 100,
    cron_restart: '0 3 * * *',
    ignore_watch: [/node_modules/, 'logs'],
    env: { NODE_ENV: 'development', PORT: 3000 },
    env_production: { NODE_ENV: 'production', FLAGS: { a: 1 } },
    env_staging: { NODE_ENV: 'staging' },
  }],
  deploy: { production: { host: 'example.com' } },
};
