"""Settings of the example site.

`DATABASE_URL` and `CELERY_BROKER_URL` are read as the Rust programs read them, so that one
environment serves both. Without them: var/jwt.sqlite3 of the checkout and Redis on 6379, where
`./dev up` says which port it chose.
"""

import os
import secrets
from pathlib import Path
from urllib.parse import unquote, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent
CHECKOUT = BASE_DIR.parent.parent


def database(url: str) -> dict[str, object]:
    """Django's form of `postgres://…` or `sqlite://path`; a relative path is below the checkout."""
    if url.startswith("sqlite://"):
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": CHECKOUT / url.removeprefix("sqlite://"),
            # The worker writes too: wait for its short transactions instead of failing.
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ValueError("DATABASE_URL must begin with postgres://, postgresql:// or sqlite://")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.removeprefix("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
    }


# A key of its own for each process start: the example keeps no sessions.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or secrets.token_urlsafe(50)
DEBUG = os.environ.get("DJANGO_DEBUG") == "true"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "jwt_auth",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
ROOT_URLCONF = "project.urls"
DATABASES = {"default": database(os.environ.get("DATABASE_URL") or "sqlite://var/jwt.sqlite3")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True

# Broker and result backend are the same Redis: the worker then stores a result and acknowledges
# its message in one step.
CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL") or "redis://127.0.0.1:6379/0"
CELERY_RESULT_BACKEND = os.environ.get("CELERY_RESULT_BACKEND") or CELERY_BROKER_URL

JWT_MAX_EXPIRY_HOURS = int(os.environ.get("JWT_MAX_EXPIRY_HOURS") or 168)
JWT_DEFAULT_EXPIRY_HOURS = int(os.environ.get("JWT_DEFAULT_EXPIRY_HOURS") or 24)
JWT_PRIVATE_KEY_PASSWORD = os.environ.get("JWT_PRIVATE_KEY_PASSWORD")
