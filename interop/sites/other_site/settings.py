"""With `JWT_APP=package` the app of python/ and users of the site's own; else an app of its own."""

import os

from project.settings import database

SECRET_KEY = "of a test"  # noqa: S105
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "people.Person"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "other_site.people",
    "jwt_auth" if os.environ["JWT_APP"] == "package" else "other_site.keys",
]
# Tables straight from the models, as a test needs them.
MIGRATION_MODULES = {"people": None}
DATABASES = {"default": database(os.environ["DATABASE_URL"])}
JWT_PRIVATE_KEY_PASSWORD = os.environ.get("JWT_PRIVATE_KEY_PASSWORD")
