"""An app that knows its users by Django's sessions in its cache, for gunicorn."""
import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

# Django has a backend for Redis of its own since version 4; before, everybody took django-redis.
own = django.VERSION >= (4, 0)
backend = "django.core.cache.backends.redis.RedisCache" if own else "django_redis.cache.RedisCache"
settings.configure(
    SECRET_KEY="the same for all workers",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    CACHES={"default": {"BACKEND": backend, "LOCATION": os.environ["REDIS_URL"]}},
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
)


def answer(request):
    session = request.session
    return JsonResponse(
        {"worker": str(os.getppid()), "user": session.get("user"), "session": session.session_key}
    )


def login(request):
    request.session.cycle_key()
    request.session["user"] = request.GET["user"]
    request.session.save()
    return answer(request)


def logout(request):
    request.session.flush()
    return answer(request)


urlpatterns = [path("", answer), path("login", login), path("logout", logout)]
app = get_wsgi_application()
