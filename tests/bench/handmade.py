"""Rounds made by hand: every figure that a promised line needs, so that each can be moved over its threshold alone."""

from __future__ import annotations

from typing import Any

from bench.figures import Sample
from bench.peers import OURS, PEERS, YARDSTICK
from bench.report import Results
from bench.workloads import TLS

GOOD: dict[tuple[str, str], dict[str, float | None]] = {
    ("unary-64", YARDSTICK): {"rate": 200_000.0},
    ("unary-64", OURS): {"rate": 140_000.0},
    ("unary-512", YARDSTICK): {"rate": 300_000.0},
    ("unary-512", OURS): {"rate": 180_000.0},
    ("suspend", YARDSTICK): {"rate": 200_000.0},
    ("suspend", OURS): {"rate": 80_000.0},
    ("one-core", YARDSTICK): {"p50_us": 14.0, "rate": 66_000.0},
    ("one-core", OURS): {"p50_us": 20.0, "rate": 48_000.0},
    ("bulk", YARDSTICK): {"rate": 13_000.0},
    ("bulk", OURS): {"rate": 18_000.0},
    ("stream", YARDSTICK): {"rate": 1_700_000.0},
    ("stream", OURS): {"rate": 1_000_000.0},
    ("tls", OURS): {"rate": 140_000.0},
    ("tls", TLS): {"rate": 135_000.0},
    ("memory", OURS): {"kib": 4.0},
    ("memory", TLS): {"kib": 20.0},
    ("open", OURS): {"seconds": 3.0, "calls": 5_000.0},
    ("python-holdfast", "holdfast 3.11"): {"rate": 140_000.0},
    ("python-holdfast", "holdfast 3.12"): {"rate": 150_000.0},
    ("python-holdfast", "holdfast 3.13"): {"rate": 120_000.0},
    **{
        (f"unary-{in_flight}", peer.name): {"rate": 5_000.0 if peer.name == "grpc.aio" else 60_000.0}
        for peer in PEERS.values()
        if peer.name not in (OURS, YARDSTICK)
        for in_flight in (64, 512)
    },
}

Change = tuple[tuple[str, str], dict[str, float | None]]


def rounds(*changes: Change, count: int = 5, without: tuple[str, ...] = ()) -> list[Sample]:
    """So many rounds of GOOD, with some cells changed, and without some sides. All quiet."""
    cells = GOOD | dict(changes)
    return [
        Sample(number, workload, side, {"foreign_cores": 0.01, **figures})
        for number in range(1, count + 1)
        for (workload, side), figures in cells.items()
        if side not in without
    ]


def results(samples: list[Sample], **about: Any) -> Results:
    """A run that found these."""
    said = {
        "began": "2026-01-02 03:04 UTC",
        "yardstick_sha256": "0" * 64,
        "python": "3.11.7",
        "machine": "Linux <6 & more>",
        "load_before": 0.1,
        "rounds": 5,
        "seconds": 1.5,
        "only": "",
        "quick": False,
        "versions": dict.fromkeys(PEERS, "1.0"),
    }
    return Results(said | about, samples, {"nats": "the program nats-server is not there"}, False)
