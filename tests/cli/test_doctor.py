import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from solar.control import checkup as examined
from solar.control.checkup import checkup
from solar.control.configuration import load
from solar.control.diagnosis import Diagnosis, diagnose_backend
from solar.control.listen import listen
from solar.core.backend import Backend
from solar.edge.tasks import Tasks
from solar.edge.upstream import HttpUpstream
from solar.testing import FakeBackend

TLS = Path(__file__).resolve().parents[1] / "tls"


@pytest.fixture
async def upstream() -> AsyncIterator[HttpUpstream]:
    tasks = Tasks(logging.getLogger("test"))
    made = HttpUpstream(tasks)
    yield made
    await made.close()
    await tasks.stop()


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    return context


async def answering(said: bytes, backend: dict[str, Any], upstream: HttpUpstream, *, scheme: str = "http") -> Diagnosis:
    """The diagnosis of a server that answers everything with `said`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1000) and said:
            writer.write(said)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return await diagnose_backend(Backend("a", f"{scheme}://127.0.0.1:{port}", **backend), upstream)


async def test_a_backend_that_answers_is_well(upstream: HttpUpstream) -> None:
    async with FakeBackend(models=["m", "n"], api_key="right") as fake:
        found = await diagnose_backend(Backend("a", fake.url, api_key="right", aliases={"x": "n"}), upstream)
    assert found == Diagnosis("backend a", True, "answers, with m, n")


async def test_models_that_it_has_not_are_named(upstream: HttpUpstream) -> None:
    async with FakeBackend(models=["m:latest"]) as fake:
        found = await diagnose_backend(Backend("a", fake.url, models=("m",), aliases={"x": "gone"}), upstream)
    assert (found.well, found.found) == (False, "answers, with m:latest; not among them: gone")


@pytest.mark.parametrize(("key", "words"), [(None, "it wants a key (401)"), ("wrong", "it refuses the key (401)")])
async def test_a_key_that_is_missing_is_told_from_a_wrong_one(
    key: str | None, words: str, upstream: HttpUpstream
) -> None:
    async with FakeBackend(api_key="right") as fake:
        found = await diagnose_backend(Backend("a", fake.url, api_key=key), upstream)
    assert found.found == words
    assert "api_key" in found.advice


async def test_a_wrong_key_is_found_where_the_list_is_open_to_everybody(upstream: HttpUpstream) -> None:
    async with FakeBackend(kind="llamacpp", api_key="right") as fake:
        wrong = await diagnose_backend(Backend("a", fake.url, api_key="wrong"), upstream)
        right = await diagnose_backend(Backend("a", fake.url, api_key="right"), upstream)
    assert (wrong.well, right.well) == (False, True)
    assert "key" in wrong.found


async def test_one_that_loads_is_waited_for(upstream: HttpUpstream) -> None:
    async with FakeBackend(kind="llamacpp", loading=True) as fake:
        found = await diagnose_backend(Backend("a", fake.url), upstream)
    assert (found.found, found.advice) == ("is loading its model: its health answers 503", "wait until it is ready")


async def test_an_api_under_another_path_needs_base_path(upstream: HttpUpstream) -> None:
    found = await answering(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", {}, upstream)
    assert found.found == "there is no /v1/models (404)"
    assert "base_path" in found.advice


async def test_one_that_is_off_is_refused(upstream: HttpUpstream) -> None:
    async with FakeBackend() as fake:
        fake.stop_listening()
        found = await diagnose_backend(Backend("a", fake.url), upstream)
    assert found.found == f"nothing listens on 127.0.0.1:{fake.port}"
    assert found.advice.startswith("start the server")


async def test_an_unknown_name_is_told(upstream: HttpUpstream) -> None:
    found = await diagnose_backend(Backend("a", "http://nowhere.invalid"), upstream)
    assert found.found.startswith("the name nowhere.invalid is unknown")


async def test_one_that_says_nothing_is_told(upstream: HttpUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar.control.diagnosis.TIMEOUT", 0.4)
    async with FakeBackend() as fake:
        fake.freeze()
        frozen = await diagnose_backend(Backend("a", fake.url), upstream)
        fake.thaw()
        fake.ignore_connects()
        swallowed = await diagnose_backend(Backend("a", fake.url), upstream)
    assert frozen.found == "it accepts connections and says nothing: no answer to /health within 0.4 s"
    assert swallowed.found == f"no connection to 127.0.0.1:{fake.port} within 0.4 s"


@pytest.mark.parametrize(
    ("said", "backend", "words"),
    [
        (b"SSH-2.0-x\r\n", {}, "it listens, and does not speak HTTP"),
        (b"", {}, "the connection was"),
        (b"HTTP/1.1 302 Found\r\nlocation: https://x/\r\ncontent-length: 0\r\n\r\n", {}, "is moved to 'https://x/'"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", {}, "is no list of models"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", {}, "is no list of models"),
        (b"HTTP/1.1 418 Tea\r\ncontent-length: 0\r\n\r\n", {}, "/v1/models answered 418"),
        (b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", {"type": "ollama"}, "is loading its model: it answers 503"),
        (b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", {"models": ("m",)}, "it lists no models, you name 1"),
    ],
)
async def test_other_answers_are_told_apart(
    said: bytes, backend: dict[str, Any], words: str, upstream: HttpUpstream
) -> None:
    assert words in (await answering(said, backend, upstream)).found


async def test_certificate_problems_are_told_apart(upstream: HttpUpstream) -> None:
    async with FakeBackend(tls=server_tls()) as fake:
        untrusted = await diagnose_backend(Backend("a", fake.url), upstream)
        trusted = await diagnose_backend(Backend("a", fake.url, ca_file=str(TLS / "server.pem")), upstream)
        trusting = await diagnose_backend(Backend("a", fake.url, verify=False), upstream)
    assert untrusted.found.startswith("its certificate is not trusted: self-signed certificate")
    assert "ca_file" in untrusted.advice
    assert (trusted.well, trusting.well) == (True, True)


async def test_tls_where_there_is_none_is_told(upstream: HttpUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n"
    refused = await answering(refusal, {}, upstream, scheme="https")
    monkeypatch.setattr("solar.control.diagnosis.TIMEOUT", 0.4)
    async with FakeBackend() as fake:
        silent = await diagnose_backend(Backend("a", fake.url.replace("http:", "https:")), upstream)
    assert "does not speak TLS (" in refused.found
    assert silent.found == f"127.0.0.1:{fake.port} does not speak TLS within 0.4 s"
    assert "write http://" in refused.advice


async def about(thing: str, directory: Path, **flags: Any) -> Diagnosis:
    found = await checkup(load({"port": "0", **flags}, {}, directory))
    return next(diagnosis for diagnosis in found if diagnosis.about == thing)


async def test_a_port_in_use_is_told_unless_it_is_ours(tmp_path: Path) -> None:
    (sock,) = listen("127.0.0.1", 0)
    port = str(sock.getsockname()[1])
    sock.close()

    async def health(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n" + b'{"backends_total":0}')
        writer.close()

    async with FakeBackend() as fake:
        foreign = await about("port", tmp_path, port=str(fake.port))
    async with await asyncio.start_server(health, "127.0.0.1", int(port)):
        ours = await about("port", tmp_path, port=port)
    assert (foreign.well, foreign.found) == (False, f"port {fake.port} on 127.0.0.1 is in use")
    assert (ours.well, ours.found) == (True, f"a Solar gateway serves on 127.0.0.1 port {port}")


async def test_a_data_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = await about("data directory", tmp_path, data_dir=str(tmp_path / "file" / "data"))
    assert (found.well, found.found) == (False, f"{tmp_path / 'file'} cannot be written")


async def test_too_few_open_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examined, "allow_files", lambda _wanted: 1024)
    found = await about("open files", tmp_path)
    assert (found.well, found.found) == (False, "1024 at most: enough for 512 streams at a time")


async def test_what_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examined, "missing", lambda packages=("rich",): list(packages))
    assert (await about("packages", tmp_path)).found == "not installed: rich"
    assert (await about("event loop", tmp_path)).found.startswith("asyncio's own")


@pytest.mark.parametrize(
    ("compiled", "editable", "found", "advised"),
    [
        (True, False, "compiled", False),
        (False, True, "interpreted, as in every editable install", False),
        (False, False, "interpreted: it was not compiled, which is faster", True),
    ],
)
async def test_who_could_have_the_hot_path_compiled_is_told_how(
    compiled: bool, editable: bool, found: str, advised: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examined, "is_compiled", lambda: compiled)
    monkeypatch.setattr(examined, "is_editable", lambda: editable)
    told = await about("hot path", tmp_path)
    assert (told.well, told.found, "SOLAR_COMPILE=1" in told.advice) == (True, found, advised)


async def test_what_is_discovered_is_examined_as_what_is_named_is(tmp_path: Path) -> None:
    async with FakeBackend(["m"]) as fake:
        (tmp_path / "found.toml").write_text(f'[[backends]]\nname = "a"\nurl = "{fake.url}"\n')
        found = await about("backend a", tmp_path, discover=(f"file:{tmp_path / 'found.toml'}",))
    assert (found.well, found.found) == (True, "answers, with m")


async def test_a_source_that_cannot_be_looked_at_is_told_with_what_to_do(tmp_path: Path) -> None:
    where = f"docker:unix://{tmp_path}/docker.sock"
    found = await checkup(load({"port": "0", "discover": (where,)}, {}, tmp_path))
    (docker,) = (diagnosis for diagnosis in found if diagnosis.about.startswith("docker"))
    assert (docker.well, docker.found) == (False, f"there is no {tmp_path}/docker.sock")
    assert "start Docker" in docker.advice
    assert [diagnosis.found for diagnosis in found if diagnosis.about == "backends"] == ["there is none to route to"]


async def test_a_missing_extra_is_told_and_the_rest_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solar.control.discovery.missing", list)
    found = await checkup(load({"port": "0", "discover": ("mdns",)}, {}, tmp_path))
    (missing,) = (diagnosis for diagnosis in found if diagnosis.about == "discovery")
    assert (missing.well, missing.advice) == (
        False,
        "install it with the extra 'mdns', from the checkout: pip install '.[mdns]'",
    )
    assert any(diagnosis.about == "event loop" for diagnosis in found)


@pytest.mark.parametrize(("limit", "told"), [(None, True), (2, False)])
async def test_an_engine_with_slots_wants_a_limit(limit: int | None, told: bool, upstream: HttpUpstream) -> None:
    async with FakeBackend(["m"], kind="llamacpp") as fake:
        found = await diagnose_backend(Backend("a", fake.url, max_in_flight=limit), upstream)
    assert found.well
    assert ("max_in_flight = " in found.advice) is told
