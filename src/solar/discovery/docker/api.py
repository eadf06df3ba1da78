"""Talks to one Docker engine: the only file that knows aiodocker. What goes wrong is a DockerFailed."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from solar.discovery.docker.advice import unreachable
from solar.discovery.docker.logs import LogBytes, Written, moment
from solar.errors import InvalidSettings, MissingExtra, SolarError

if TYPE_CHECKING:
    import aiodocker
    import aiohttp

ANSWER_SECONDS = 10.0  # that an engine may take to say something; a busy one takes long
_AT_ONCE = 8  # containers that it is asked about side by side
_EVENTS = '{"type":["container","network"]}'
_USE_TLS = "set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the folder of ca.pem, cert.pem and key.pem"
_SCHEMES = ("unix://", "tcp://", "http://", "https://", "ssh://", "npipe://")
# Where rootless Docker and podman have their sockets; aiodocker knows the others.
_MORE_SOCKETS = ("$XDG_RUNTIME_DIR/docker.sock", "$XDG_RUNTIME_DIR/podman/podman.sock", "/run/podman/podman.sock")


class DockerFailed(SolarError):
    """A Docker engine cannot be asked. `reason` says why, `advice` what to do."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason}; {advice}")
        self.reason = reason
        self.advice = advice


class DockerApi:
    """What we ask of one engine. On leaving, the client is closed if it is `owned`."""

    def __init__(self, client: aiodocker.Docker, *, owned: bool, url: str | None = None) -> None:
        self._client = client
        self._owned = owned
        self._version = client.api_version
        self._room = asyncio.Semaphore(_AT_ONCE)
        # As it was given; docker_host has lost the path of a socket.
        self.url = shown(url or str(getattr(client, "_connection_info", client.docker_host)))

    async def __aenter__(self) -> DockerApi:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._owned:
            await self._client.close()

    async def info(self) -> Mapping[str, Any]:
        """What the engine says of itself; nothing where a proxy keeps that to itself."""
        if self._version == "auto":
            found = await self._json("version")
            self._version = f"v{found['ApiVersion']}" if isinstance(found, dict) and "ApiVersion" in found else "v1.41"
        try:
            page = await self._json(f"{self._version}/info")
        except DockerFailed:
            return {}
        return page if isinstance(page, dict) else {}

    async def containers(self) -> dict[str, str]:
        """All that run, by id, with their state: "running", "paused", "restarting"."""
        listed = await self._json(f"{self._version}/containers/json")
        found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        return {str(one["Id"]): str(one.get("State", "running")).lower() for one in found if "Id" in one}

    async def inspect(self, container: str) -> object:
        """What the engine knows of a container; None where there is none."""
        async with self._room:
            found: object = await self._json(f"{self._version}/containers/{container}/json")
        return found

    async def log(self, container: str, *, since: str | None, newest: int) -> AsyncGenerator[list[Written], None]:
        """What a container writes, until it stops, and before that what it wrote: since a time, or the newest lines.

        What was written at just that time comes again. Raises DockerFailed.
        """
        from aiohttp import ClientPayloadError

        await self.info()
        page = await self.inspect(container)
        if not isinstance(page, dict):
            raise DockerFailed(f"there is no container {container!r} at {self.url}", "was it removed?")
        config = page.get("Config")
        params = {"follow": "1", "stdout": "1", "stderr": "1", "timestamps": "1", "tail": str(newest)}
        if since is not None and (at := moment(since)) is not None:
            params |= {"since": f"{at[0]}.{at[1]:09}", "tail": "all"}
        read = LogBytes(terminal=isinstance(config, dict) and bool(config.get("Tty")))
        with _told(self.url), suppress(ClientPayloadError):
            response = await self._request(f"{self._version}/containers/{container}/logs", params)
            try:
                await self._check(response)
                async for data in response.content.iter_any():
                    if lines := read.feed(data):
                        yield lines
            finally:
                response.close()

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """What happens from now on, a line of JSON each. Raises DockerFailed."""
        with _told(self.url):
            response = await self._request(f"{self._version}/events", {"filters": _EVENTS})
        try:
            yield self._lines(response)
        finally:
            response.close()

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        from aiohttp import ClientPayloadError

        with _told(self.url), suppress(ClientPayloadError):  # how it ends where the engine does
            await self._check(response)
            async for line in response.content:
                yield line

    async def _json(self, path: str) -> Any:
        """The answer to a GET; None where there is no such thing."""
        with _told(self.url):
            async with asyncio.timeout(ANSWER_SECONDS), self._request(path) as response:
                if response.status == 404:
                    return None
                await self._check(response)
                return msgspec.json.decode(await response.read())

    def _request(self, path: str, params: Mapping[str, str] | None = None) -> aiohttp.client._RequestContextManager:
        from aiohttp import ClientTimeout

        limits = ClientTimeout(total=None, sock_connect=ANSWER_SECONDS)
        return self._client.session.get(f"{self._client.docker_host}/{path}", params=params, timeout=limits)

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status != 200:
            said = (await response.text(errors="replace")).strip()[:200]
            advice = "if a proxy stands before its socket, let it allow GET of version, info, events and containers"
            if "HTTPS server" in said:
                advice = _USE_TLS
            raise DockerFailed(f"{self.url} answered {response.status}: {said}", advice)


