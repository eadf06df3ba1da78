"""Choose among backends by a rule of your own: here, fill one machine before the next one is woken.

The usual rule spreads requests over all machines. Where each of them draws 300 watts as soon as it has work, you may
want the opposite.

    python examples/custom_policy.py http://box-1:8000 http://box-2:8000
"""

import sys
from typing import Any

from solar import Backend, Candidate, Router


def pack(candidate: Candidate, affinity: int) -> Any:
    """The busiest machine that still has room. Smaller comes first, so the count is negative.

    Only candidates that are available get here: a backend that is down, or has reached its `max_in_flight`, does not.
    `affinity` is 0 unless sessions are kept together; put it where keeping them together matters more than the rest.
    """
    return (candidate.backend.priority, candidate.suspect, affinity, -candidate.host_in_flight, candidate.backend.id)


def main() -> None:
    import uvicorn

    backends = [Backend(f"box-{n}", url, max_in_flight=4) for n, url in enumerate(sys.argv[1:], start=1)]
    uvicorn.run(Router(backends=backends, policy=pack), port=8000)


if __name__ == "__main__":
    main()
