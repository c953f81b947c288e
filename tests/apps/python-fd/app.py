"""A WSGI app, for gunicorn."""
import os


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello from python {os.getpid()}\n".encode()]
