Bun.serve({
  port: 3001,
  routes: { '/': () => new Response('Hello from Bun') },
})
