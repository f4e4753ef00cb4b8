"""Every wall holds on the tree, and every wall is seen to fail when it is broken.

Each case copies the package, plants one import, and runs the contracts in their own process: they read the copy, not what is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.contracts import house

pytestmark = pytest.mark.slow  # the same on every Python; `make contracts` asks the first question in a second

CONTRACTS = {
    each["id"]: each for each in tomllib.loads((house.ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
}

# contract: (file, the import that breaks it and nothing else)
BREAKS: dict[str, list[tuple[str, str]]] = {
    "direction": [("context.py", "from .handler import Request")],
    "cycles": [("control/one.py", "from .two import x"), ("control/two.py", "from .one import y")],
    "wire-alone": [("wire/planted.py", "from ..facts import Fact")],
    "wire-pure": [("wire/planted.py", "import asyncio")],
    "framing-alone": [("framing/planted.py", "import asyncio")],
    "control-pure": [("control/planted.py", "import asyncio")],
    "kernel": [("rpc/planted.py", "import socket")],
    "any-protocol": [("policy/planted.py", "from ..net import planted"), ("net/planted.py", "")],
    "protocol-in-rpc": [("admin/planted.py", "from ..wire import planted"), ("wire/planted.py", "")],
    "supervisor": [("runtime/planted.py", "from ..net import planted"), ("net/planted.py", "")],
    "program-joins": [("server.py", "from .runtime import planted"), ("runtime/planted.py", "")],
    "no-sim": [("program.py", "from .sim import world"), ("sim/world.py", "")],
    "no-root": [("tools/planted.py", "import holdfast")],
    "time-and-chance": [("rpc/planted.py", "import random")],
    "facts-not-logs": [("rpc/planted.py", "import logging")],
    "terminal": [("rpc/planted.py", "import rich")],
}

# Walls that must hold for each package they speak of, not only for the first one planted above.
MORE_BREAKS = [
    ("policy/planted.py", "wire"),
    ("policy/planted.py", "rpc"),
    ("framing/planted.py", "control"),
    ("framing/planted.py", "net"),
    ("wire/planted.py", "framing"),
    ("policy/planted.py", "balance"),
    ("policy/planted.py", "calling"),
    ("balance/planted.py", "net"),
    ("balance/planted.py", "wire"),
    ("balance/planted.py", "rpc"),
    ("balance/planted.py", "policy"),
    ("rpc/planted.py", "balance"),
    ("rpc/planted.py", "calling"),
    ("calling/planted.py", "wire"),
    ("calling/planted.py", "runtime"),
    ("calling/planted.py", "sim"),
    ("guard/planted.py", "net"),
    ("guard/planted.py", "rpc"),
    ("net/planted.py", "wire"),
    ("observe/planted.py", "policy"),
    ("runtime/planted.py", "wire"),
    ("runtime/planted.py", "rpc"),
    ("store/planted.py", "sim"),
    ("admin/planted.py", "sim"),
]

RUN = """
import json, sys
from importlinter import api
from importlinter.application import use_cases
options = use_cases.read_user_options(config_filename=sys.argv[1])
use_cases._register_contract_types(options)
report = use_cases.create_report(options, cache_dir=None)
problems = [f"{name}: {error}" for name, error in (report.invalid_contract_options or {}).items()]
broken = [contract.name for contract, check in report.get_contracts_and_checks() if not check.kept]
print(json.dumps({"broken": broken, "problems": problems}))
"""


def broken_contracts(source: Path) -> list[str]:
    """The ids of the contracts that the package under `source` breaks."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(house.ROOT / "pyproject.toml")],
        env={**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{house.ROOT}"},
        cwd=house.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["problems"] == []
    return sorted(key for key, contract in CONTRACTS.items() if contract["name"] in report["broken"])


@pytest.fixture(scope="module")
def standing() -> list[str]:
    """What is broken before anything is planted: nothing, or the test that says so fails alone."""
    return broken_contracts(house.ROOT / "src")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of src/ to break things in."""
    shutil.copytree(house.ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "src"


def plant(source: Path, file: str, line: str) -> None:
    """Append a line to a file of the copy, making the file and its package when they are not there."""
    path = source / "holdfast" / file
    path.parent.mkdir(exist_ok=True)
    for needed in (path.parent / "__init__.py", path):
        if not needed.exists():
            needed.write_text('"""Planted."""\n', "utf-8")
    with path.open("a", encoding="utf-8") as file_:
        file_.write(f"\n{line}\n")


def test_every_wall_holds(standing: list[str]) -> None:
    assert standing == []


def test_every_contract_has_its_break() -> None:
    assert sorted(BREAKS) == sorted(CONTRACTS)


@pytest.mark.parametrize("contract", sorted(BREAKS))
def test_a_planted_import_breaks_exactly_its_wall(contract: str, copy: Path, standing: list[str]) -> None:
    for file, line in BREAKS[contract]:
        plant(copy, file, line)
    assert [each for each in broken_contracts(copy) if each not in standing] == [contract]


@pytest.mark.parametrize(("file", "forbidden"), MORE_BREAKS, ids=lambda each: str(each).split("/")[0])
def test_a_planted_import_breaks_a_wall(file: str, forbidden: str, copy: Path, standing: list[str]) -> None:
    plant(copy, f"{forbidden}/planted.py", "")
    plant(copy, file, f"from ..{forbidden} import planted")
    assert [each for each in broken_contracts(copy) if each not in standing] != []


def test_an_indirect_import_breaks_a_wall(copy: Path) -> None:
    plant(copy, "policy/planted.py", "from ..tasks import planted")
    plant(copy, "tasks.py", "from .net import planted")
    plant(copy, "net/planted.py", "")
    assert "any-protocol" in broken_contracts(copy)


@pytest.mark.parametrize("key", sorted(CONTRACTS))
def test_calling_stands_in_every_wall_that_names_the_client_it_is_a_part_of(key: str) -> None:
    for side in ("source_modules", "forbidden_modules"):
        named = CONTRACTS[key].get(side, [])
        assert "holdfast.client" not in named or "holdfast.calling" in named, f"contract {key}: add holdfast.calling to {side}"


def test_a_package_that_is_not_in_the_plan_is_refused(copy: Path, standing: list[str]) -> None:
    plant(copy, "newcomer/planted.py", "")
    assert [each for each in broken_contracts(copy) if each not in standing] == ["direction"]


def test_the_walls_speak_only_of_the_house() -> None:
    """A wall may name a module that is not written yet, so a misspelt name would silently never hold."""
    known = {*house.MODULES, *house.PACKAGES}
    for key, contract in CONTRACTS.items():
        for name in [*contract.get("source_modules", []), *contract.get("forbidden_modules", [])]:
            first, _, rest = name.partition(".")
            if first == "holdfast":
                assert rest.split(".")[0] in {*known, "", "**"}, f"contract {key} speaks of {name}, which is not in the plan"
            else:
                assert rest == "", f"contract {key}: {name}"
                assert first in {*sys.stdlib_module_names, "uvloop", "click", "rich"}, f"contract {key} speaks of {name}"
    layers = " ".join(CONTRACTS["direction"]["layers"]).replace("|", " ").replace("(", "").replace(")", "").split()
    assert sorted(layers) == sorted([*known, "__main__"])
