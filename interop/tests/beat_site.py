"""manage.py of a site whose admin keeps its periodic tasks in django-celery-beat's tables."""

import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line

from project.settings import database

settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django_celery_beat"],
    DATABASES={"default": database(os.environ["DATABASE_URL"])},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
    TIME_ZONE="UTC",
)

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
