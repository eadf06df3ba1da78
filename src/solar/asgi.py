"""The gateway for a foreign ASGI server: `uvicorn solar.asgi:app`. Settings: environment, `.env`, solar.toml.

Where that server listens is its own business and not known here, so a key is always needed: the one that is set, else
one that is made and kept in the data directory.
"""

from __future__ import annotations

from solar.control.app import application

app = application()
