"""The library as anybody would serve it: uvicorn and a Router, nothing else. Logs a line a request."""

from __future__ import annotations

import argparse
import logging

import uvicorn

from solar import Backend, Router

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--api-key", required=True)
parser.add_argument("--backend", action="append", required=True, metavar="NAME=URL")
given = parser.parse_args()

logging.basicConfig(level=logging.INFO)
named = (text.partition("=") for text in given.backend)
router = Router(backends=[Backend(name, url) for name, _, url in named], api_keys=[given.api_key])
uvicorn.run(router, host="127.0.0.1", port=given.port, access_log=False, log_level="warning")
