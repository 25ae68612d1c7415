"""Every kind of broker URL, on a real server of its kind.

The same URL goes to Celery and to the worker: what one sends, the other must find.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis as redis_client
from celery import Celery
from celery.exceptions import NotRegistered

from conftest import PROGRAMS, celery_app
from processes import Process
from programs import Programs
from sentinel import ConfiguredRedis, Sentinels
from servers import free_port
from waiting import until

TASK = "jwt_auth.tasks.initialize_jwt_scopes"
PASSWORD = "p@ss/w:rd#%?&+ ü"  # noqa: S105
OPENSSL = "openssl"


@pytest.fixture
def own_folder(folder: Path, request: pytest.FixtureRequest) -> Path:
    path = folder / request.node.name.translate({ord(c): "_" for c in "/[]:%?"})
    path.mkdir()
    return path


@pytest.fixture
def start_redis(own_folder: Path) -> Iterator[Callable[..., ConfiguredRedis]]:
    servers: list[ConfiguredRedis] = []

    def start(*options: str, **client: Any) -> ConfiguredRedis:
        servers.append(ConfiguredRedis(own_folder / f"redis-{len(servers)}", *options, **client))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def sentinels(own_folder: Path) -> Iterator[Callable[..., Sentinels]]:
    started: list[Sentinels] = []

    def start(*options: str, **client: Any) -> Sentinels:
        started.append(Sentinels(own_folder, *options, **client))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def worker(
    own_folder: Path, migrated_sqlite: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Process]]:
    """Starts the worker on a broker URL, with a SQLite database of its own."""
    database = own_folder / "site.sqlite3"
    shutil.copy(migrated_sqlite, database)
    programs = Programs(own_folder, "", f"sqlite://{database}")
    request.node.stash[PROGRAMS] = programs

    def start(url: str, **env: str) -> Process:
        urls = {"CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": url}
        return programs.worker("-c", "2", **urls, **env)

    yield start
    programs.end()


@contextmanager
def site(url: str, **settings: Any) -> Iterator[Celery]:
    """A Celery app on the URL."""
    with celery_app(url) as app:
        app.conf.update(settings)
        yield app


def works(url: str, **settings: Any) -> None:
    """Celery sends through `url`, and gets the worker's answer through it."""
    with site(url, **settings) as app:
        assert app.send_task(TASK).get(timeout=30)["success"] is True
        # The second one is fetched as large messages are, over a connection of its own.
        for _ in range(2):
            with pytest.raises(NotRegistered):
                app.send_task("no.such.task", ("x" * 100_000,)).get(timeout=30)


def refused(process: Process, *said: str) -> None:
    """The worker ends by itself with status 1 and says why, without the password."""
    assert process.wait(20) == 1, process.output()
    output = process.output()
    for text in said:
        assert text in output
    for secret in (PASSWORD, quote(PASSWORD, safe=""), "hunter2"):
        assert secret not in output


def openssl(*arguments: str, folder: Path) -> None:
    subprocess.run([OPENSSL, *arguments], cwd=folder, check=True, capture_output=True)


def make_certificate(folder: Path, name: str, alternative_name: str) -> None:
    """`name.key` and `name.crt`, signed by `ca.crt`."""
    openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"),
        folder=folder,
    )
    (folder / f"{name}.ext").write_text(f"subjectAltName={alternative_name}\n")
    openssl(
        *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
        *("-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt"),
        folder=folder,
    )


@pytest.fixture
def certificates(own_folder: Path) -> Path:
    """An authority of the test's own, a server's certificate from it, and a client's."""
    folder = own_folder / "certificates"
    folder.mkdir()
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=interop-ca", "-days", "2"),
        folder=folder,
    )
    make_certificate(folder, "server", "IP:127.0.0.1")
    make_certificate(folder, "elsewhere", "DNS:elsewhere.example")
    make_certificate(folder, "client", "DNS:client.example")
    return folder


