"""Python's requests as a client of the address on its standard input."""

import hashlib
import sys

import requests

base = sys.stdin.read().strip()
with requests.Session() as session:
    for number in range(50):
        assert session.get(f"{base}/echo?{number}").json()["method"] == "GET"
    body = bytes(range(256)) * 10_000
    put = session.put(f"{base}/echo", data=body).json()
    assert put["sha256"] == hashlib.sha256(body).hexdigest(), put
    streamed = session.post(f"{base}/echo", data=(b"x" * 10_000 for _ in range(100))).json()
    assert streamed["length"] == 1_000_000 and "transfer-encoding" in streamed["headers"], streamed
    with session.get(f"{base}/large?bytes=5000000", stream=True) as response:
        assert sum(map(len, response.iter_content(65536))) == 5_000_000
    assert session.head(f"{base}/echo").status_code == 200
    assert session.options(f"{base}/echo").json()["method"] == "OPTIONS"
print("ok")
