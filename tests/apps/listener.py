# Serves on the listener that it inherits, by systemd's convention and nothing but it.
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"python {os.getpid()} {os.environ['LISTEN_FDNAMES']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "client"

if int(os.environ["LISTEN_PID"]) != os.getpid() or os.environ["LISTEN_FDS"] != "1":
    sys.exit("not meant for me")
listener = socket.socket(fileno=3)
if not os.get_blocking(3):
    sys.exit("not the kind of socket that programs expect")
server = HTTPServer(("", 0), Handler, bind_and_activate=False)
server.socket = listener
server.serve_forever()
