"""An app that knows its users by Flask-Session, for gunicorn."""
import os

import redis
from flask import Flask, jsonify, request, session
from flask_session import Session

store = redis.Redis.from_url(os.environ["REDIS_URL"])
app = Flask(__name__)
app.config.update(SESSION_TYPE="redis", SESSION_REDIS=store, SESSION_PERMANENT=True)
Session(app)


def answer():
    return jsonify(worker=str(os.getppid()), user=session.get("user"), session=getattr(session, "sid", None))


@app.get("/")
def who():
    return answer()


@app.get("/login")
def login():
    session["user"] = request.args["user"]
    return answer()


@app.get("/logout")
def logout():
    session.clear()
    return answer()
