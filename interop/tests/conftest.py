"""Servers for the session, and for each test a namespace of its own in them."""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from celery import Celery

from programs import Programs
from servers import PostgresServer, RedisServer

os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
# Each test puts a database of its own in this one's place.
os.environ["DATABASE_URL"] = "sqlite:///dev/null"

import django

django.setup()

from django.conf import UserSettingsHolder
from django.conf import settings as django_settings
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from project.settings import database as django_database

pytest_plugins = ["private_keys_in_output"]
PROGRAMS = pytest.StashKey[Programs]()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Data and logs of everything that is started; gone after pytest, however it ends."""
    root = tmp_path_factory.mktemp("interop")
    # PostgreSQL runs under an account of its own and must reach its folder.
    for part in [root, *list(root.parents)[:3]]:
        if part.owner() == root.owner() and part != Path(tempfile.gettempdir()):
            part.chmod(0o755)
    # The shell reads the end of our pipe when we are gone, and tidies up after us.
    with subprocess.Popen(
        ["sh", "-c", 'cat; for _ in 1 2 3 4 5; do rm -rf "$1" && break; sleep 1; done', "sh", root],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ):
        yield root


@pytest.fixture(scope="session")
def redis_server(folder: Path) -> Iterator[RedisServer]:
    path = folder / "redis"
    path.mkdir()
    server = RedisServer(path)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server(folder: Path) -> Iterator[PostgresServer]:
    path = folder / "postgres"
    path.mkdir()
    server = PostgresServer(path)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis_databases() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture
def redis_database(redis_databases: Iterator[int]) -> int:
    """The number of a Redis database that no other test uses."""
    return next(redis_databases)


@pytest.fixture
def broker_url(redis_server: RedisServer, redis_database: int) -> str:
    return redis_server.url(redis_database)


@pytest.fixture
def redis(redis_server: RedisServer, redis_database: int) -> Iterator[redis_client.Redis]:
    """A client of the test's own Redis database."""
    with redis_server.client(redis_database) as client:
        yield client


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    """A Celery app of the kind that a site has; `jwt_auth.tasks` send through it."""
    with celery_app(broker_url) as app:
        yield app


@contextmanager
def celery_app(broker_url: str) -> Iterator[Celery]:
    app = Celery("interop", broker=broker_url, backend=broker_url, set_as_current=True)
    # A caller that loses its server should fail soon, not after the default backoff.
    app.conf.result_backend_transport_options = {"retry_policy": {"timeout": 5.0}}
    yield app
    app.close()


def programs_on(request: pytest.FixtureRequest, broker_url: str, **more: Any) -> Iterator[Programs]:
    path = request.getfixturevalue("folder") / request.node.name.replace("/", "_")
    # A module's may be there: pytest's processes hand tests over to each other, and back.
    path.mkdir(exist_ok=True)
    programs = Programs(path, broker_url, **more)
    request.node.stash[PROGRAMS] = programs
    yield programs
    programs.end()


@pytest.fixture
def programs(request: pytest.FixtureRequest, broker_url: str) -> Iterator[Programs]:
    """Our programs on the test's broker, without a database."""
    yield from programs_on(request, broker_url)


@pytest.fixture
def own_redis(folder: Path, request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A Redis that the test may stop."""
    path = folder / f"redis_{request.node.name}"
    path.mkdir()
    server = RedisServer(path)
    yield server
    server.stop()


@pytest.fixture
def on_own_redis(own_redis: RedisServer, request: pytest.FixtureRequest) -> Iterator[Programs]:
    """Our programs on it."""
    yield from programs_on(request, own_redis.url())


@pytest.fixture(scope="session")
def migrated_sqlite(folder: Path) -> Path:
    """A SQLite file that Django's migrations have filled, then ours."""
    path = folder / "migrated.sqlite3"
    _migrate(f"sqlite://{path}", folder)
    return path


@pytest.fixture(scope="session")
def migrated_postgres(folder: Path, postgres_server: PostgresServer) -> str:
    """The name of a PostgreSQL database that Django's migrations have filled, then ours."""
    name = postgres_server.create_database()
    _migrate(postgres_server.url(name), folder)
    return name


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    """The database engine: what uses it runs once with each."""
    return request.param


@pytest.fixture
def database_url(request: pytest.FixtureRequest, engine: str) -> Iterator[str]:
    """A database of the test's own, migrated as a site's is; Django uses it too."""
    if engine == "sqlite":
        folder = request.getfixturevalue("folder")
        path = folder / f"{request.node.name.replace('/', '_')}.sqlite3"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        url = f"sqlite://{path}"
    else:
        server = request.getfixturevalue("postgres_server")
        url = server.url(server.create_database(request.getfixturevalue("migrated_postgres")))
    use_database(url)
    yield url
    connections.close_all()


@pytest.fixture
def site(request: pytest.FixtureRequest, broker_url: str, database_url: str) -> Iterator[Programs]:
    """Our programs on the database and broker that Django uses in this test."""
    request.getfixturevalue("app")
    yield from programs_on(request, broker_url, database_url=database_url)


def use_database(url: str) -> None:
    """Points Django's default connection at `url`."""
    connections.close_all()
    # Django fills in its defaults once, in place: they are kept from the entry of before.
    connections.settings["default"] |= {"OPTIONS": {}} | django_database(url)
    connections["default"] = connections.create_connection("default")


def _migrate(url: str, folder: Path) -> None:
    """`manage.py migrate`, then `jwt_manage migrate`: what an operator does once."""
    use_database(url)
    call_command("migrate", verbosity=0)
    connections.close_all()
    done = Programs(folder, "redis://unused", url).jwt_manage("migrate")
    if done.status != 0:
        raise RuntimeError(f"jwt_manage migrate failed:\n{done.stderr}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Any:
    """Shows the logs of the programs that a failed test started."""
    report = yield
    if report.failed and (programs := item.stash.get(PROGRAMS, None)) is not None:
        for name, text in programs.logs():
            report.sections.append((f"log of {name}", text[-20_000:]))
    return report


@pytest.fixture
def settings() -> Iterator[UserSettingsHolder]:
    """Django's settings; what a test changes is as before afterwards."""
    with override_settings():
        yield django_settings
