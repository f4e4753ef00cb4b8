"""The campaign over seeds that run twice, a small piece of it; and it notices a difference."""

from __future__ import annotations

import sys

import pytest

from tests.sim import determinism


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stdlib", "spine"])
def test_seeds_agree_in_processes_with_other_hash_seeds(kind: str) -> None:
    assert determinism.compare(kind, 100, 20, [], 2) is None


def test_a_difference_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(python: str, hash_seed: str, kind: str, first: int, count: int) -> list[str]:
        return [f"{seed}{'!' if seed == 7 and hash_seed == 'random' else ''}" for seed in range(first, first + count)]

    monkeypatch.setattr(determinism, "elsewhere", elsewhere)
    assert determinism.compare("spine", 0, 7, [], 1) is None
    assert determinism.compare("spine", 0, 9, [], 1) == (7, f"{sys.executable} with PYTHONHASHSEED=random: 7!, first run: 7")
