# Binds the port in PORT, or the UNIX socket in SOCKET, and says so with sd_notify if it can.
# "briefly FILE": lives on without a listener once FILE is there.
import os
import socket
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"python")

    def address_string(self):
        return "client"

class UnixServer(socketserver.UnixStreamServer):
    pass

if "SOCKET" in os.environ:
    server = UnixServer(os.environ["SOCKET"], Handler)
else:
    server = HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler)
name = os.environ.get("NOTIFY_SOCKET")
if name:
    if name.startswith("@"):
        name = "\0" + name[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"STATUS=python is up\nREADY=1\n", name)
if sys.argv[1:2] == ["briefly"]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    server.shutdown()
    server.server_close()
    time.sleep(1000)
server.serve_forever()
