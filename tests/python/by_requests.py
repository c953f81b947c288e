"""Python's requests as a client of the address on its standard input.

A second line is the file of the authority that vouches for it; then urllib3 asks it directly, too.
"""

import hashlib
import sys

import requests
import urllib3

base, authority = (sys.stdin.read() + "\n").split("\n")[:2]
if authority:
    try:
        requests.get(f"{base}/echo")
        sys.exit("requests trusted nobody's certificate")
    except requests.exceptions.SSLError:
        pass
    with urllib3.PoolManager(ca_certs=authority) as pool:
        for number in range(10):
            assert pool.request("GET", f"{base}/echo?{number}").json()["method"] == "GET"
with requests.Session() as session:
    session.trust_env = False  # another authority may be set there
    session.verify = authority or True
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