@pytest.fixture
def start_tls(
    start_redis: Callable[..., ConfiguredRedis], certificates: Path
) -> Callable[..., tuple[ConfiguredRedis, str]]:
    """A Redis with TLS beside its plain port, and the `rediss://` URL without parameters."""

    def start(name: str = "server", clients: str = "no") -> tuple[ConfiguredRedis, str]:
        port = free_port()
        server = start_redis(
            *("--tls-port", str(port), "--tls-auth-clients", clients),
            *("--tls-cert-file", str(certificates / f"{name}.crt")),
            *("--tls-key-file", str(certificates / f"{name}.key")),
            *("--tls-ca-cert-file", str(certificates / "ca.crt")),
        )
        return server, f"rediss://127.0.0.1:{port}/0"

    return start


def test_tls_with_an_authority_of_the_sites_own(start_tls, certificates, worker):
    _, url = start_tls()
    url += f"?ssl_cert_reqs=required&ssl_ca_certs={quote(str(certificates / 'ca.crt'), safe='')}"
    process = worker(url)

    works(url)

    assert "not checked" not in process.output()


@pytest.mark.parametrize("query", ["", "?ssl_cert_reqs=required", "?ssl_cert_reqs=CERT_OPTIONAL"])
def test_a_certificate_of_an_unknown_authority_is_refused(start_tls, worker, query):
    _, url = start_tls()

    refused(worker(url + query), "invalid peer certificate", url.removesuffix("/0"))


def test_a_certificate_for_another_host_is_refused_unless_the_url_says_so(
    start_tls, certificates, worker
):
    _, url = start_tls("elsewhere")
    url += f"?ssl_cert_reqs=required&ssl_ca_certs={certificates / 'ca.crt'}"
    refused(worker(url), "invalid peer certificate")

    process = worker(url + "&ssl_check_hostname=false")

    until(lambda: "is ready" in process.output(), "the worker is ready")
    assert "ssl_check_hostname=false" in process.output()


def test_without_any_check_only_when_asked_for_and_with_a_warning(start_tls, worker):
    _, url = start_tls()
    url += "?ssl_cert_reqs=CERT_NONE"
    process = worker(url)

    works(url)

    assert "the server's certificate is not checked" in process.output()


def test_a_client_certificate(start_tls, certificates, worker):
    _, url = start_tls(clients="yes")
    url += f"?ssl_cert_reqs=required&ssl_ca_certs={certificates / 'ca.crt'}"
    own = f"&ssl_certfile={certificates / 'client.crt'}&ssl_keyfile={certificates / 'client.key'}"
    worker(url + own)

    works(url + own)


def test_an_acl_user_with_special_characters_in_name_and_password(start_redis, worker):
    server = start_redis()
    user = "jwt:worker@site"
    with server.client() as admin:
        admin.acl_setuser(
            user,
            enabled=True,
            passwords=[f"+{PASSWORD}"],
            keys="*",
            channels="*",
            commands=["+@all"],
        )
        admin.acl_setuser("default", enabled=False)
    url = f"redis://{quote(user, safe='')}:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/3"
    process = worker(url)

    works(url)

    with redis_client.Redis(port=server.port, db=3, username=user, password=PASSWORD) as client:
        assert client.exists("_kombu.binding.celery")
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert secret not in process.output()
    assert f"redis://{user}:**@127.0.0.1:{server.port}/3" in process.output()


@pytest.mark.parametrize("credentials", ["", ":hunter2@", "bob:hunter2@"])
def test_a_wrong_password_ends_the_worker_with_a_clear_error(start_redis, worker, credentials):
    server = start_redis("--requirepass", PASSWORD, password=PASSWORD)
    process = worker(f"redis://{credentials}127.0.0.1:{server.port}/0")

    refused(process, f"127.0.0.1:{server.port}/0")
    assert any(text in process.output().lower() for text in ("authentication", "password"))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("redis+socket://{}?virtual_host=5", "redis+socket://{}?virtual_host=5"),
        ("unix://{}?db=5", "redis+socket://{}?virtual_host=5"),
    ],
)
def test_a_unix_socket(start_redis, worker, tmp_path, ours, theirs):
    path = tmp_path / "redis socket"
    server = start_redis(*("--unixsocket", str(path), "--port", "0"), unix_socket_path=str(path))
    worker(ours.format(quote(str(path))))

    works(theirs.format(quote(str(path))))

    with server.client(5) as client:
        assert client.exists("_kombu.binding.celery")


