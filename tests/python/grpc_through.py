"""A gRPC server and its clients, with the front in between: both are grpcio.

Reads the server's UNIX socket, the front's address and, when that speaks TLS, the file of the authority
that it is known by; prints what was wrong, or how many calls went through.
"""

import sys
import threading
from concurrent import futures

import grpc

PATIENCE = 60
LARGE = bytes(range(256)) * 8192  # 2 MB

same = lambda data: data  # messages are bytes: no code is to be generated
calls = dict(request_serializer=same, response_deserializer=same)
serves = dict(request_deserializer=same, response_serializer=same)
cancelled = threading.Event()


def echo(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-via", metadata.get("via", "none")),))
    context.set_trailing_metadata((("x-seen", metadata.get("x-mine", "none")), ("x-bin", b"\0\xff")))
    return request


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so: 100 % ü")


def count(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def total(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def chat(requests, context):
    for request in requests:
        yield b"you said " + request


def hang(request, context):
    context.add_callback(cancelled.set)
    yield b"begun"
    cancelled.wait(PATIENCE)


def serve(address):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64))
    handlers = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo, **serves),
        "Fail": grpc.unary_unary_rpc_method_handler(fail, **serves),
        "Count": grpc.unary_stream_rpc_method_handler(count, **serves),
        "Total": grpc.stream_unary_rpc_method_handler(total, **serves),
        "Chat": grpc.stream_stream_rpc_method_handler(chat, **serves),
        "Hang": grpc.unary_stream_rpc_method_handler(hang, **serves),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    assert server.add_insecure_port(f"unix:{address}")
    server.start()
    return server


def ask(channel):
    """One of each kind of call."""
    response, call = channel.unary_unary("/test.Test/Echo", **calls).with_call(
        LARGE, metadata=(("x-mine", "yes"),), timeout=PATIENCE, wait_for_ready=True
    )
    assert response == LARGE
    assert dict(call.initial_metadata())["x-via"] == "2 roundsman", call.initial_metadata()
    trailing = dict(call.trailing_metadata())
    assert trailing["x-seen"] == "yes" and trailing["x-bin"] == b"\0\xff", trailing

    try:
        channel.unary_unary("/test.Test/Fail", **calls)(b"", timeout=PATIENCE)
        raise AssertionError("it should fail")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
        assert error.details() == "not so: 100 % ü", error.details()
    try:
        channel.unary_unary("/test.Test/Nobody", **calls)(b"", timeout=PATIENCE)
        raise AssertionError("it should fail")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error

    numbers = channel.unary_stream("/test.Test/Count", **calls)(b"1000", timeout=PATIENCE)
    assert list(numbers) == [b"%d" % number for number in range(1000)]

    pieces = (LARGE for _ in range(5))
    total = channel.stream_unary("/test.Test/Total", **calls)(pieces, timeout=PATIENCE)
    assert total == b"%d" % (5 * len(LARGE)), total

    # Each word is said when the answer to the one before has come.
    heard = threading.Semaphore(1)

    def words():
        for number in range(100):
            assert heard.acquire(timeout=PATIENCE)
            yield b"%d" % number

    said = 0
    for answer in channel.stream_stream("/test.Test/Chat", **calls)(words(), timeout=PATIENCE):
        assert answer == b"you said %d" % said, answer
        said += 1
        heard.release()
    assert said == 100, said
    return 6


def main():
    socket, front, *authority = sys.stdin.read().split()
    server = serve(socket)
    asked = 0
    if authority:
        with open(authority[0], "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        name = (("grpc.ssl_target_name_override", "a.example"),)
        opened = grpc.secure_channel(front, credentials, options=name)
    else:
        opened = grpc.insecure_channel(front)
    with opened as channel:
        asked += ask(channel)
        with futures.ThreadPoolExecutor(max_workers=8) as pool:
            asked += sum(pool.map(lambda _: ask(channel), range(8)))

        hanging = channel.unary_stream("/test.Test/Hang", **calls)(b"", timeout=PATIENCE)
        assert next(hanging) == b"begun"
        hanging.cancel()
        assert cancelled.wait(PATIENCE), "the server was not told"
    server.stop(None)
    print(asked)


main()
