"""Give a backend a transport of its own: here, a model that lives in this process and repeats what it is told.

    python examples/custom_upstream.py
    curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \
        -d '{"model": "parrot", "messages": [{"role": "user", "content": "hello"}]}'
"""

import json
from typing import Any

from solar import Backend, Call, Router, Sink, UpstreamRequest

MODELS = {"object": "list", "data": [{"id": "parrot", "object": "model", "owned_by": "me"}]}


class Parrot:
    """A transport: `send` starts a request, and what happens to it is told to `sink`.

    This one knows its answer at once. Another would start its work, return, and call the sink later, always from the
    event loop: `head` once, `chunk` for each piece, then `end`. If the answer cannot come, it calls `failed` instead.
    """

    def send(self, request: UpstreamRequest, sink: Sink) -> Call:
        status, answer = self._answer(request)
        body = json.dumps(answer).encode()
        sink.head(status, [(b"content-type", b"application/json")], len(body))
        sink.chunk(body)
        sink.end()
        return Over()

    def _answer(self, request: UpstreamRequest) -> tuple[int, dict[str, Any]]:
        match request.target:
            case b"/health":
                return 200, {"status": "ok"}
            case b"/v1/models":
                return 200, MODELS
            case b"/v1/chat/completions":
                said = json.loads(request.body)["messages"][-1]["content"]
                choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
                return 200, {"id": "parrot-1", "object": "chat.completion", "created": 0, "choices": [choice]}
        error = {"message": "a parrot only talks", "type": "invalid_request_error", "param": None, "code": None}
        return 404, {"error": error}

    async def close(self) -> None:
        """Nothing is open."""


class Over:
    """A request that needs no steering any more: its answer is complete."""

    def pause(self) -> None:
        """The client is slow: say no more for now."""

    def resume(self) -> None:
        """Go on."""

    def abort(self) -> None:
        """The client is gone: stop working for it."""

    def unacknowledged(self) -> bool:
        """Whether the other side has stopped taking what was sent to it."""
        return False


def main() -> None:
    import uvicorn

    # `upstream` of a Backend is for that one; `Router(upstream=...)` would be for all of them.
    uvicorn.run(Router(backends=[Backend("parrot", "http://parrot.internal", upstream=Parrot())]), port=8000)


if __name__ == "__main__":
    main()
