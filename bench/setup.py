"""What a run needs before it starts: who is here, what was chosen, and certificates.

Owns the look at this machine. What may never happen here: a missing library that stops the run, or one that is left out without a word.
"""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

from bench.lines import COMPARED_WITH
from bench.peers import PEERS, YARDSTICK, missing, version
from bench.processes import ROOT
from bench.workloads import FULL, QUICK, Workload, workloads

LIBRARIES = {name: importlib.metadata.version(name) for name in ("msgspec", "uvloop")}
"""What holdfast and the yardstick stand on."""
OWN_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Chosen:
    """What will be measured, and what cannot be."""

    workloads: list[Workload]
    missing: dict[str, str]
    pythons: dict[str, str]


def choose(only: str, *, quick: bool) -> Chosen | None:
    """Return what `--only` leaves; None when it asked for the list. Raises: SystemExit for a name that there is not."""
    pythons, lacking = other_pythons()
    everything = workloads(QUICK if quick else FULL, OWN_PYTHON, [version for version in pythons if version != OWN_PYTHON])
    keys = [workload.key for workload in everything]
    sides = list(dict.fromkeys(side.name for workload in everything for side in workload.sides))
    if only == "list":
        print(f"workloads: {', '.join(keys)}\nsides: {', '.join(sides)}")
        return None
    names = [name.strip() for name in only.split(",") if name.strip()]
    if unknown := [name for name in names if name not in keys and name not in sides]:
        raise SystemExit(f"bench: --only knows no {', '.join(unknown)}; workloads: {', '.join(keys)}; sides: {', '.join(sides)}")
    picked_keys, picked_sides = [name for name in names if name in keys] or keys, [name for name in names if name in sides] or sides
    absent = {name: why for name, peer in PEERS.items() if (why := missing(peer)) is not None}
    narrowed = [
        replace(workload, sides=kept)
        for workload in everything
        if workload.key in picked_keys and (kept := tuple(side for side in workload.sides if side.name in picked_sides))
    ]
    peers = [side.peer for workload in narrowed for side in workload.sides]
    return Chosen(narrowed, {name: why for name, why in absent.items() if name in peers} | lacking, pythons)


def other_pythons() -> tuple[dict[str, str], dict[str, str]]:
    """Return the interpreter of each version that is compared, our own included, and what is not there. `make` makes the environments."""
    found, lacking = {OWN_PYTHON: sys.executable}, {}
    for wanted in COMPARED_WITH:
        python = ROOT / ".venv" / wanted / "bin" / "python"
        if wanted == OWN_PYTHON:
            continue
        if not python.exists():
            lacking[f"Python {wanted}"] = f"there is no .venv/{wanted}; `make bench` makes it where that Python is installed"
        elif subprocess.run([python, "-c", "import holdfast"], capture_output=True, check=False).returncode:
            lacking[f"Python {wanted}"] = f"holdfast cannot be imported in .venv/{wanted}"
        else:
            found[wanted] = str(python)
    return found, lacking


def about(digest: str, rounds: int, seconds: float, only: str, *, quick: bool, chosen: Chosen) -> dict[str, Any]:
    """Return what belongs to every figure of the run: the machine, the versions, the yardstick."""
    used = dict.fromkeys(side.peer for workload in chosen.workloads for side in workload.sides)
    return {
        "began": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "yardstick_sha256": digest,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores",
        "load_before": round(os.getloadavg()[0], 2),
        "rounds": rounds,
        "seconds": seconds,
        "only": only,
        "quick": quick,
        "versions": {name: version(PEERS[name]) for name in used if name not in chosen.missing and name != YARDSTICK} | LIBRARIES,
    }


def certificates(folder: pathlib.Path) -> str:
    """Make an authority and a certificate of it, for this run; the environment of the children says where they are."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    os.environ["HOLDFAST_TLS_TRUST"] = str(folder / "ca.pem")
    os.environ["HOLDFAST_TLS_CERT"] = str(folder / "server.pem")
    return os.environ["HOLDFAST_TLS_CERT"]
