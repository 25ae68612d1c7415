"""The app of the Python worker that shows what any worker can pass."""

import os

from celery import Celery
from t.integration.tasks import ClassBasedAutoRetryTask

app = Celery("conformance", broker=os.environ["TEST_BROKER"], backend=os.environ["TEST_BACKEND"])
app.conf.result_extended = True
app.conf.task_create_missing_queues = False
app.register_task(ClassBasedAutoRetryTask)
app.loader.import_task_module("celery.contrib.testing.tasks")
