"""What is written of a run: the file of raw rounds, tables, pages, plots."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import pages, plots, report, tables
from bench.lines import promised
from bench.peers import OURS, PEERS, YARDSTICK
from bench.plots import Bar
from tests.bench.handmade import results, rounds

SVG = "{http://www.w3.org/2000/svg}"
PAGE = "# Title\n\nbefore\n\n<!-- bench:begin -->\nstale\n<!-- bench:end -->\n\nafter\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with the two pages."""
    for language in ("en", "zh"):
        page = tmp_path / pages.PAGE.format(language=language)
        page.parent.mkdir(parents=True)
        page.write_text(PAGE, "utf-8")
    return tmp_path


def written(root: Path, language: str) -> str:
    return (root / pages.PAGE.format(language=language)).read_text("utf-8")


def test_raw_rounds_come_back_as_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = results(rounds(count=2), quick=True)
    report.save(before, tmp_path / "sub" / "rounds.json")
    assert report.load(tmp_path / "sub" / "rounds.json") == before
    assert "rounds.json" in capsys.readouterr().out


def test_a_table_has_every_side_that_was_measured_and_its_figures() -> None:
    run = results(rounds())
    workload = next(each for each in run.workloads() if each.key == "unary-64")
    table = tables.of_workload(workload, run.samples)
    assert table is not None
    assert {row[0] for row in table.rows} == set(PEERS)
    assert table.head[:3] == ["side", "calls/s", "rate to bare_rpc (min–max)"]
    assert table.rows[:2] == [
        [YARDSTICK, "200,000", "–", "–", "–", "–", "–", "5 (0)"],
        [OURS, "140,000", "0.70 × (0.70–0.70)", "–", "–", "–", "–", "5 (0)"],
    ]
    assert tables.of_workload(workload, []) is None


@pytest.mark.parametrize("language", ["en", "zh"])
def test_pages_get_whole_tables_between_their_markers_and_nothing_else_changes(root: Path, language: str) -> None:
    run = results(rounds())
    for _ in range(2):  # a second run replaces the first
        pages.write(run, promised(run.samples, run.python), root)
    text = written(root, language)
    head, _, rest = text.partition(pages.BEGIN)
    middle, _, tail = rest.partition(pages.END)
    assert (head, tail) == ("# Title\n\nbefore\n\n", "\n\nafter\n")
    assert "stale" not in middle
    assert text.count(pages.BEGIN) == 1
    found = [re.findall(r"^\|.*\|$", part, re.MULTILINE) for part in middle.split("###")]
    assert len([rows for rows in found if rows]) >= 10
    for rows in found:
        assert len({row.count("|") for row in rows}) <= 1, rows
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", middle)
    assert len(links) == 3
    assert all(((root / pages.PAGE.format(language=language)).parent / link).exists() for link in links)


def test_a_page_without_its_markers_is_refused(root: Path) -> None:
    (root / pages.PAGE.format(language="zh")).write_text("# Title\n", "utf-8")
    with pytest.raises(SystemExit, match="must have one <!-- bench:begin -->"):
        pages.write(results(rounds()), [], root)


def test_chinese_tables_keep_a_space_between_the_two_scripts(root: Path) -> None:
    run = results(rounds())
    pages.write(run, promised(run.samples, run.python), root)
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", written(root, "zh"))
    assert re.findall(r"[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9][\u4e00-\u9fff]", text) == []


def test_plots_are_whole_documents_with_a_bar_for_each_side() -> None:
    drawn = pages.plots(results(rounds()))
    assert list(drawn) == ["throughput-64.svg", "throughput-512.svg", "ratios.svg"]
    for svg in drawn.values():
        tree = ElementTree.fromstring(svg)
        assert tree.tag == f"{SVG}svg"
        assert "prefers-color-scheme: dark" in svg
    tree = ElementTree.fromstring(drawn["throughput-64.svg"])
    assert len(tree.findall(f"{SVG}rect")) == len(PEERS)
    assert [each.get("class") for each in tree.findall(f"{SVG}rect")][:2] == ["yardstick", "ours"]
    assert len(ElementTree.fromstring(drawn["ratios.svg"]).findall(f"{SVG}line[@class='mark']")) == 7


def test_nothing_measured_draws_nothing() -> None:
    assert pages.plots(results([])) == {}


def test_bars_are_as_long_as_their_values() -> None:
    svg = plots.bars("a < b", "c & d", [Bar("one", 50.0, "50"), Bar("two", 100.0, "100", mark=75.0)])
    tree = ElementTree.fromstring(svg)
    half, whole = (float(each.get("width", "")) for each in tree.findall(f"{SVG}rect"))
    assert half == pytest.approx(whole / 2, abs=0.1)
    mark = tree.find(f"{SVG}line[@class='mark']")
    assert mark is not None
    assert float(mark.get("x1", "")) == pytest.approx(plots.LABEL_WIDTH + whole * 0.75, abs=0.1)


@pytest.mark.parametrize(
    ("top", "expected"),
    [(1.0, [0, 0.25, 0.5, 0.75, 1.0]), (350_000.0, [0, 100_000, 200_000, 300_000, 400_000]), (0.7, [0, 0.2, 0.4, 0.6, 0.8])],
)
def test_an_axis_begins_at_zero_and_has_round_numbers(top: float, expected: list[float]) -> None:
    assert plots.nice_ticks(top) == pytest.approx(expected)


def test_a_part_of_a_run_prints_the_lines_of_that_part(capsys: pytest.CaptureFixture[str]) -> None:
    report.shown(results([each for each in rounds() if each.workload == "bulk"], only="bulk"), write_docs=False, strict=False)
    assert [line for line in capsys.readouterr().out.splitlines() if line.endswith("met") or "not measured" in line] == [
        "  3     64 KiB bodies, to bare_rpc  ≥ 1.2 ×    1.38 × (1.38–1.38)  met"
    ]


def test_it_is_said_how_steady_the_machine_was() -> None:
    disturbed: list[tuple[tuple[str, str], dict[str, float | None]]] = [
        (("bulk", OURS), {"rate": 1.0, "spin_ms": 30.0, "foreign_cores": 0.5}),
        (("stream", OURS), {"rate": 1.0, "spin_ms": 10.0}),
    ]
    note = tables.notes(rounds(*disturbed, count=1), {})[0]
    assert "took 20.0 ms beside the samples (10.0–30.0); in 1 of 2 samples other programs took more than 0.15 core" in note


def test_strict_makes_an_unmet_line_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = results(rounds()), results(rounds((("bulk", OURS), {"rate": 1.0})))
    codes = [report.shown(run, write_docs=False, strict=strict) for run in (good, bad) for strict in (False, True)]
    assert codes == [0, 0, 0, 1]
    assert "Not measured: nats: the program nats-server is not there" in capsys.readouterr().out
