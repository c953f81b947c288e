"""A WSGI app, for gunicorn: who asks, as frameworks say it, and how."""
import os


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    client = f"{environ['REMOTE_ADDR']} by {environ['wsgi.url_scheme']}"
    return [f"hello from python, {client}, {os.environ['HOME']}\n".encode()]
