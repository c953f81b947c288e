"""An ASGI app, for uvicorn: who asks, as frameworks say it, and how; with an X-Mark, that mark."""


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    answer = f"hello from asgi, {scope['client'][0]} by {scope['scheme']}\n"
    mark = dict(scope["headers"]).get(b"x-mark")
    if mark is not None:
        answer = f"python asgi {mark.decode()}"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer.encode()})
