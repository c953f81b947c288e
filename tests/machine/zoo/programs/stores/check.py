"""check.py LIBRARY…: each library does what it is for, over the server that REDIS_SOCKET, REDIS_USERNAME and
REDIS_PASSWORD name; prints for each "LIBRARY: works" or "LIBRARY: " and what it ran into."""
import asyncio
import os
import sys
import time

path, user, password = (os.environ[name] for name in ("REDIS_SOCKET", "REDIS_USERNAME", "REDIS_PASSWORD"))
url = f"unix://{user}:{password}@{path}"


def double(number):
    return number * 2


def django_cache():
    from django.conf import settings

    backend = "django_redis.cache.RedisCache"
    settings.configure(CACHES={"default": {"BACKEND": backend, "LOCATION": url}})
    from django.core.cache import cache

    cache.set("key", {"n": 1}, 60)
    assert cache.get("key") == {"n": 1} and cache.add("key", 2) is False
    cache.set("n", 1)
    assert cache.incr("n") == 2 and cache.delete("key") and cache.get("key") is None


def channels():
    from channels_redis.core import RedisChannelLayer

    async def talk():
        layer = RedisChannelLayer(hosts=[url])
        name = await layer.new_channel()
        await layer.group_add("room", name)
        await layer.group_send("room", {"type": "news", "text": "hello"})
        assert (await asyncio.wait_for(layer.receive(name), 10))["text"] == "hello"

    asyncio.run(talk())


def rq():
    import redis
    from rq import Queue, SimpleWorker

    connection = redis.Redis.from_url(url)
    queue = Queue("rq", connection=connection)
    job = queue.enqueue(double, 21)
    SimpleWorker([queue], connection=connection).work(burst=True)
    assert job.get_status(refresh=True) == "finished" and job.result == 42


def huey():
    from huey import RedisHuey

    app = RedisHuey("huey", url=url)
    task = app.task()(double)
    consumer = app.create_consumer(workers=1, periodic=False)
    consumer.start()
    assert task(21).get(blocking=True, timeout=10) == 42


def celery():
    import threading

    from celery import Celery

    socket = url.replace("unix://", "redis+socket://")
    app = Celery("celery", broker=socket, backend=socket)
    app.conf.broker_connection_retry = False
    app.conf.worker_redirect_stdouts = False
    task = app.task(name="double")(double)
    worker = app.Worker(pool="solo", concurrency=1, loglevel="CRITICAL", quiet=True, without_mingle=True, without_gossip=True)
    threading.Thread(target=worker.start, daemon=True).start()
    assert task.delay(21).get(timeout=12, disable_sync_subtasks=False) == 42


libraries = {
    "Django's cache (django-redis)": django_cache,
    "Channels (channels-redis)": channels,
    "RQ": rq,
    "Huey": huey,
    "Celery": celery,
}

if __name__ == "__main__":
    import logging
    import check  # by its name, since jobs say where their function is

    logging.disable(logging.CRITICAL)
    for name in sys.argv[1:] or check.libraries:
        if len(sys.argv) != 2:
            # A process for each: some never end what they began.
            sys.stdout.flush()
            import subprocess

            try:
                subprocess.run([sys.executable, __file__, name], timeout=20, stderr=subprocess.DEVNULL)
            except subprocess.TimeoutExpired:
                print(f"{name}: no answer in 20 s")
            continue
        try:
            check.libraries[name]()
            said = "works"
        except BaseException as error:
            said = str(error).split("\n")[0] or type(error).__name__
        print(f"{name}: {said}", flush=True)
        os._exit(0)
