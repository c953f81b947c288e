"""An app that knows its users by Django's sessions in its cache, for gunicorn."""
import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

# What docs/sessions.md says, which the test puts here.
documented = {}
exec(open("documented.py").read(), documented)
documented = {name: value for name, value in documented.items() if name.isupper()}
if django.VERSION < (4, 0):
    documented["CACHES"]["default"]["BACKEND"] = "django_redis.cache.RedisCache"
settings.configure(
    SECRET_KEY="the same for all workers",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    **documented,
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
