"""A WebSocket server that echoes; says where it listens. Below `/via` it says first how it is asked."""

import asyncio

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def echo(connection):
    try:
        if connection.request.path.endswith("/via"):
            await connection.send(connection.request.headers["Via"])
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass


async def main():
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        print(*server.sockets[0].getsockname(), sep=":", flush=True)
        await server.serve_forever()


asyncio.run(main())
