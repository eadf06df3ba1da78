"""Put a router into an application that has other things to do: here, Starlette; FastAPI takes the same two lines.

python examples/mount_starlette.py http://192.168.1.100:8000
curl http://127.0.0.1:8000/llm/v1/models
"""

import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from solar import Backend, Router


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("The models are under /llm/v1.")


def application(router: Router) -> Starlette:
    # The lifespan starts the router and stops it: without it nothing is ever probed, and requests raise an error.
    return Starlette(routes=[Route("/", home), Mount("/llm", router)], lifespan=router.lifespan)


def main() -> None:
    import uvicorn

    uvicorn.run(application(Router(backends=[Backend("my-llm", sys.argv[1])])), port=8000)


if __name__ == "__main__":
    main()
