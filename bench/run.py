"""The benchmark: holdfast beside bare_rpc and beside what users would pick, in one run.

    python bench/run.py [--rounds 5] [--seconds 1.5] [--only unary-64,holdfast,bare_rpc] [--quick] [--json FILE] [--strict]

Server on core 0, client on core 1; rounds alternate between the sides, so that a slow minute hits all alike; medians are quoted, and ratios
to `bare_rpc/`, the least multiplexed RPC that can be written, each taken within a round. Every reply is compared with what was asked.
The service measured is an ordinary one, served by `holdfast serve` with its printed defaults and called through the public Client.
Ctrl-C keeps what was measured. See docs/en/explanation/performance.md for what the figures do not show.
"""

from __future__ import annotations

import argparse
import pathlib
import signal
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from bench import report, setup, yardstick
from bench.processes import ClientFailed, ServerFailed, WrongReply, allow_descriptors, one_round, rss_kib, running, start
from bench.rounds import Plan, Record, measure

__all__ = ["main", "one_round", "rss_kib", "running", "start"]  # hostile.py uses the children too

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
DESCRIPTORS = 16_384


def parse(words: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, help="how many [5; with --quick 1]")
    parser.add_argument("--seconds", type=float, help="of each sample, after a third as much warm-up [1.5; with --quick 0.3]")
    parser.add_argument("--only", default="", metavar="NAMES", help="workloads and sides, separated by commas; `--only list` names them")
    parser.add_argument("--quick", action="store_true", help="see that everything works: the figures mean little")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="for the raw rounds [of a whole run: bench/results/latest.json]")
    parser.add_argument("--read", type=pathlib.Path, metavar="FILE", help="measure nothing: print what these raw rounds say")
    parser.add_argument("--write-docs", action="store_true", help="write tables and plots into docs/")
    parser.add_argument("--strict", action="store_true", help="exit code 1 when a promised line is not met")
    arguments = parser.parse_args(words)
    if arguments.write_docs and arguments.only:
        parser.error("--write-docs takes a whole run: leave out --only")
    return arguments


def main(words: list[str] | None = None) -> int:
    """Measure, print, and write the raw rounds. Return the exit code."""
    arguments = parse(words)
    if arguments.read:
        return report.shown(report.load(arguments.read), write_docs=arguments.write_docs, strict=arguments.strict)
    chosen = setup.choose(arguments.only, quick=arguments.quick)
    if chosen is None:
        return 0
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    seconds = arguments.seconds or (0.3 if arguments.quick else 1.5)
    about = setup.about(yardstick.checked(), rounds, seconds, arguments.only, quick=arguments.quick, chosen=chosen)
    print(report.heading(about), flush=True)
    allow_descriptors(DESCRIPTORS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no child may outlive us, however we are told to go
    record = Record(missing=dict(chosen.missing))
    stopped = 130
    with tempfile.TemporaryDirectory() as folder:
        certificate = setup.certificates(pathlib.Path(folder))
        plan = Plan(
            workloads=chosen.workloads,
            rounds=rounds,
            seconds=seconds,
            pythons=chosen.pythons,
            certificate=certificate,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
        )
        try:
            measure(plan, record)
        except WrongReply as error:
            print(f"bench: {error}; a run with a wrong reply has no figures", file=sys.stderr)
            return 1
        except (ClientFailed, ServerFailed) as error:
            print(f"bench: {error}; without holdfast and the yardstick there is nothing to compare", file=sys.stderr)
            record.interrupted, stopped = True, 1
    whole = not arguments.only and not arguments.quick and not record.interrupted
    results = report.Results(about, record.samples, record.missing, record.interrupted)
    report.save(results, arguments.json or RESULTS / ("latest.json" if whole else "part.json"))
    write_docs = arguments.write_docs and not record.interrupted
    code = report.shown(results, write_docs=write_docs, strict=arguments.strict)
    return stopped if record.interrupted else code


if __name__ == "__main__":
    sys.exit(main())
