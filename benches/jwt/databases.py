"""Databases full of tokens, with Django's tables and the durability that a site has."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from programs import CHECKOUT, binary
from servers import PostgresServer

# Of 20 tokens: 11 have expired and are not revoked, 6 were revoked long ago, 3 are valid. Those
# that go have a scope each.
ROW = """
SELECT n, 'jti-' || n, {made}, {made},
       CASE WHEN n % 20 < 11 THEN {expired} WHEN n % 20 < 17 THEN {old} ELSE {valid} END,
       n % 20 >= 11 AND n % 20 < 17,
       CASE WHEN n % 20 >= 11 AND n % 20 < 17 THEN {old} END, 'bench', 1, 1
FROM {numbers}
"""
COLUMNS = (
    "id, token_id, created_at, issued_at, expires_at, is_revoked, revoked_at, purpose,"
    " key_pair_id, user_id"
)
LEFT_OVER = {
    "expired": "SELECT count(*) FROM jwt_auth_jwttoken WHERE NOT is_revoked"
    " AND purpose = 'bench' AND expires_at < {now}",
    "old": "SELECT count(*) FROM jwt_auth_jwttoken WHERE is_revoked"
    " AND purpose = 'bench' AND revoked_at < {long_ago}",
    "scopes": "SELECT count(*) FROM jwt_auth_jwttoken_scopes",
}


class Database:
    """A copy for one contender."""

    now = "now()"
    long_ago = "now() - interval '90 days'"
    an_hour_ago = "now() - interval '1 hour'"
    place = "%s"
    # What autovacuum has done until the next day.
    tidy = ("VACUUM ANALYZE", "CHECKPOINT")

    def __init__(self, url: str) -> None:
        self.url = url
        self.env = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PYTHONPATH": f"{CHECKOUT / 'benches' / 'jwt'}:{CHECKOUT / 'python' / 'example'}",
        }

    def jwt_manage(self, *arguments: str) -> None:
        subprocess.run(
            [binary("jwt_manage"), *arguments],
            env=self.env,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def add_indexes(self) -> None:
        self.jwt_manage("migrate", "--cleanup-indexes")

    def left_over(self) -> dict[str, int]:
        with self.connected() as connection:
            return {
                name: connection.execute(
                    query.format(now=self.now, long_ago=self.long_ago)
                ).fetchone()[0]
                for name, query in LEFT_OVER.items()
            }

    def next_day(self, expired: int) -> None:
        """The tables as they are when so many tokens have expired since the last cleanup."""
        with self.connected() as connection:
            connection.execute(
                "UPDATE jwt_auth_jwttoken SET expires_at = "
                f"{self.an_hour_ago} WHERE id IN (SELECT id FROM jwt_auth_jwttoken"
                " WHERE NOT is_revoked AND purpose = 'bench'"
                f" ORDER BY id DESC LIMIT {expired})"
            )
            for statement in self.tidy:
                connection.execute(statement)

    @contextmanager
    def connected(self) -> Iterator[Any]:
        with closing(self.connect()) as connection:
            yield connection

    def connect(self) -> Any:
        """A connection in which each statement is a transaction."""
        return psycopg.connect(self.url, autocommit=True)

    def drop(self) -> None:
        """Gives its space back."""


class Postgres:
    """A cluster of its own that forgets nothing in a crash."""

    def __init__(self, folder: Path) -> None:
        folder = folder / "postgres"
        folder.mkdir()
        self._server = PostgresServer(folder, durable=True)

    def fill(self, tokens: int) -> None:
        self._template = self._server.create_database()
        database = Database(self._server.url(self._template))
        migrate(database)
        with database.connected() as connection:
            rows = ROW.format(
                made="now() - interval '200 days'",
                expired="now() - interval '1 hour' - n % 1000000 * interval '1 second'",
                old="now() - interval '100 days' - n % 1000000 * interval '1 second'",
                valid="now() + interval '7 days'",
                numbers=f"generate_series(1, {tokens}) AS series(n)",
            )
            connection.execute(f"INSERT INTO jwt_auth_jwttoken ({COLUMNS}) {rows}")
            connection.execute(
                "INSERT INTO jwt_auth_jwttoken_scopes (jwttoken_id, jwtscope_id)"
                " SELECT id, (SELECT min(id) FROM jwt_auth_jwtscope) FROM jwt_auth_jwttoken"
                " WHERE is_revoked"
            )
            connection.execute(
                "SELECT setval(pg_get_serial_sequence('jwt_auth_jwttoken', 'id'), %s)",
                [tokens],
            )
            for statement in database.tidy:
                connection.execute(statement)

    def copy(self) -> Database:
        server = self._server
        name = server.create_database(self._template)
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute("CHECKPOINT")

        class Copy(Database):
            def drop(self) -> None:
                with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
                    connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

        return Copy(server.url(name))

    def stop(self) -> None:
        self._server.stop()


class SqliteDatabase(Database):
    """A file; our connections wait for each other as a site's do."""

    now = "datetime('now')"
    long_ago = "datetime('now', '-90 days')"
    an_hour_ago = "datetime('now', '-1 hour')"
    place = "?"
    tidy = ("PRAGMA wal_checkpoint(TRUNCATE)",)

    def __init__(self, path: Path) -> None:
        super().__init__(f"sqlite://{path}")
        self._path = path

    def connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=600, isolation_level=None)
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def drop(self) -> None:
        self._path.unlink()


class Sqlite:
    """Copies of one file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._copies = 0

    def fill(self, tokens: int) -> None:
        self._template = self._folder / "template.sqlite3"
        database = SqliteDatabase(self._template)
        migrate(database)
        with database.connected() as connection:
            moment = "strftime('%Y-%m-%d %H:%M:%S', 'now', {})"
            rows = ROW.format(
                made=moment.format("'-200 days'"),
                expired=moment.format("'-1 hour', '-' || (n % 1000000) || ' seconds'"),
                old=moment.format("'-100 days', '-' || (n % 1000000) || ' seconds'"),
                valid=moment.format("'7 days'"),
                numbers="series",
            )
            connection.execute(
                "WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series"
                f" WHERE n < {tokens}) INSERT INTO jwt_auth_jwttoken ({COLUMNS}) {rows}"
            )
            connection.execute(
                "INSERT INTO jwt_auth_jwttoken_scopes (jwttoken_id, jwtscope_id)"
                " SELECT id, (SELECT min(id) FROM jwt_auth_jwtscope) FROM jwt_auth_jwttoken"
                " WHERE is_revoked"
            )
            # As a site does that has writers beside each other.
            connection.execute("PRAGMA journal_mode = WAL")
            for statement in database.tidy:
                connection.execute(statement)

    def copy(self) -> SqliteDatabase:
        self._copies += 1
        path = self._folder / f"copy-{self._copies}.sqlite3"
        shutil.copy(self._template, path)
        # Whoever syncs the file first would pay for the copy.
        with path.open("rb") as copy:
            os.fsync(copy.fileno())
        return SqliteDatabase(path)

    def stop(self) -> None:
        """There is no server."""


ENGINES = {"postgres": Postgres, "sqlite": Sqlite}


def migrate(database: Database) -> None:
    """Django's tables, ours beside them, one user, the scopes and a key pair."""
    code = (
        "import django; django.setup();"
        "from django.core.management import call_command;"
        "call_command('migrate', verbosity=0);"
        "from django.contrib.auth.models import User;"
        "User.objects.create(username='ada')"
    )
    subprocess.run([sys.executable, "-c", code], env=database.env, check=True)
    database.jwt_manage("migrate")
    database.jwt_manage("init")
