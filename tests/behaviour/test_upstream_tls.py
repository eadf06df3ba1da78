"""Backends behind https: who is trusted, and what is said of those who are not."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from gateways import until

from asgi_call import get, post
from solar import Backend, Router
from solar.testing import FakeBackend

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs the openssl command, which makes the certificates")


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        # Python 3.13 asks an authority for its key usage, too.
        usage = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        self.ca_file = self._make("ca", "/CN=test authority", *usage)

    def _make(self, name: str, subject: str, *more: str) -> Path:
        key, cert = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        made = ("-keyout", str(key), "-out", str(cert), "-subj", subject, "-days", "2", "-nodes")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        command = [OPENSSL or "", "req", "-x509", *curve, *made, *more]
        subprocess.run(command, check=True, capture_output=True)
        return cert

    def server(self, name: str) -> ssl.SSLContext:
        """What a server shows that this authority vouches for under `name`."""
        signed = ("-CA", str(self.ca_file), "-CAkey", str(self.folder / "ca.key"))
        kind = "IP" if name[0].isdigit() else "DNS"
        extensions = ("-addext", f"subjectAltName={kind}:{name}", "-addext", "basicConstraints=critical,CA:FALSE")
        cert = self._make(name, f"/CN={name}", *signed, *extensions)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, cert.with_suffix(".key"))
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def server(authority: Authority) -> ssl.SSLContext:
    return authority.server("127.0.0.1")


async def test_a_backend_behind_https_is_used_where_its_authority_is_known(
    authority: Authority, server: ssl.SSLContext
) -> None:
    async with (
        FakeBackend(["m"], tls=server) as fake,
        Router([Backend("one", fake.url, ca_file=str(authority.ca_file))]) as router,
    ):
        assert router.backends[0].state == "healthy"
        for body in (b'{"model":"m"}', b'{"model":"m","stream":true}', b'{"model":"m"}'.ljust(300_000)):
            assert (await post(router, body)).status == 200
            assert fake.inference[-1].body == body


async def test_connections_behind_https_are_kept(authority: Authority, server: ssl.SSLContext) -> None:
    async with (
        FakeBackend(["m"], tls=server) as fake,
        Router([Backend("one", fake.url, ca_file=str(authority.ca_file))]) as router,
    ):
        for _ in range(5):
            assert (await post(router)).status == 200
        assert len({recorded.connection for recorded in fake.inference}) == 1


async def refused(backend: Backend) -> str:
    """What is said of a backend that nobody can talk to."""
    async with Router([backend]) as router:
        reply = await post(router)
        assert (reply.status, reply.error["code"]) == (503, "no_backend_available")
        await until(lambda: router.backends[0].state == "down")
        assert (await get(router, "/health")).json["status"] == "degraded"
        return router.backends[0].reason


async def test_an_authority_that_is_not_known_is_not_trusted(server: ssl.SSLContext) -> None:
    async with FakeBackend(["m"], tls=server) as fake:
        assert "certificate verify failed" in await refused(Backend("one", fake.url, models=("m",)))
        assert not fake.requests  # no key was shown to a stranger


async def test_another_authority_is_not_trusted(server: ssl.SSLContext, tmp_path: Path) -> None:
    other = str(Authority(tmp_path / "theirs").ca_file)
    async with FakeBackend(["m"], tls=server) as fake:
        reason = await refused(Backend("one", fake.url, models=("m",), ca_file=other))
        assert "certificate verify failed" in reason
        assert not fake.requests


async def test_a_certificate_for_another_name_is_not_trusted(authority: Authority) -> None:
    async with FakeBackend(["m"], tls=authority.server("elsewhere.example")) as fake:
        reason = await refused(Backend("one", fake.url, models=("m",), ca_file=str(authority.ca_file)))
        assert "certificate verify failed" in reason


async def test_any_certificate_will_do_only_where_that_was_asked_for(server: ssl.SSLContext) -> None:
    async with (
        FakeBackend(["m"], tls=server) as fake,
        Router([Backend("one", fake.url, verify=False)]) as router,
    ):
        assert (await post(router)).status == 200


async def test_a_connection_that_was_not_verified_is_never_shared_with_one_that_must_be(
    server: ssl.SSLContext,
) -> None:
    async with FakeBackend(["m"], tls=server) as fake:
        lax = Backend("lax", fake.url, verify=False, models=("m",))
        strict = Backend("strict", fake.url + "/other", models=("n",))
        async with Router([lax, strict]) as router:
            assert (await post(router)).status == 200
            assert (await post(router, b'{"model":"n"}')).status == 503


async def test_a_bundle_that_cannot_be_used_is_named(server: ssl.SSLContext, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    async with FakeBackend(["m"], tls=server) as fake:
        for name in ("missing.pem", "empty.pem"):
            reason = await refused(Backend("one", fake.url, models=("m",), ca_file=str(tmp_path / name)))
            assert name in reason


async def test_http_to_a_backend_behind_https_is_a_clear_failure(server: ssl.SSLContext) -> None:
    async with FakeBackend(["m"], tls=server) as fake:
        await refused(Backend("one", f"http://127.0.0.1:{fake.port}", models=("m",)))
        assert not fake.requests
