"""Reads what connections carry with h11: the requests that are whole, and what is wrong with what
follows them. In and out go as JSON, each connection as pieces in latin-1."""

import json
import sys

import h11


def read(data):
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    requests, error = [], ""
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                fields = event.headers
                origin = [value.decode("latin-1") for name, value in fields if name == b"x-forwarded-for"]
                request = {
                    "method": event.method.decode("latin-1"),
                    "target": event.target.decode("latin-1"),
                    "origin": ", ".join(origin),
                    "chunked": any(name == b"transfer-encoding" for name, _ in fields),
                    "body": "",
                }
            elif isinstance(event, h11.Data):
                request["body"] += event.data.decode("latin-1")
            elif isinstance(event, h11.EndOfMessage):
                request["trailers"] = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in event.headers]
                requests.append(request)
            elif event is h11.PAUSED:
                # A tunnel is not agreed to.
                connection.send(h11.Response(status_code=400, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            else:  # the end
                break
    except (h11.RemoteProtocolError, h11.LocalProtocolError) as fault:
        error = str(fault)
    return {"requests": requests, "error": error}


def main():
    json.dump([read("".join(pieces).encode("latin-1")) for pieces in json.load(sys.stdin)], sys.stdout)


main()
