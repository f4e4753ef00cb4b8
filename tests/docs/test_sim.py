"""The page about the simulation is complete: every public name, every fault, every argument of what a scenario calls."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest

import holdfast.sim as sim
from holdfast.sim.climate import HOST_INCIDENTS, LINK_INCIDENTS
from tests.docs.tables import LANGUAGES, reference, rows

CALLED = (
    sim.sim_test, sim.explore, sim.run_world, sim.operations, sim.Climate, sim.exactly_once, sim.linearizable, sim.sessions,
    sim.cancel_everywhere, sim.LoadModel, sim.Trigger, sim.judge_overload, sim.shrink, sim.Fault, sim.InvariantBroken,
    sim.History.call, sim.World.host, sim.World.link, sim.World.settle, sim.World.partition, sim.Host.start,
)  # fmt: skip


def code(language: str) -> set[str]:
    """The words that stand in code on the page, in spans and in blocks."""
    text = reference(language, "sim.md").read_text("utf-8")
    spans = re.findall(r"```python\n(.*?)```|`([^`\n]+)`", text, re.DOTALL)
    return {word for span in spans for word in re.findall(r"\w+", " ".join(span))}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_public_name_is_there(language: str) -> None:
    assert sorted(set(sim.__all__) - code(language)) == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("thing", [sim.World, sim.Host])
def test_every_public_member_is_there(thing: type, language: str) -> None:
    assert sorted({name for name in vars(thing) if not name.startswith("_")} - code(language)) == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("called", CALLED, ids=lambda each: each.__qualname__)
def test_every_argument_is_there(called: Callable[..., Any], language: str) -> None:
    assert sorted(set(inspect.signature(called).parameters) - {"self"} - code(language)) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_fault_has_a_sentence(language: str) -> None:
    sentences = {row[0].strip("`"): row[2] for row in rows(reference(language, "sim.md")) if len(row) == 3}
    assert [kind for kind in LINK_INCIDENTS + HOST_INCIDENTS if len(sentences.get(kind, "")) < 8] == []
