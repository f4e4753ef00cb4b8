"""The benchmark's runner, for real and short: every cell exists, replies are compared, nothing that is missing stops it.

What may never happen here: a figure that is judged.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import measuring, peers, processes, rounds, run, setup, workloads, yardstick
from bench.figures import Sample
from bench.peers import OURS, PEERS, YARDSTICK, Peer
from bench.processes import WrongReply
from bench.rounds import Plan, Record
from bench.workloads import Side, Workload

ROOT = Path(run.__file__).resolve().parent.parent
SECONDS = 0.03


def cells(samples: list[Sample]) -> list[tuple[str, str]]:
    return [(each.workload, each.side) for each in samples]


def workload(call: str = "echo", **changes: Any) -> Workload:
    """A workload with the yardstick alone."""
    sides = workloads.all_of([YARDSTICK])
    named = {"key": "unary", "title": "t", "title_zh": "t", "call": call, "in_flight": 2, "count": 100, "sides": sides}
    return Workload(**(named | changes))


def plan(*chosen: Workload, told: list[str] | None = None, count: int = 1) -> Plan:
    """A plan with very short samples."""
    tell = (told if told is not None else []).append
    return Plan(workloads=list(chosen), rounds=count, seconds=SECONDS, pythons={}, certificate="", tell=tell)


# ------------------------------------------------------------------------------------------------------------------ for real


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_every_workload_gives_a_figure_for_us_and_the_yardstick(tmp_path: Path) -> None:
    everything = workloads.workloads(workloads.QUICK, setup.OWN_PYTHON, [])
    expected = {(each.key, side.name) for each in everything for side in each.sides if side.peer in (OURS, YARDSTICK)}
    names = ",".join(sorted({side for _, side in expected}))
    file = tmp_path / "rounds.json"
    command = [sys.executable, "bench/run.py", "--quick", "--seconds", str(SECONDS), "--only", names, "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(file.read_text("utf-8"))
    metrics = {each.key: each.metric for each in everything}
    assert {(each["workload"], each["side"]) for each in said["samples"]} == expected
    for each in said["samples"]:
        assert each["figures"][metrics[each["workload"]]] is not None
        assert metrics[each["workload"]] == "kib" or each["figures"]["calls"] > 0
        assert metrics[each["workload"]] == "kib" or {"foreign_cores", "spin_ms", "server_cpu_us", "client_cpu_us"} <= set(each["figures"])
    assert yardstick.PINNED in done.stdout
    assert "The promised lines" in done.stdout
    assert "left" in done.stderr


@pytest.mark.slow
def test_an_interrupt_ends_every_process_and_keeps_what_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "rounds.json"
    command = [sys.executable, "bench/run.py", "--quick", "--rounds", "50", "--only", "unary-1,holdfast,bare_rpc", "--json", str(file)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    assert "unary-1" in child.stderr.readline()
    started = processes.family(child.pid)[1:]
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate()
    said = json.loads(file.read_text("utf-8"))
    assert child.returncode == 130
    assert said["interrupted"] is True
    assert 1 <= len(said["samples"]) < 100
    assert "This run was interrupted." in out
    assert started != []
    assert [pid for pid in started if is_alive(pid)] == []


def is_alive(pid: int) -> bool:
    """Whether it runs. One that has ended and was not waited for yet, by whoever adopted it, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.parametrize("call", ["echo", "bulk", "items", "open"])
def test_a_wrong_reply_fails_the_run(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def wrong(plan: Plan, python: str, *told: dict[str, Any]) -> tuple[str, ...]:
        return (sys.executable, "-m", "tests.bench.wrong_peer", *map(json.dumps, told))

    monkeypatch.setattr(rounds, "client_command", wrong)
    record = Record()
    with pytest.raises(WrongReply, match="unary, bare_rpc: (asked for|expected item)"):
        rounds.measure(plan(workload(call)), record)
    assert record.samples == []


def test_a_wrong_reply_is_the_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(plan: Plan, record: Record) -> None:
        raise WrongReply("asked for 1, got 2")

    monkeypatch.setattr(run, "measure", wrong)
    monkeypatch.setattr(run, "allow_descriptors", lambda count: count)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(setup, "certificates", lambda folder: "")
    assert run.main(["--quick", "--json", str(tmp_path / "rounds.json")]) == 1
    assert not (tmp_path / "rounds.json").exists()
    assert "asked for 1, got 2" in capsys.readouterr().err


def test_a_server_of_ours_that_fails_ends_the_run_and_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def failing(plan: Plan, record: Record) -> None:
        record.samples.append(Sample(1, "unary-1", OURS, {"rate": 1.0}))
        raise rounds.ServerFailed("it ended")

    monkeypatch.setattr(run, "measure", failing)
    monkeypatch.setattr(run, "allow_descriptors", lambda count: count)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(setup, "certificates", lambda folder: "")
    assert run.main(["--quick", "--json", str(tmp_path / "rounds.json")]) == 1
    assert len(json.loads((tmp_path / "rounds.json").read_text("utf-8"))["samples"]) == 1


# ------------------------------------------------------------------------------------------------------- what cannot be measured


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"packages": ("no-such-package",)}, "the package no-such-package is not installed"),
        ({"program": "no-such-program"}, "the program no-such-program is neither on PATH nor unpacked in .cache/"),
    ],
)
def test_a_missing_peer_is_reported_and_left_out(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], why: str) -> None:
    absent = Peer(**({"name": "absent", "module": "absent", "packages": ("msgspec",), "note": "", "note_zh": ""} | change))
    monkeypatch.setitem(PEERS, "absent", absent)
    chosen = setup.choose("unary-1,absent", quick=True)
    assert chosen is not None
    assert chosen.missing["absent"] == why
    record = Record(missing=dict(chosen.missing))
    rounds.measure(plan(*chosen.workloads), record)
    assert record.samples == []
    assert "absent" not in setup.about("0", 1, 1.0, "", quick=True, chosen=chosen)["versions"]


