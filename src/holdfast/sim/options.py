"""What a world is like: the sizes, speeds and odds of a simulated system.

Owns: `WorldOptions`, and why each default is what it is. What may never happen here: a value that makes virtual time stand still.
"""

from __future__ import annotations

import msgspec

from ..errors import ConfigError


class WorldOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The physics of a world. All times in virtual seconds.

    Attributes:
        callback_s: what a callback costs its process, on average; each draws between a third and three times of it. Never 0: a loop of
            `sleep(0)` would hold time for ever.
        stall_chance, stall_max_s: how often a callback takes longer, and by how much at most.
        wakeup_s: how long a process that sleeps needs at most to notice that something came.
        timer_slack_s: how late a timer may be: epoll counts in milliseconds, so a real loop is up to one late as well.
        latency_s, jitter_s: of a link that says nothing else; a packet takes between latency and latency plus jitter.
        loopback_s: the same within a host, at most.
        slice_chance: how often a segment is cut at a random place.
        receive_buffer_bytes, send_buffer_bytes: of a socket that asks for nothing else.
        backlog_max: what a listener can ask for at most (somaxconn).
        descriptors: how many each process may have open, unless its host says otherwise.
        memory_bytes: what a host may hold in socket buffers and in its transports' write buffers; then its largest process is killed.
        executor_workers: threads of a loop's default executor; 8 is what Python makes of four cores.
        executor_s: how long at most before a thread begins with a job.
        resolve_s: how long a name takes to look up, at most.
        connect_timeout_s: when a connect that nobody answers gives up: six retries of Linux.
        retransmit_timeout_s: when a connection that gets no answer gives up: fifteen retries of Linux.
        reset_discards_unread: whether a reset takes away what had come before it; Linux keeps that.
        epoch_s: the time of day when the world begins, in seconds since 1970.
        virtual_max_s: how long the world may last. steps_max: how many callbacks it may run.
        collect_every: callbacks between two runs of the garbage collector, which is off otherwise.
        events_max: how many events of the trace are kept, the newest; None for all.
        per_process: module globals (dicts, lists, sets) that every process has for itself, as `module:NAME`; see `globals.py`.
            Anything else in a module is shared by all hosts, and by all worlds.
    """

    callback_s: float = 30e-6
    stall_chance: float = 0.0
    stall_max_s: float = 0.0
    wakeup_s: float = 20e-6
    timer_slack_s: float = 1e-3
    latency_s: float = 0.3e-3
    jitter_s: float = 3.7e-3
    loopback_s: float = 40e-6
    slice_chance: float = 0.1
    receive_buffer_bytes: int = 128 * 1024
    send_buffer_bytes: int = 128 * 1024
    backlog_max: int = 4096
    descriptors: int = 1024
    memory_bytes: int = 1024 * 1024 * 1024
    executor_workers: int = 8
    executor_s: float = 1e-3
    resolve_s: float = 2e-3
    connect_timeout_s: float = 127.0
    retransmit_timeout_s: float = 924.6
    reset_discards_unread: bool = False
    epoch_s: float = 1_700_000_000.0
    virtual_max_s: float = 7 * 86_400.0
    steps_max: int = 50_000_000
    collect_every: int = 20_000
    events_max: int | None = None
    per_process: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.callback_s > 0:
            raise ConfigError(f"callback_s={self.callback_s}: expected more than 0, or a busy loop would hold virtual time for ever")
        for name in ("stall_chance", "slice_chance"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)}: expected a chance between 0 and 1")
        for name in ("receive_buffer_bytes", "send_buffer_bytes", "backlog_max", "descriptors", "executor_workers", "collect_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: expected at least 1")
        for name in ("stall_max_s", "wakeup_s", "timer_slack_s", "latency_s", "jitter_s", "loopback_s", "executor_s", "resolve_s"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)}: expected 0 or more seconds")
