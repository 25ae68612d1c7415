"""Celery's own integration suite, run against our worker. `python -m conformance --help`."""
