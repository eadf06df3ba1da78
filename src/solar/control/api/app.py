"""The management API as an ASGI application. It brings Starlette, so it is imported once the gateway listens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from solar.control.api.asking import LARGEST, Answer, Asked, Desk, Operation, refused
from solar.control.api.openapi import document
from solar.control.api.page import page
from solar.control.api.sockets import SOCKETS, Handler
from solar.control.api.table import OPERATIONS
from solar.errors import InvalidRequest, SolarError

_WENT_WRONG = 1011
_LONGEST_REASON = 120  # bytes: a closing frame has room for a few more

Endpoint = Callable[[Request], Awaitable[Response]]


def make_api(desk: Desk) -> Starlette:
    """The application that answers all of OPERATIONS, describes them, and has SOCKETS beside them."""
    by_path: dict[str, dict[str, Operation]] = defaultdict(dict)
    for operation in OPERATIONS:
        by_path[operation.path][operation.method] = operation
    # What has no braces comes first: /hosts/refresh-all is no host.
    paths = sorted(by_path, key=lambda path: "{" in path)
    routes: list[BaseRoute] = [
        Route(path, _endpoint(desk, by_path[path]), methods=list(by_path[path])) for path in paths
    ]
    described = document(OPERATIONS)
    for path, answer in (
        ("/openapi.json", Answer(described)),
        ("/docs", Answer(page(described), kind="text/html; charset=utf-8")),
    ):
        routes.append(Route(path, _fixed(answer), methods=["GET"]))
    for path, handler in SOCKETS.items():
        routes += [WebSocketRoute(path, _socket(desk, handler)), Route(path, _no_socket)]
    api = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _misdirected, SolarError: _refuse, Exception: _failed},
    )
    api.router.redirect_slashes = False
    return api


def _endpoint(desk: Desk, by_method: dict[str, Operation]) -> Endpoint:
    async def answer(request: Request) -> Response:
        operation = by_method["GET" if request.method == "HEAD" else request.method]
        body = b"" if operation.method == "GET" else await _body(request)
        query = request.query_params
        return _response(await operation.answer(desk, Asked(request.path_params, query, str(query), body)))

    return answer


def _fixed(answer: Answer) -> Endpoint:
    async def answered(_: Request) -> Response:
        return _response(answer)

    return answered


def _socket(desk: Desk, handler: Handler) -> Callable[[WebSocket], Awaitable[None]]:
    async def speak(socket: WebSocket) -> None:
        try:
            await handler(desk, socket)
        except WebSocketDisconnect:  # its client has left
            return
        except SolarError as error:
            if socket.application_state is WebSocketState.CONNECTING:
                await socket.send_denial_response(_response(refused(error)))
            else:
                await socket.close(_WENT_WRONG, error.message.encode()[:_LONGEST_REASON].decode("utf-8", "ignore"))

    return speak


async def _no_socket(_: Request) -> Response:
    error = InvalidRequest(
        "this is a WebSocket, and was asked for as a page; a proxy on the way must pass Upgrade and Connection on",
        status=426,
        code="upgrade_required",
    )
    return _response(refused(error), [("upgrade", "websocket")])


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST:
            message = f"the request's body is larger than {LARGEST} bytes, the limit here"
            raise InvalidRequest(message, status=413, code="body_too_large")
    return bytes(body)


def _response(answer: Answer, headers: Iterable[tuple[str, str]] = ()) -> Response:
    return Response(answer.body, answer.status, dict(headers), answer.kind)


async def _refuse(_: Request, error: Exception) -> Response:
    if not isinstance(error, SolarError):
        raise error
    retry = error.retry_after
    headers = [] if retry is None else [("retry-after", str(max(1, -int(-retry // 1))))]
    return _response(refused(error), headers)


async def _misdirected(request: Request, error: Exception) -> Response:
    """No such path, or not by this method."""
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code != 405:
        path = request.url.path[:200]
        return _response(refused(InvalidRequest(f"unknown path {path!r}", status=404, code="unknown_path")))
    allowed = sorted({*(error.headers or {}).get("Allow", "").split(", "), "OPTIONS"})
    headers = [("allow", ", ".join(allowed))]
    if request.method == "OPTIONS":
        return Response(None, 204, dict(headers))
    message = f"{request.method} is not allowed here; use {' or '.join(allowed)}"
    return _response(refused(InvalidRequest(message, status=405, code="method_not_allowed")), headers)


async def _failed(_: Request, error: Exception) -> Response:
    """A mistake of ours; whoever serves the application logs it."""
    return _response(refused(SolarError(f"the gateway failed on this request: {type(error).__name__}")))