def test_a_peer_that_does_not_come_up_is_left_out_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(plan: Plan, servers: rounds.Servers, workload: Workload, sides: tuple[Side, ...]) -> list[dict[str, float | None]]:
        if sides[0].peer != YARDSTICK:
            servers.at(sides[0])
        return [{"rate": 1.0}]

    monkeypatch.setattr(rounds, "sample", sample)
    told: list[str] = []
    record = Record()
    sides = (Side(name="broken", peer="no such peer"), *workloads.all_of([YARDSTICK]))
    rounds.measure(plan(workload(sides=sides), count=2, told=told), record)
    assert cells(record.samples) == [("unary", YARDSTICK)] * 2
    assert list(record.missing) == ["no such peer"]
    assert "without saying where it listens" in record.missing["no such peer"]
    assert [("left out" in line) for line in told] == [True, False, False]


def test_the_yardstick_itself_may_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(*_: Any) -> dict[str, float | None]:
        raise rounds.ClientFailed("exit code 1")

    monkeypatch.setattr(rounds, "sample", sample)
    with pytest.raises(rounds.ClientFailed, match="unary, bare_rpc: exit code 1"):
        rounds.measure(plan(workload()), Record())


def test_a_changed_yardstick_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert yardstick.checked() == yardstick.PINNED
    copy = tmp_path / "bare_rpc"
    shutil.copytree(yardstick.FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(yardstick, "FOLDER", copy)
    assert yardstick.checked() == yardstick.PINNED
    with (copy / "l1_template.py.in").open("a") as file:
        file.write("\n")
    with pytest.raises(SystemExit, match="bench/bare_rpc has changed"):
        run.main(["--quick"])


# ------------------------------------------------------------------------------------------------------------------ the order


def test_every_other_round_goes_the_other_way_and_some_end_early() -> None:
    both = workload(key="a", sides=workloads.BOTH)
    early = workload(key="b", rounds_max=1)
    made = plan(both, early)
    assert order(made, 1) == [("a", YARDSTICK), ("a", OURS), ("b", YARDSTICK)]
    assert order(made, 2) == [("a", OURS), ("a", YARDSTICK)]


def test_sides_that_take_turns_have_one_client() -> None:
    made = plan(workload(key="a", sides=workloads.BOTH, by_turns=True))
    assert order(made, 1) == [("a", YARDSTICK, OURS)]
    assert order(made, 2) == [("a", OURS, YARDSTICK)]


def order(made: Plan, number: int) -> list[tuple[str, ...]]:
    return [(each.key, *(side.name for side in sides)) for each, sides in rounds.cells(made, number)]


def test_an_interrupt_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([1.0, 2.0])

    def sample(*_: Any) -> list[dict[str, float | None]]:
        if (rate := next(rates, None)) is None:
            raise KeyboardInterrupt
        return [{"rate": rate}]

    monkeypatch.setattr(rounds, "sample", sample)
    record = Record()
    rounds.measure(plan(workload(), count=5), record)
    assert ([each.figures["rate"] for each in record.samples], record.interrupted) == ([1.0, 2.0], True)


@pytest.mark.parametrize(
    ("only", "keys", "sides"),
    [
        ("unary-64,holdfast", ["unary-64"], {OURS}),
        ("tls", ["tls"], {OURS, workloads.TLS}),
        ("holdfast TLS", ["tls", "memory", "half-open"], {workloads.TLS}),
    ],
)
def test_only_narrows_workloads_and_sides(only: str, keys: list[str], sides: set[str]) -> None:
    chosen = setup.choose(only, quick=True)
    assert chosen is not None
    assert [each.key for each in chosen.workloads] == keys
    assert {side.name for each in chosen.workloads for side in each.sides} == sides


def test_a_part_of_a_run_is_not_written_into_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--only", "tls", "--write-docs"])
    assert "--write-docs takes a whole run" in capsys.readouterr().err


def test_only_refuses_a_name_it_does_not_know() -> None:
    with pytest.raises(SystemExit, match="--only knows no nonsense; workloads: unary-1"):
        setup.choose("nonsense", quick=True)


# ----------------------------------------------------------------------------------------------------------------- the clients


def window() -> measuring.Window:
    return measuring.Window(SECONDS, [])


@dataclasses.dataclass
class Said:
    """A reply."""

    a: int
    s: str


class Blocking:
    """A link of a library whose calls block, and which may answer wrongly."""

    def __init__(self, *, wrong_at: int = 0) -> None:
        self.claimed = self.calls = self.pumps = 0
        self.wrong_at = wrong_at
        self.waiting: list[Any] = []

    def claim(self) -> None:
        self.claimed += 1

    def echo(self, a: int, s: str) -> Said:
        self.calls += 1
        return Said(a + (self.calls == self.wrong_at), s)

    def begin(self, a: int, s: str, done: Any) -> None:
        self.waiting.append(lambda: done(self.echo(a, s)))

    def pump(self) -> None:
        self.pumps += 1
        self.waiting.pop(0)()


def test_threads_have_a_link_each_and_every_call_is_counted() -> None:
    links = [Blocking(), Blocking()]
    figures = measuring.threads(links, window())
    assert [link.claimed for link in links] == [2, 2], "once for the warm-up, once for what counts"
    assert 0 < (figures["calls"] or 0) < sum(link.calls for link in links)
    assert figures["p50_us"] is not None


def test_a_pipeline_keeps_its_calls_in_flight_and_ends_with_none() -> None:
    link = Blocking()
    figures = measuring.pipeline(link, 8, window())
    assert link.waiting == []
    assert link.calls == link.pumps
    assert (figures["calls"] or 0) > 8


@pytest.mark.parametrize("style", ["threads", "pipeline"])
def test_blocking_clients_compare_their_replies_too(style: str) -> None:
    link = Blocking(wrong_at=30)
    with pytest.raises(WrongReply, match="asked for"):
        measuring.threads([link], window()) if style == "threads" else measuring.pipeline(link, 4, window())


async def test_arguments_differ_from_call_to_call() -> None:
    asked: list[tuple[int, str]] = []

    async def echo(a: int, s: str) -> Said:
        asked.append((a, s))
        await measuring.asyncio.sleep(0)
        return Said(a, s)

    began = window()
    work = measuring.echoes(echo, 3, began)
    began.open(SECONDS)
    await work()
    assert len(set(asked)) == len(asked) > 3
    assert all(len(text) == 64 for _, text in asked)


async def test_sides_take_turns_within_a_window_and_each_has_its_own_figures() -> None:
    asked: list[str] = []

    def side(name: str, seconds: float) -> tuple[measuring.Window, measuring.Work]:
        async def echo(a: int, s: str) -> Said:
            if asked[-1:] != [name]:
                asked.append(name)
            await measuring.asyncio.sleep(0)
            return Said(a, s)

        made = measuring.Window(seconds, [])
        return made, measuring.echoes(echo, 2, made)

    seconds = 4 * measuring.SLICE_S
    first, second = await measuring.by_turns([side("a", seconds), side("b", seconds)], 2)
    assert "".join(asked) == "ab" + "ababa", "the warm-up of each, then ab, ba, ab, ba: of two slices in a row the second is not seen"
    for figures in (first, second):
        assert (figures["seconds"] or 0) >= seconds
        assert (figures["calls"] or 0) > 4
        assert figures["rate"] == pytest.approx((figures["calls"] or 0) / (figures["seconds"] or 1))


# ------------------------------------------------------------------------------------------------------------------- the house


def test_every_peer_has_its_file_and_every_file_its_row() -> None:
    helpers = {"__init__", "common"}
    files = {path.stem for path in (ROOT / "bench" / "peers").glob("*.py")} - helpers
    assert {peer.module.rpartition(".")[2] for peer in PEERS.values()} == files
    assert {peer.style for peer in PEERS.values()} == {"tasks", "threads", "pipeline"}
    assert [name for name, peer in PEERS.items() if peer.beside] == ["picows"]


def test_every_package_of_a_peer_is_pinned() -> None:
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "requirements" / "bench.txt").read_text("utf-8").splitlines()}
    needed = {package.lower() for peer in PEERS.values() for package in peer.packages if package != OURS}
    assert needed - pinned == set()


def test_what_both_environments_have_is_the_same_version() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / "requirements" / name).read_text("utf-8").splitlines()
        words = [line.partition(";")[0].strip().lower().partition("==") for line in lines if "==" in line and not line.startswith("#")]
        return {package.partition("[")[0]: version for package, _, version in words}

    bench, dev = pins("bench.txt"), pins("dev.txt")
    shared = set(bench) & set(dev)
    assert {"msgspec", "uvloop"} <= shared
    assert {name: bench[name] for name in shared} == {name: dev[name] for name in shared}


def test_the_library_knows_nothing_of_the_benchmark() -> None:
    words = ("bare_rpc", "echo_service", "echo_api", peers.__name__)
    found = [path.name for path in (ROOT / "src").rglob("*.py") if any(word in path.read_text("utf-8") for word in words)]
    assert found == []
