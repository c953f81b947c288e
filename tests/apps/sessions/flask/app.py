"""An app that knows its users by Flask-Session, for gunicorn."""
import os

from flask import Flask, jsonify, request, session

app = Flask(__name__)
app.config.update(SESSION_PERMANENT=True)
exec(open("documented.py").read())  # what docs/sessions.md says, which the test puts here


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
