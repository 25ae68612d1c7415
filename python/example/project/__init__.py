"""An example site. The Celery app is imported here, so that `.delay()` finds it everywhere."""

from project.celery import app as celery_app

__all__ = ["celery_app"]
