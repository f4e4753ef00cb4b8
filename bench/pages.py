"""The generated part of the two pages about performance: tables between markers, and plots beside.

Owns what stands between the markers, and the figures' files. What may never happen here: a change outside the markers.
"""

from __future__ import annotations

import pathlib

from bench import figures, tables
from bench.lines import PROMISES, Line, Promise
from bench.peers import OURS, PEERS, YARDSTICK
from bench.plots import Bar, bars
from bench.processes import ROOT
from bench.report import Results
from bench.tables import Language

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
PAGE = "docs/{language}/explanation/performance.md"
FIGURES = "docs/en/explanation/figures"
UP = {"en": "figures", "zh": "../../en/explanation/figures"}
PLOTTED = (64, 512)
WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "run": (
            "Measured {began} on {machine}, Python {python}: {rounds} rounds of {seconds:g} s. "
            "Yardstick: bare_rpc, SHA-256 `{yardstick_sha256}`."
        ),
        "how": "How each side is used",
        "side": "side",
        "version": "version",
        "use": "use",
        "calls": "Calls per second, {in_flight} in flight",
        "ratios": "The promised ratios, and where each should be",
        "quick": "This was a `--quick` run: the figures mean little.",
    },
    "zh": {
        "run": "{began} 测于 {machine}，Python {python}：{rounds} 轮，每次 {seconds:g} 秒。标尺：bare_rpc，SHA-256 `{yardstick_sha256}`。",
        "how": "每个对象的用法",
        "side": "对象",
        "version": "版本",
        "use": "用法",
        "calls": "每秒调用数，{in_flight} 个并发",
        "ratios": "承诺的比值，以及各自的门槛",
        "quick": "这是一次 `--quick` 运行：数字没有多少意义。",
    },
}


def write(results: Results, lines: list[Line], root: pathlib.Path = ROOT) -> None:
    """Write both pages and the plots. Raises: SystemExit when a page has no markers."""
    folder = root / FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    drawn = plots(results)
    for name, svg in drawn.items():
        (folder / name).write_text(svg, "utf-8")
    languages: tuple[Language, Language] = ("en", "zh")
    for language in languages:
        page = root / PAGE.format(language=language)
        page.write_text(between_markers(page.read_text("utf-8"), generated(results, lines, language, list(drawn)), page.name), "utf-8")


def between_markers(text: str, new: str, name: str) -> str:
    """Return the page with its generated part replaced. Raises: SystemExit."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise SystemExit(f"{name} must have one {BEGIN} and, after it, one {END}; the tables go between them")
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n\n{new}\n{END}{rest.partition(END)[2]}"


def generated(results: Results, lines: list[Line], language: Language, drawn: list[str]) -> str:
    """Return everything that stands between the markers."""
    words = WORDS[language]
    parts = [words["run"].format(**results.about) + "\n"]
    if results.about["quick"]:
        parts.append(words["quick"] + "\n")
    parts.append(tables.of_lines(lines, language).markdown())
    parts += [f"{note}\n" for note in tables.notes(results.samples, results.missing, language)]
    parts += [f"![{title_of(name, language)}]({UP[language]}/{name})\n" for name in drawn]
    for workload in results.workloads():
        if (table := tables.of_workload(workload, results.samples, language)) is not None:
            parts.append(table.markdown())
    parts.append(used(results, language).markdown())
    return "\n".join(parts)


def used(results: Results, language: Language) -> tables.Table:
    """Return the table of who was measured, and how each is used."""
    words = WORDS[language]
    measured = {each.side for each in results.samples}
    versions = results.about["versions"]
    rows = [
        [peer.name, versions.get(name, "–"), peer.note if language == "en" else peer.note_zh]
        for name, peer in PEERS.items()
        if name in measured
    ]
    return tables.Table(words["how"], [words["side"], words["version"], words["use"]], rows, 3)


def title_of(name: str, language: Language) -> str:
    """Return what a plot shows, in the page's language; its own title is English."""
    in_flight = name.removesuffix(".svg").rpartition("-")[2]
    words = WORDS[language]
    return words["calls"].format(in_flight=in_flight) if in_flight.isdigit() else words["ratios"]


def plots(results: Results) -> dict[str, str]:
    """Return the plots, by the names of their files: throughput of everybody, and the promised ratios."""
    drawn = {f"throughput-{in_flight}.svg": throughput(results, in_flight) for in_flight in PLOTTED}
    return {name: svg for name, svg in (drawn | {"ratios.svg": ratios(results)}).items() if svg}


def throughput(results: Results, in_flight: int) -> str:
    """Return bars of calls per second, the fastest first; nothing when nothing was measured."""
    rates = {
        name: rate
        for name in PEERS
        if (rate := figures.median(figures.of(results.samples, f"unary-{in_flight}", name), "rate")) is not None
    }
    kinds = {OURS: "ours", YARDSTICK: "yardstick"}
    rows = [
        Bar(name + (" (no RPC)" if PEERS[name].beside else ""), rate, f"{rate:,.0f}", kinds.get(name, "plain"))
        for name, rate in sorted(rates.items(), key=lambda pair: -pair[1])
    ]
    subtitle = f"unary echo of a number and 64 bytes, one server core, one client core, Python {results.about['python']}"
    return bars(WORDS["en"]["calls"].format(in_flight=in_flight), subtitle, rows) if rows else ""


def ratios(results: Results) -> str:
    """Return bars of the promised ratios to bare_rpc and to our own plain rate, each with a mark at its threshold."""
    rows = [bar for promise in PROMISES if promise.base in (YARDSTICK, OURS) and (bar := _bar(results, promise)) is not None]
    return bars(WORDS["en"]["ratios"], "the mark is the threshold; p50 should be below it, all else above", rows) if rows else ""


def _bar(results: Results, promise: Promise) -> Bar | None:
    mine, base = (figures.of(results.samples, promise.workload, side) for side in (promise.side, promise.base))
    ratio = figures.ratio(mine, base, promise.metric)
    if ratio is None:
        return None
    return Bar(
        SHORT[promise.workload], ratio.median, f"{ratio.median:.2f} ({promise.sign} {promise.threshold:g})", "ours", promise.threshold
    )


SHORT = {
    "unary-64": "unary, 64 in flight",
    "unary-512": "unary, 512 in flight",
    "suspend": "a handler that suspends once",
    "one-core": "p50 on one core, one in flight",
    "bulk": "64 KiB bodies",
    "stream": "one server stream",
    "tls": "TLS, to our own plain rate",
}
"""What fits beside a bar."""
