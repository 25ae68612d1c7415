"""The Django app by itself: migrations, signatures, tokens; nothing of Rust takes part."""

import pytest
from django.core.management import call_command
from django.db import connection

from jwt_auth import tasks
from jwt_auth.tasks import NotAPythonTaskError, rotate_jwt_keypairs


def test_the_migrations_say_what_the_models_say(database_url):
    call_command("makemigrations", "jwt_auth", check=True, dry_run=True, verbosity=0)


def test_the_tables_bear_the_names_that_the_worker_reads(database_url):
    ours = {name for name in connection.introspection.table_names() if name.startswith("jwt_auth")}

    assert ours == {
        "jwt_auth_jwtkeypair",
        "jwt_auth_jwtscope",
        "jwt_auth_jwttoken",
        "jwt_auth_jwttoken_scopes",
    }


@pytest.mark.parametrize(
    "name",
    [
        "cleanup_expired_tokens",
        "rotate_jwt_keypairs",
        "cleanup_inactive_keypairs",
        "generate_jwt_health_report",
        "initialize_jwt_scopes",
    ],
)
def test_a_task_bears_its_wire_name_and_has_no_body_in_python(app, name):
    task = getattr(tasks, name)

    assert task.name == f"jwt_auth.tasks.{name}"
    with pytest.raises(NotAPythonTaskError, match="implemented by the Rust worker"):
        task()


def test_a_wrong_argument_is_refused_before_anything_is_sent(app, redis):
    with pytest.raises(TypeError):
        rotate_jwt_keypairs.delay(sooner=True)

    assert redis.keys("*") == []
