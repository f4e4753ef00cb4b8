"""A campaign can be stopped and goes on, counts what it did, and says what it found."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from tests.fuzz import campaign, corpus


def asked(out: Path, **more: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    campaign.add_arguments(parser)
    found = parser.parse_args(["--out", str(out), "--name", "addresses", "--block", "50"])
    for name, value in more.items():
        setattr(found, name, value)
    return found


@pytest.mark.slow
def test_it_counts_and_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "summary.json"
    assert campaign.run(asked(out, executions=100)) == 0
    first = json.loads(out.read_text("utf-8"))
    assert (first["executions"], first["blocks"], first["exceptions"]) == (100, [0, 1], 0)
    assert campaign.run(asked(out, executions=190)) == 0
    both = json.loads(out.read_text("utf-8"))
    assert (both["executions"], both["blocks"]) == (200, [0, 1, 2, 3])
    assert bytes.fromhex(both["slowest"])
    assert both["slowest_ms"] > 0
    with pytest.raises(SystemExit, match="another campaign"):
        campaign.run(asked(out, executions=200, seed="other"))


def test_a_block_is_the_same_whenever_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[list[bytes]] = []
    for _ in range(2):
        seen: list[bytes] = []
        monkeypatch.setattr("tests.fuzz.harnesses.addresses.one", seen.append)
        campaign.block("addresses", "seed", 3, 40)
        runs.append(seen)
    assert runs[0] == runs[1]
    assert len(runs[0]) >= 40


def test_a_block_says_what_it_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(data: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(corpus, "FINDINGS", corpus.HERE / "findings" / "of-a-test")
    monkeypatch.setattr("tests.fuzz.harnesses.addresses.one", fails)
    found = campaign.block("addresses", "seed", 0, 10)
    summary = {"executions": 0, "exceptions": 0, "slowest_ms": 0.0, "slowest": "", "slow": [], "found": []}
    campaign.add(summary, found)
    assert (summary["executions"], summary["exceptions"]) == (10, 1)
    assert "ZeroDivisionError in test_campaign.py:fails" in found["found"][0]
    assert "python -m tests.fuzz repeat addresses tests/fuzz/findings/of-a-test/" in found["found"][0]
    for path in corpus.FINDINGS.iterdir():
        path.unlink()
    corpus.FINDINGS.rmdir()
