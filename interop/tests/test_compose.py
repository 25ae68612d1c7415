"""What docker-compose.yml runs and checks, without Docker: the same commands on our binaries."""

import subprocess

import pytest
import yaml

from programs import BINARIES, CHECKOUT
from waiting import until


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]


def healthy(service, env):
    """Whether the service's healthcheck succeeds in this environment."""
    kind, program, *arguments = service["healthcheck"]["test"]
    assert kind == "CMD"
    return subprocess.run([BINARIES / program, *arguments], env=env, check=False).returncode == 0


def test_the_worker_is_healthy_while_it_lives(programs, services):
    assert not healthy(services["worker"], programs.env)

    worker = programs.interop_worker("-n", "celery@%h")
    until(lambda: healthy(services["worker"], programs.env), "the worker is healthy")
    worker.kill()

    until(lambda: not healthy(services["worker"], programs.env), "it is missed", 60)


def test_beat_is_healthy_while_it_lives(programs, services):
    assert not healthy(services["beat"], programs.env)

    programs.beat()

    until(lambda: healthy(services["beat"], programs.env), "beat is healthy")


def test_the_programs_take_the_arguments_that_compose_gives_them(services):
    for name, arguments in {
        "worker": ["--concurrency", "4", "--queues", "celery"],
        "beat": ["--queue", "celery"],
        "migrate": ["migrate"],
    }.items():
        program, *given = services[name]["command"]
        assert [part.split(":-")[-1].rstrip("}") for part in given] == arguments
        done = subprocess.run([BINARIES / program, *arguments, "--help"], check=False)
        assert done.returncode == 0


def test_nothing_hinders_more_workers(services):
    assert "container_name" not in services["worker"]
    assert "ports" not in services["worker"]