def test_the_database_of_the_url_holds_every_key(start_redis, worker):
    server = start_redis()
    worker(server.url(7))

    works(server.url(7))

    with server.client() as client:
        assert list(client.info("keyspace")) == ["db7"]


def test_a_global_keyprefix_is_on_every_key_of_the_broker(start_redis, worker):
    server = start_redis()
    worker(server.url(), BROKER_GLOBAL_KEYPREFIX="site-a:")

    works(server.url(), broker_transport_options={"global_keyprefix": "site-a:"})

    with server.client() as client:
        keys = set(client.scan_iter())
    assert keys
    assert {key for key in keys if not key.startswith(("site-a:", "celery-task-meta-"))} == set()


@pytest.mark.parametrize(
    ("query", "env"),
    [("?socket_connect_timeout=0.4", {}), ("", {"BROKER_CONNECT_TIMEOUT": "0.4"})],
    ids=["url", "setting"],
)
def test_a_server_that_does_not_answer_is_given_up_after_the_connect_timeout(worker, query, env):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}/0"
        process = worker(f"redis://{place}{query}", **env)
        connection, _ = silent.accept()
        started = time.monotonic()

        until(lambda: "cannot serve" in process.output(), "the worker says what it waits for", 10)

        assert time.monotonic() - started < 2.5
        assert f"redis://{place}" in process.output()
        assert process.is_running()
        connection.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:hunter2@h/zero", "the database is a number"),
        ("rediss://:hunter2@h/0?ssl_cert_reqs=sometimes", "required, optional or none"),
        ("rediss://:hunter2@h/0?ssl_ca_certs=/no/such/file", "cannot read /no/such/file"),
        ("redis://:hunter2@h/0?ssl_cert_reqs=none", "rediss://"),
        ("sentinel://:hunter2@h1;sentinel://h2", "BROKER_SENTINEL_MASTER"),
        ("redis://:hunter2/x@h:6379/0", "percent-encoded"),
        ("amqp://:hunter2@h//", "redis://"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(worker, url, said):
    refused(worker(url), said)


def sentinel_settings(name: str = Sentinels.NAME) -> dict[str, Any]:
    return {
        "broker_transport_options": {"master_name": name},
        "result_backend_transport_options": {"master_name": name},
    }


def test_sentinels_lead_to_the_primary(sentinels, worker):
    password = "s3:cr@t"  # noqa: S105
    three = sentinels("--requirepass", password, "--masterauth", password, password=password)
    url = three.url(2, quote(password, safe=""))
    process = worker(url, BROKER_SENTINEL_MASTER=Sentinels.NAME)

    works(url, **sentinel_settings())

    with three.primary.client(2) as client:
        assert client.exists("_kombu.binding.celery")
    assert password not in process.output()


def test_the_url_can_name_the_primary_too(sentinels, worker):
    three = sentinels()
    worker(f"{three.url()}?master_name={Sentinels.NAME}")

    works(three.url(), **sentinel_settings())


def test_sentinels_that_do_not_know_the_primary_are_named(sentinels, worker):
    three = sentinels()
    process = worker(f"{three.url()}?master_name=nobody")

    until(lambda: "knows no primary named nobody" in process.output(), "it says what is wrong")

    for port in three.ports:
        assert f"127.0.0.1:{port}" in process.output()


def test_sentinels_with_a_password_of_their_own(sentinels, worker):
    own, primarys = "own:p@ss", "primary"
    three = sentinels(
        *("--requirepass", primarys, "--masterauth", primarys), own_password=own, password=primarys
    )
    url = f"{three.url(password=primarys)}?master_name={Sentinels.NAME}"
    refused(worker(url), "sentinel://:**@127.0.0.1", "uthentication")

    process = worker(f"{url}&sentinel_password={quote(own, safe='')}")

    until(lambda: "is ready" in process.output(), "the worker is ready")
    for secret in (own, quote(own, safe="")):
        assert secret not in process.output()
