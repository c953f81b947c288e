"""redis-py against the session store, as it is."""
import threading
import time

import redis

URL = "unix:///run/roundsman/session.sock"
r = redis.Redis.from_url(URL, decode_responses=True)
assert r.ping()
r.flushdb()

assert r.set("s", "1", ex=100, nx=True) and r.set("s", "2", nx=True) is None
assert r.get("s") == "1" and 90 < r.ttl("s") <= 100
assert r.incr("n") == 1 and r.incrby("n", 41) == 42
assert r.getex("s", persist=True) == "1" and r.ttl("s") == -1
assert r.hset("h", mapping={"a": "1", "b": "2"}) == 2 and r.hgetall("h") == {"a": "1", "b": "2"}
assert r.sadd("t", "x", "y") == 2 and r.smembers("t") == {"x", "y"}
assert sorted(r.scan_iter(match="*", count=1)) == ["h", "n", "s", "t"]
assert r.info()["redis_version"] and r.config_get("maxmemory*")

with r.pipeline() as pipe:  # MULTI/EXEC
    assert pipe.set("a", "1").get("a").incr("a").execute() == [True, "1", 2]
with r.pipeline() as pipe:
    pipe.watch("a")
    r.set("a", "other")
    pipe.multi()
    pipe.set("a", "mine")
    try:
        pipe.execute()
        raise SystemExit("WATCH did not see the change")
    except redis.WatchError:
        pass
assert r.get("a") == "other"

# Its lock is a SET NX PX; releasing it takes a script, which is refused in words.
lock = r.lock("lock", timeout=10)
assert lock.acquire(blocking=False) and not r.lock("lock", timeout=10).acquire(blocking=False)
for call in (lambda: r.lpush("l", "x"), lambda: r.eval("return 1", 0), lambda: r.zadd("z", {"a": 1})):
    try:
        call()
        raise SystemExit("an unsupported command was taken")
    except redis.ResponseError as error:
        assert "not supported" in str(error), error
try:
    r.incr("h")
    raise SystemExit("a hash was incremented")
except redis.ResponseError as error:
    assert str(error).startswith("WRONGTYPE"), error

# Many threads over one pool.
def work(number):
    for turn in range(50):
        r.set(f"thread-{number}", turn, px=60000)
        assert r.get(f"thread-{number}") == str(turn)

threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert r.mget([f"thread-{number}" for number in range(8)]) == ["49"] * 8

r.set("gone", "1", px=50)
deadline = time.monotonic() + 60
while r.exists("gone"):
    assert time.monotonic() < deadline
    time.sleep(0.01)

# Other users' sessions are behind another name.
other = redis.Redis.from_url("unix://shop:any@/run/roundsman/session.sock", decode_responses=True)
assert other.get("a") is None and other.dbsize() == 0
r.flushdb()
print("all is well")
