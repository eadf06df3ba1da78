"""What the image starts first: `solar`, and never as root.

Started as root it becomes whoever owns /data, so that a folder of the host that is mounted there can be written, and
what is written belongs to the same user. A folder of root's becomes nobody's first.
"""

import os
import sys
from pathlib import Path

DATA = Path("/data")
ROOT = 0
NOBODY = 10001  # the image's own user and group


def become_owner(data: Path) -> None:
    """Go on as the owner of `data`, to whom all belongs in it that was root's."""
    owner = data.stat()
    user, group = (owner.st_uid, owner.st_gid) if owner.st_uid != ROOT else (NOBODY, NOBODY)
    for path in (data, *data.rglob("*")):
        if path.lstat().st_uid == ROOT:
            os.chown(path, user, group, follow_symlinks=False)
    os.setgroups([given for given in os.getgroups() if given != ROOT])
    os.setgid(group)
    os.setuid(user)


if __name__ == "__main__":
    if os.getuid() == ROOT:
        become_owner(DATA)
    os.execvp("solar", ["solar", *sys.argv[1:]])  # noqa: S606  no shell is wanted; PATH is the image's
