import { createServer } from 'node:http'
import { createSchema, createYoga } from 'graphql-yoga'

const yoga = createYoga({
  graphqlEndpoint: '/',
  schema: createSchema({
    typeDefs: 'type Query { hello: String }',
    resolvers: { Query: { hello: () => 'from Yoga' } },
  }),
})
createServer(yoga).listen(4000, () => {
  console.info('Server is running on http://localhost:4000/')
})
