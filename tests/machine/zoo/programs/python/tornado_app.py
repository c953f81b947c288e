import asyncio

import tornado


class MainHandler(tornado.web.RequestHandler):
    def get(self):
        self.write("Hello from Tornado")


async def main():
    tornado.web.Application([(r"/", MainHandler)]).listen(8888)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
