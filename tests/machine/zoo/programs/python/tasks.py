from celery import Celery

app = Celery("tasks", broker="redis://127.0.0.1:6379/1", backend="redis://127.0.0.1:6379/1")
app.conf.task_acks_late = True
app.conf.broker_transport_options = {"visibility_timeout": 5}


@app.task
def add(x, y):
    app.backend.client.incr("added")
    return x + y
