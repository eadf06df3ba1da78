"""The running gateway, asked from the command line. Blocking, on the standard library: a command does one thing."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import quote, urlencode

import click

from solar.cli.place import Place
from solar.cli.show import clean

CONNECT = 5.0  # seconds until a connection stands
ANSWER = 60.0  # seconds for an answer that nothing long is behind
STARTING = 10.0  # seconds for which one that has just started is asked again
AGAIN = 0.2  # seconds between
LONGEST = 16 * 1024 * 1024  # bytes of an answer


class Refused(click.ClickException):
    """The gateway, or an agent behind it, said no: exit status 1."""

    def __init__(self, message: str, status: int = 0, code: str | None = None, *, again: bool = False) -> None:
        super().__init__(clean(message))
        self.again = again  # nothing was done, and it may be asked for soon
        self.status = status
        self.code = code


class Unreachable(click.ClickException):
    """No gateway answers there: exit status 3."""

    exit_code = 3


class Client:
    """Asks one gateway. Everything raises Refused and Unreachable, which end a command with a sentence."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def __repr__(self) -> str:
        return f"<Client of {self.place}>"

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """What GET answers, read as JSON."""
        return self.ask("GET", path, query=query)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        within: float | None = ANSWER,
    ) -> Any:
        """What the gateway answers, read as JSON. `within` is in seconds of silence; None waits for ever.

        One that has just started may not have read its hosts yet: it is asked again.
        """
        until = time.monotonic() + STARTING
        while True:
            try:
                return self._ask(method, path, body, query, within)
            except Refused as refused:
                if not (refused.again and time.monotonic() < until):
                    raise
            time.sleep(AGAIN)

    def _ask(self, method: str, path: str, body: object, query: Mapping[str, str] | None, within: float | None) -> Any:
        with closing(self._connect()) as connection:
            response = self._send(connection, method, path, body, query, within)
            try:
                answered = response.read(LONGEST)
            except (OSError, http.client.HTTPException) as error:
                raise self._unreachable(error, within) from None
        return self._read(response.status, answered, again=response.headers.get("Retry-After") is not None)

    def stream(self, path: str, body: object) -> Generator[bytes, None, None]:
        """The lines of an answer as they come, without their ends; it may be silent for as long as it likes."""
        with closing(self._connect()) as connection:
            response = self._send(connection, "POST", path, body, None, None)
            try:
                if response.status != 200:
                    self._read(response.status, response.read(LONGEST))
                rest = b""
                while piece := response.read1(65_536):
                    *lines, rest = (rest + piece).split(b"\n")
                    yield from lines
                if rest:
                    yield rest
            except (OSError, http.client.HTTPException):
                raise Refused("the answer broke off: the connection was cut") from None

    def frames(self, path: str, query: Mapping[str, str]) -> Generator[str, None, None]:
        """What a WebSocket says, until the gateway ends it. Nobody else imports websockets here: it takes a while."""
        from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
        from websockets.sync.client import connect

        place = self.place
        try:
            socket = connect(
                f"ws{str(place).removeprefix('http')}{self.target(path, query).removeprefix(place.path)}",
                additional_headers=self.headers,
                ssl=place.context,
                open_timeout=CONNECT,
                close_timeout=1,
                max_size=LONGEST,
                proxy=None,
            )
        except InvalidStatus as error:
            self._read(error.response.status_code, bytes(error.response.body or b""))
            raise Refused(f"the gateway answered {error.response.status_code}") from None
        except (OSError, InvalidHandshake) as error:
            raise self._unreachable(error, CONNECT) from None
        with socket:
            try:
                for frame in socket:
                    yield frame if isinstance(frame, str) else frame.decode("utf-8", "replace")
            except ConnectionClosed as error:
                raise Unreachable(f"{place}: the connection was cut: {error}") from None

    @property
    def headers(self) -> dict[str, str]:
        """What goes with every request."""
        key = self.place.key
        return {"Accept": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}

    def target(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """A path with its query, below the gateway's own."""
        return f"{self.place.path}{path}" + (f"?{urlencode(query)}" if query else "")

    def _connect(self) -> http.client.HTTPConnection:
        place = self.place
        if place.context is not None:
            return http.client.HTTPSConnection(place.hostname, place.port, timeout=CONNECT, context=place.context)
        return http.client.HTTPConnection(place.hostname, place.port, timeout=CONNECT)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, str] | None,
        within: float | None,
    ) -> http.client.HTTPResponse:
        content = None if body is None else json.dumps(body).encode()
        headers = self.headers | ({"Content-Type": "application/json"} if content else {})
        try:
            connection.connect()
        except OSError as error:
            raise self._unreachable(error, CONNECT) from None
        connection.sock.settimeout(within)
        try:
            connection.request(method, self.target(path, query), content, headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error, within) from None

    def _read(self, status: int, answered: bytes, *, again: bool = False) -> Any:
        try:
            told = json.loads(answered)
        except (ValueError, RecursionError):
            no_json = f"what listens at {self.place} is no Solar gateway: it answers {status}, and no JSON"
            raise Unreachable(no_json) from None
        if status < 400:
            return told
        error = told.get("error") if isinstance(told, dict) else None
        error = error if isinstance(error, dict) else {}
        code = error.get("code")
        if status == 401 and code == "invalid_api_key":
            raise self.locked_out()
        message = str(error.get("message") or f"the gateway answered {status}")
        raise Refused(message, status, code, again=again and code == "store_unavailable")

    def locked_out(self) -> Refused:
        """What is said where the key is wrong, or there is none."""
        place = self.place
        said = f"refuses the key from {place.key_from}; give" if place.key else "wants a key; give it"
        return Refused(f"the gateway at {place} {said} its own with --api-key or SOLAR_API_KEY", 401, "invalid_api_key")

    def _unreachable(self, error: Exception, within: float | None) -> Unreachable:
        return unreachable(self.place, error, within)


def unreachable(place: Place, error: Exception, within: float | None) -> Unreachable:
    """In words, why there is no answer."""
    match error:
        case ConnectionRefusedError():
            return Unreachable(
                f"nobody listens at {place}; start it with `solar serve`, or name another with --url or SOLAR_URL"
            )
        case ssl.SSLCertVerificationError():
            why = f"its certificate is not trusted: {error.verify_message}; SSL_CERT_FILE names whom to trust"
        case ssl.SSLError():
            why = "it speaks no TLS; try http://"
        case socket.gaierror():
            why = "there is no machine of that name"
        case TimeoutError():
            why = f"it does not answer within {within:g} s"
        case http.client.RemoteDisconnected() if place.context is None:
            why = "it closed the connection without an answer; a gateway with a certificate needs https://"
        case http.client.HTTPException() | ConnectionError():
            why = "what it says is no HTTP, or was cut"
        case _:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return Unreachable(clean(f"{place}: {why}"))


def segment(word: str) -> str:
    """`word` as one segment of a path."""
    return quote(word, safe="")
