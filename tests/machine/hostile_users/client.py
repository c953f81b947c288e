"""A hostile or merely curious client of a UNIX socket.

say PATH TEXT            send a line, print what comes back
impersonate PATH UNIT    the same as a sibling, from a control group that is named like a unit
listen PATH              accept whoever comes
groups PATH N            make so many control groups there
knock PATH SECONDS       connect again and again for so long, and say nothing
crowd PATH N SECONDS     keep N connections that say nothing, for so long, each made anew when it is closed
fill PATH                make empty files there until there is room for none
occupy PATH N MIB [TEXT] keep N connections open; each sends TEXT, or so many MiB without a line end
"""
import os
import resource
import signal
import socket
import sys
import threading
import time


def say(path, text):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(5)
    client.connect(path)
    try:
        client.sendall(text.encode() + b"\n")
    except OSError as error:
        print("sending:", error)
    try:
        print(client.recv(4096) or "closed")
    except OSError as error:
        print("nothing:", error)


def listen(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    os.chmod(path, 0o666)
    server.listen()
    clients = []
    while True:
        clients.append(server.accept())


def impersonate(path, unit):
    with open("/proc/self/cgroup") as file:
        own = next(line[3:] for line in file.read().splitlines() if line.startswith("0::"))
    group = f"/sys/fs/cgroup{own}/{unit}"
    os.mkdir(group)
    with open(f"{group}/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
    with open("/proc/self/cgroup") as file:
        print(file.read())
    say(path, 'sibling 1\n{"forged":true}')


def groups(path, count):
    for number in range(int(count)):
        os.mkdir(f"{path}/z{number}")


def knock(path, seconds):
    end, count = time.time() + float(seconds), 0
    while time.time() < end:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
                count += 1
        except OSError:
            time.sleep(0.005)
    print(count, "connections")


def crowd(path, count, seconds):
    end = time.time() + float(seconds)

    def wait():
        while time.time() < end:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(3)
                try:
                    client.connect(path)
                    client.settimeout(end - time.time() + 1)
                    client.recv(1)
                except OSError:
                    time.sleep(0.01)

    for _ in range(int(count)):
        threading.Thread(target=wait, daemon=True).start()
    print("crowded", flush=True)
    time.sleep(float(seconds))


def fill(path):
    os.mkdir(f"{path}/full")
    try:
        for number in range(10**6):
            os.close(os.open(f"{path}/full/{number}", os.O_CREAT | os.O_WRONLY))
    except OSError as error:
        print(error)


def occupy(path, count, mebibytes, text=None):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    clients, piece = [], b"x" * 65536
    for _ in range(count):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(0.2)
        try:
            client.connect(path)
            if text:
                client.sendall(text.encode() + b"\n")
            for _ in range(mebibytes * 16):
                client.sendall(piece)
        except OSError:
            pass  # refused, closed, or not read from any more
        clients.append(client)
    print("occupied", flush=True)
    signal.pause()  # until it is ended


verb, *rest = sys.argv[1:]
if verb == "occupy":
    occupy(rest[0], int(rest[1]), int(rest[2]), *rest[3:])
else:
    verbs = [say, impersonate, listen, groups, knock, crowd, fill]
    {each.__name__: each for each in verbs}[verb](*rest)
