"""Tables that one side made serve the other."""

import pytest
from django.core.management import call_command
from django.db import ProgrammingError, connection, connections

from conftest import use_database
from jwt_auth.models import JWTKeyPair
from jwt_auth.tasks import initialize_jwt_scopes, rotate_jwt_keypairs
from waiting import until

DJANGO_TABLES = [
    "jwt_auth_jwtkeypair",
    "jwt_auth_jwtscope",
    "jwt_auth_jwttoken",
    "jwt_auth_jwttoken_scopes",
]


@pytest.fixture
def empty_database_url(request, engine, folder):
    """A database in which nothing is yet; Django uses it too."""
    if engine == "sqlite":
        url = f"sqlite://{folder / request.node.name}.sqlite3"
    else:
        server = request.getfixturevalue("postgres_server")
        url = server.url(server.create_database())
    use_database(url)
    yield url
    connections.close_all()


@pytest.fixture
def django_database_url(empty_database_url):
    """A database that Django's migrations alone have filled."""
    call_command("migrate", verbosity=0)
    connections.close_all()
    return empty_database_url


def describe(tables):
    """Columns with type and nullability, uniqueness and indexes, as Django sees them."""
    look = connection.introspection
    with connection.cursor() as cursor:
        return {
            table: (
                {
                    column.name: (column.type_code, column.internal_size, column.null_ok)
                    for column in look.get_table_description(cursor, table)
                },
                sorted(
                    (sorted(found["columns"]), found["unique"], found["primary_key"])
                    for found in look.get_constraints(cursor, table).values()
                    # A site's user table is none of ours, and its key may be of any kind.
                    if not found["check"] and found["columns"] != ["user_id"]
                ),
            )
            for table in tables
        }


def test_our_migrations_make_the_tables_that_django_makes(
    programs, empty_database_url, request, engine
):
    done = programs.jwt_manage("migrate", DATABASE_URL=empty_database_url)
    assert done.status == 0, done.stderr
    ours = describe(DJANGO_TABLES)

    if engine == "sqlite":
        use_database(f"sqlite://{request.getfixturevalue('migrated_sqlite')}")
    else:
        server = request.getfixturevalue("postgres_server")
        use_database(server.url(request.getfixturevalue("migrated_postgres")))

    assert ours == describe(DJANGO_TABLES)


def test_our_migrations_change_nothing_that_django_made(programs, django_database_url):
    before = describe(DJANGO_TABLES)
    assert programs.jwt_manage("check", DATABASE_URL=django_database_url).status == 70

    for _ in range(2):
        done = programs.jwt_manage("migrate", DATABASE_URL=django_database_url)
        assert done.status == 0, done.stderr

    assert describe(DJANGO_TABLES) == before
    check = programs.jwt_manage("check", DATABASE_URL=django_database_url)
    assert check.status == 0, check.stdout + check.stderr


def test_django_s_migrations_accept_the_tables_that_we_made(programs, empty_database_url):
    programs.jwt_manage("migrate", DATABASE_URL=empty_database_url)

    call_command("migrate", fake_initial=True, verbosity=0)

    assert JWTKeyPair.objects.count() == 0
    call_command("migrate", check_unapplied=True, verbosity=0)


def test_the_worker_does_its_tasks_on_tables_that_we_made(app, programs, empty_database_url):
    programs.jwt_manage("migrate", DATABASE_URL=empty_database_url)
    programs.worker(DATABASE_URL=empty_database_url)

    assert initialize_jwt_scopes.delay().get(timeout=60)["total_active_scopes"] == 4
    assert rotate_jwt_keypairs.delay().get(timeout=60)["action"] == "rotation_performed"


def test_a_worker_names_what_is_missing_at_its_start_and_works_once_it_is_there(
    app, programs, empty_database_url
):
    worker = programs.worker(DATABASE_URL=empty_database_url)

    for words in [
        "the five tasks will fail until this is mended",
        "table jwt_auth_jwttoken is missing: migration 0003",
    ]:
        until(lambda: words in worker.output(), words)  # noqa: B023  (called at once)
    sent = initialize_jwt_scopes.delay()
    with pytest.raises(ProgrammingError, match="table jwt_auth_jwtscope is missing"):
        sent.get(timeout=60)
    programs.jwt_manage("migrate", DATABASE_URL=empty_database_url)
    assert initialize_jwt_scopes.delay().get(timeout=60)["total_active_scopes"] == 4


def test_a_missing_column_is_named(site):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE jwt_auth_jwtkeypair DROP COLUMN public_key_pem")

    check = site.jwt_manage("check")

    assert check.status != 0
    assert "jwt_auth_jwtkeypair" in check.stderr + check.stdout
    assert "public_key_pem" in check.stderr + check.stdout
