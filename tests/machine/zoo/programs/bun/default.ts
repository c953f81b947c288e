const server = Bun.serve({
  routes: { '/': () => new Response('Hello from Bun') },
})
console.log(`Listening on ${server.url}`)
