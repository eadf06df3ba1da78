"""Go on with a Python that is new enough. This file runs under any Python 3: its syntax stays old and plain."""

import os
import shutil
import subprocess
import sys

OLDEST = (3, 11)
NEWER = ("python3.14", "python3.13", "python3.12", "python3.11")


def require() -> None:
    """Return under a supported Python; else start the command again under one from PATH, or say what is missing."""
    if sys.version_info >= OLDEST:
        return
    for name in NEWER:
        found = shutil.which(name)
        # Asked, since a name on PATH may be a version manager's stand-in, or lack what makes an environment.
        if found and subprocess.call([found, "-c", "import ensurepip, venv"], stderr=subprocess.DEVNULL) == 0:
            os.execv(found, [found] + sys.argv)  # noqa: RUF005, S606  older syntax; no shell is wanted
    sys.exit(
        "Solar needs Python 3.11 or newer, with venv and pip. This is Python {}.{}, and PATH has none of: {}.".format(
            sys.version_info[0], sys.version_info[1], ", ".join(reversed(NEWER))
        )
    )
