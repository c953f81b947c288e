"""An ASGI app, for uvicorn: who asks, as frameworks say it, and how."""


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    answer = f"hello from asgi, {scope['client'][0]} by {scope['scheme']}\n"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer.encode()})
