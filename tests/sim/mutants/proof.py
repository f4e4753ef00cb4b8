"""A campaign or a pytest run, and the proof that it is a mutated copy of the package which is tested.

Owns: one check. `HOLDFAST_MUTANT` names the folder that the package must come from; with another one nothing is run.
`HOLDFAST_CAMPAIGN` names the campaign, `spine` or `fleet`.

    python -m tests.sim.mutants.proof --seeds 10 --json      the campaign
    pytest -p tests.sim.mutants.proof …                      any tests
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import holdfast


def prove() -> None:
    """Raises: RuntimeError when what is tested is not what should be."""
    wanted, found = Path(os.environ["HOLDFAST_MUTANT"]).resolve(), Path(holdfast.__file__).resolve()
    if not found.is_relative_to(wanted):
        raise RuntimeError(f"the package of {found} is tested; expected the one in {wanted}")


def pytest_configure() -> None:
    prove()


if __name__ == "__main__":
    prove()
    runpy.run_module(f"tests.sim.{os.environ['HOLDFAST_CAMPAIGN']}", run_name="__main__")
