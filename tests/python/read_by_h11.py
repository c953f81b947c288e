"""Reads what the front sent, to clients and to servers, with h11; says how many cases it read."""

import json
import sys

import h11


def responses(methods, data):
    """Every response of a client connection that asked with these methods, and then with GET."""
    methods = list(methods)
    connection = h11.Connection(h11.CLIENT)
    ask(connection, methods.pop(0))
    connection.receive_data(data)
    connection.receive_data(b"")
    while True:
        event = connection.next_event()
        if isinstance(event, h11.ConnectionClosed):
            return
        if event is h11.NEED_DATA:
            raise AssertionError("a response is not whole")
        if isinstance(event, h11.EndOfMessage):
            if connection.their_state is h11.MUST_CLOSE or connection.our_state is h11.MUST_CLOSE:
                if connection.trailing_data[0]:
                    raise AssertionError("something follows the last response")
                return
            connection.start_next_cycle()
            if not connection.trailing_data[0]:
                return
            ask(connection, methods.pop(0) if methods else "GET")


def ask(connection, method):
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a.example")]))
    connection.send(h11.EndOfMessage())


def requests(data):
    """Every request of a server connection."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    connection.receive_data(b"")
    while True:
        event = connection.next_event()
        if isinstance(event, h11.ConnectionClosed):
            return
        if event is h11.NEED_DATA:
            raise AssertionError("a request is not whole")
        if event is h11.PAUSED:
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()


def main():
    cases = json.load(sys.stdin)
    for case in cases:
        try:
            if case["to_client"]:
                responses(case["methods"], case["to_client"].encode("latin-1"))
            for data in case["to_servers"]:
                requests(data.encode("latin-1"))
        except (AssertionError, h11.RemoteProtocolError) as error:
            sys.exit(f"{case['id']}: {error}\n{json.dumps(case, indent=1)}")
    print(len(cases), "read")


main()
