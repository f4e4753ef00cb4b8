"""The yardstick, `bare_rpc/`: who it is, and that it is still the same.

Owns its hash. What may never happen here: a ratio to a yardstick that somebody has changed.
"""

from __future__ import annotations

import hashlib
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent / "bare_rpc"
PINNED = "743fafd7c89f2a297254c741f92637335741250530f6c561295a95b6e9e20129"


def digest(folder: pathlib.Path) -> str:
    """Return the SHA-256 of the folder's files: of their names and contents, in the order of the names."""
    total = hashlib.sha256()
    for path in sorted(each for each in folder.iterdir() if each.is_file()):
        content = path.read_bytes()
        total.update(f"{path.name} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()


def checked() -> str:
    """Return the digest. Raises: SystemExit when it is not the pinned one."""
    found = digest(FOLDER)
    if found != PINNED:
        raise SystemExit(
            f"bench/bare_rpc has changed: its SHA-256 is {found}, expected {PINNED}. "
            "All ratios are to that one yardstick: restore the folder"
        )
    return found


def importable() -> None:
    """Make `import l1` find the yardstick."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
