"""A Python worker that says itself when it is ready, and cleans up when it is asked to end."""
import os
import pathlib
import signal
import socket
import sys
import time


def end(*_):
    pathlib.Path("python-ended").write_text("cleaned up")
    sys.exit(0)


signal.signal(signal.SIGINT, end)
while not pathlib.Path("go").exists():  # what it needs first
    time.sleep(0.02)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
    notify.send(b"READY=1\nSTATUS=waits for work")
while True:
    time.sleep(60)
