const fastify = require('fastify')({ logger: false })

fastify.get('/', async () => ({ hello: 'from Fastify' }))

fastify.listen({ port: 3000 }, (error, address) => {
  if (error) throw error
  console.log(`Server is now listening on ${address}`)
})