def check_hosts(hosts: tuple[str, ...]) -> None:
    """Raises MissingExtra where a package is not there, InvalidSettings for what is no engine's URL."""
    if find_spec("aiodocker") is None:
        raise MissingExtra.of("finding containers", "aiodocker", "docker")
    for host in hosts:
        if not host.startswith(_SCHEMES):
            raise InvalidSettings(f"{host!r} is no Docker host; write unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST")
        if host.startswith("ssh://") and find_spec("asyncssh") is None:
            raise MissingExtra.of(shown(host), "asyncssh", "docker-ssh")


def usual_hosts() -> tuple[str, ...]:
    """The engine that the environment names, if it does."""
    named = os.environ.get("DOCKER_HOST")
    return (named,) if named else ()


def shown(url: str) -> str:
    """`url` without the password that may be in it."""
    return re.sub(r"(//[^/@:]*):[^/@]*@", r"\1@", url)


def connect(url: str | None = None) -> DockerApi:
    """The engine at `url`, or the one that the docker command would use. Nothing is sent yet; needs a running loop."""
    from aiodocker import Docker

    url = url or next(iter(usual_hosts()), None)
    with _told(shown(url or "unix:///var/run/docker.sock")):
        if url is None:
            return DockerApi(_usual(), owned=True)
        scheme, _, rest = url.partition("://")
        if scheme not in ("tcp", "http", "https"):
            return DockerApi(Docker(url), owned=True)
        tls = scheme == "https" or bool(os.environ.get("DOCKER_TLS_VERIFY"))
        port = "" if rest.rpartition(":")[2].isdigit() else ":2376" if tls else ":2375"
        whole = f"{'https' if tls else 'http'}://{rest.rstrip('/')}{port}"
        return DockerApi(Docker(whole, ssl_context=_certificates() if tls else None), owned=True, url=url)


def _usual() -> aiodocker.Docker:
    """By the docker command's context, else by the first socket that is there."""
    from aiodocker import Docker

    try:
        return Docker()
    except (AssertionError, ValueError):  # its way to say that there is none; the first only without -O
        for path in map(os.path.expandvars, _MORE_SOCKETS):
            if Path(path).is_socket():
                return Docker(f"unix://{path}")
        raise FileNotFoundError("no socket") from None


def _certificates() -> ssl.SSLContext:
    """As the docker command has them: a folder with ca.pem, cert.pem and key.pem."""
    folder = Path(os.environ.get("DOCKER_CERT_PATH") or "~/.docker").expanduser()
    ca = folder / "ca.pem"
    context = ssl.create_default_context(cafile=str(ca) if ca.exists() else None)
    if (certificate := folder / "cert.pem").exists():
        context.load_cert_chain(certificate, folder / "key.pem")
    return context


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Tell every way in which the engine at `url` can fail as a DockerFailed."""
    from aiodocker import DockerContextError, DockerError
    from aiohttp import ClientError

    try:
        yield
    except OSError as error:  # aiohttp's own are, too, and keep the system's in one place or the other
        cause = getattr(error, "os_error", error.__cause__)
        raise DockerFailed(*unreachable(url, cause if isinstance(cause, OSError) else error)) from error
    except DockerContextError as error:
        raise DockerFailed(str(error), "look which contexts there are: docker context ls") from error
    except (ClientError, DockerError) as error:
        advice = f"look what this says: docker -H {url} version"
        raise DockerFailed(f"the Docker Engine at {url} does not answer: {error}", advice) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise DockerFailed(f"the answer of {url} cannot be read: {error}", "is it a Docker Engine?") from error
