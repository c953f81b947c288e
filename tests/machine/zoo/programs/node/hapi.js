const Hapi = require('@hapi/hapi')

const init = async () => {
  const server = Hapi.server({ port: 3000, host: 'localhost' })
  server.route({ method: 'GET', path: '/', handler: () => 'Hello from hapi' })
  await server.start()
  console.log('Server running on %s', server.info.uri)
}

process.on('unhandledRejection', (error) => {
  console.log(error)
  process.exit(1)
})

init()
