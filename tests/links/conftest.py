import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

for folder in ("fleet", "watch", "api", "cli"):
    sys.path.append(str(Path(__file__).parents[1] / folder))

if TYPE_CHECKING:
    from linking import Coordinator


@pytest.fixture
async def coordinator(tmp_path: Path) -> "AsyncIterator[Coordinator]":
    from linking import coordinating

    async with coordinating(tmp_path) as running:
        yield running
