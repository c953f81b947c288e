"""What Roundsman has gunicorn read, unless it is given a configuration (-c): REMOTE_ADDR is the client.

The front connects to the app, so that every request would seem to come from the front. It says in X-Forwarded-For
from whom it really comes, and nobody else's word gets there. A gunicorn.conf.py of the app's own is read as ever.
"""
import os.path

if os.path.exists("gunicorn.conf.py"):
    __file__ = os.path.abspath("gunicorn.conf.py")
    with open(__file__, "rb") as own:
        exec(compile(own.read(), __file__, "exec"), globals())

_before = globals().get("pre_request")


def pre_request(worker, req):
    peer = req.peer_addr
    is_inet = isinstance(peer, (tuple, list)) and len(peer) > 0
    trusted = worker.cfg.forwarded_allow_ips
    # Over a UNIX socket it has no address.
    if not is_inet or "*" in trusted or str(peer[0]) in map(str, trusted):
        for name, value in req.headers:
            client = value.rsplit(",", 1)[-1].strip()
            if name.upper() == "X-FORWARDED-FOR" and client and client != "unknown":
                req.proxy_protocol_info = {
                    "proxy_protocol": "TCP6" if ":" in client else "TCP4",
                    "client_addr": client,
                    "client_port": 0,
                    "proxy_addr": str(peer[0]) if is_inet else "",
                    "proxy_port": 0,
                }
    if _before is not None:
        _before(worker, req)
