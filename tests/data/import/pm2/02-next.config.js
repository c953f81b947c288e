module.exports = {
  apps: [
    {
      name: 'web',
      script: 'node_modules/next/dist/bin/next',
      args: 'start -p 3000',
      cwd: '/var/www/web',
      instances: 'max',
      exec_mode: 'cluster',
      watch: false,
      max_memory_restart: '800M',
      env: { NODE_ENV: 'production' },
    },
  ],
};
