"""What a caller can catch. Each error carries what the wire needs: HTTP status, type and code."""

from __future__ import annotations


class SolarError(Exception):
    """The root of everything that Solar raises on purpose."""

    status: int = 500
    type: str = "server_error"
    code: str | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after  # seconds; sent as Retry-After, rounded up
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code


class InvalidRequest(SolarError):
    """The client must change its request: bad JSON, no model, a body that is too large, an unknown path."""

    status = 400
    type = "invalid_request_error"


class NotAuthenticated(SolarError):
    """No key, or a wrong one."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class ModelNotFound(SolarError):
    """No backend has a model of that name."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class TooManyRequests(SolarError):
    """Every backend of the model is full and so is its queue, or the wait was too long."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class NoBackendAvailable(SolarError):
    """Backends have the model, and none can take a request now: down, loading or stopping."""

    status = 503
    type = "server_error"
    code = "no_backend_available"


class UpstreamFailed(SolarError):
    """A backend took the request and did not answer it: 502, or 504 when it was too slow."""

    status = 502
    type = "server_error"
    code = "upstream_failed"


class StoreFailed(SolarError):
    """The database cannot do it now; the message says why. Requests are served as before."""

    status = 503
    type = "server_error"
    code = "store_unavailable"


class InvalidBackend(SolarError, ValueError):
    """A backend's settings make no sense; the message says which one and what to write instead."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_backend"


class MissingExtra(SolarError, ImportError):
    """Something needs a package that the bare install does not bring; the message names the extra."""

    @classmethod
    def of(cls, what: str, packages: str, extra: str) -> MissingExtra:
        """`what` needs `packages`, which come with `extra`."""
        return cls(
            f"{what} needs {packages}, not installed; "
            f"install it with the extra '{extra}', from the checkout: pip install '.[{extra}]'"
        )


class InvalidSettings(SolarError, ValueError):
    """solar.toml, a flag or an environment variable is wrong; the message says where and what to write."""
