import { initTRPC } from '@trpc/server'
import { createHTTPServer } from '@trpc/server/adapters/standalone'

const t = initTRPC.create()
const router = t.router({ hello: t.procedure.query(() => 'from tRPC') })

createHTTPServer({ router }).listen(3000)
