"""What is run of CPython's own tests, what cannot pass in a simulation and why, and how many there are.

Owns the exceptions. Each names a test method, in whichever class it stands, with the words its failure must contain: a test that passes
in spite of its entry, or fails with other words, fails ours.
What may never happen here: an entry because the simulation is wrong. Such a bug is mended.
"""

from __future__ import annotations

from dataclasses import dataclass

Version = tuple[int, int]

MODULES: dict[str, Version] = {
    "test_streams": (3, 11),
    "test_tasks": (3, 11),
    "test_timeouts": (3, 11),
    "test_taskgroups": (3, 11),
    "test_locks": (3, 11),
    "test_queues": (3, 11),
    "test_waitfor": (3, 11),
    "test_futures2": (3, 11),
    "test_buffered_proto": (3, 11),
    "test_sock_lowlevel": (3, 11),
    "test_server": (3, 11),
    "test_eager_task_factory": (3, 12),
    "test_staggered": (3, 13),
}
"""The modules of `test.test_asyncio`, and the first Python that has each."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An exception: why the test cannot pass, words of its failure, and the first Python that has it."""

    reason: str
    words: str
    since: Version = (3, 11)


THREAD = Listed("it starts a thread of its own", "threads are outside the simulation")
ANOTHER = Listed("it waits in a thread for a loop in another", "there is none; use asyncio's own locks")
UNIX = Listed("it uses Unix sockets, which need a file system", "sockets are outside the simulation")
UNIX_SERVER = Listed("it uses Unix sockets, which need a file system", "Unix sockets need a file system")
UNIX_SINCE_3_13 = Listed(UNIX.reason, UNIX.words, (3, 13))
UNIX_SERVER_SINCE_3_13 = Listed(UNIX.reason, UNIX_SERVER.words, (3, 13))
BLOCKING = Listed("it makes a blocking call of a socket inside the loop", "a blocking socket call would stop")
SUBPROCESS = Listed("it starts an interpreter", "subprocesses are outside the simulation")

LISTED: dict[str, dict[str, Listed]] = {
    "test_streams": {
        "test_drain_raises": THREAD,
        "test_open_unix_connection": UNIX,
        "test_open_unix_connection_error": UNIX,
        "test_open_unix_connection_no_loop_ssl": UNIX,
        "test_start_unix_server": UNIX_SERVER,
        "test_read_all_from_pipe_reader": Listed("it reads from a pipe of the system", "pipes are outside the simulation"),
        "test_unclosed_server_resource_warnings": Listed(BLOCKING.reason, BLOCKING.words, (3, 13)),
    },
    "test_tasks": {
        "test_stop_while_run_in_complete": Listed(
            "TestLoop's clock moves when a timer is set; virtual time moves when a timer is due, so the last sleep is not slept",
            "0.3 != 0.2",
        ),
        "test_env_var_debug": SUBPROCESS,
        "test_run_coroutine_threadsafe": ANOTHER,
        "test_run_coroutine_threadsafe_task_cancelled": ANOTHER,
        "test_run_coroutine_threadsafe_task_factory_exception": ANOTHER,
        "test_run_coroutine_threadsafe_with_exception": ANOTHER,
    },
    "test_eager_task_factory": {
        "test_issue105987": Listed(SUBPROCESS.reason, SUBPROCESS.words, (3, 12)),
    },
    "test_sock_lowlevel": {
        "test_recvfrom": THREAD,
        "test_recvfrom_into": THREAD,
        "test_sendto_blocking": THREAD,
        "test_sock_accept": BLOCKING,
        "test_unix_sock_client_ops": UNIX,
    },
    "test_server": {
        "test_start_server_1": THREAD,
        "test_start_unix_server_1": UNIX_SERVER,
        "test_unix_server_addr_cleanup": UNIX_SERVER_SINCE_3_13,
        "test_unix_server_cleanup_gone": UNIX_SINCE_3_13,
        "test_unix_server_cleanup_prevented": UNIX_SERVER_SINCE_3_13,
        "test_unix_server_cleanup_replaced": UNIX_SERVER_SINCE_3_13,
        "test_unix_server_sock_cleanup": UNIX_SINCE_3_13,
    },
}

SKIPPED: dict[str, str] = {
    "test_refleaks_in_task___init__": "has no attribute 'gettotalrefcount'",
    "test_sock_client_connect_racing": "already connected",
    "BufferedProtocolProactorTests": "Windows only",
    "ProactorStartServerTests": "Windows only",
}
"""What CPython's tests skip by themselves, by method or class, and their reason."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many tests of a module pass, are listed, and are skipped by themselves."""

    passed: int
    listed: int = 0
    skipped: int = 0


COUNTS: dict[tuple[int, int, int], dict[str, Count]] = {
    (3, 11, 7): {
        "test_streams": Count(61, 6),
        "test_tasks": Count(898, 14, 1),
        "test_timeouts": Count(32),
        "test_taskgroups": Count(35),
        "test_locks": Count(70),
        "test_queues": Count(44),
        "test_waitfor": Count(15),
        "test_futures2": Count(3),
        "test_buffered_proto": Count(1, 0, 1),
        "test_sock_lowlevel": Count(21, 15, 3),
        "test_server": Count(0, 2, 1),
    },
    (3, 12, 1): {
        "test_streams": Count(61, 6),
        "test_tasks": Count(930, 14, 1),
        "test_timeouts": Count(32),
        "test_taskgroups": Count(35),
        "test_locks": Count(70),
        "test_queues": Count(44),
        "test_waitfor": Count(19),
        "test_futures2": Count(7),
        "test_buffered_proto": Count(1, 0, 1),
        "test_sock_lowlevel": Count(21, 15, 3),
        "test_server": Count(2, 2, 1),
        "test_eager_task_factory": Count(38, 1),
    },
    (3, 13, 0): {
        "test_streams": Count(66, 7),
        "test_tasks": Count(962, 14, 1),
        "test_timeouts": Count(34),
        "test_taskgroups": Count(39),
        "test_locks": Count(75),
        "test_queues": Count(59),
        "test_waitfor": Count(19),
        "test_futures2": Count(7),
        "test_buffered_proto": Count(1, 0, 1),
        "test_sock_lowlevel": Count(21, 15, 3),
        "test_server": Count(4, 7, 1),
        "test_eager_task_factory": Count(39, 1),
        "test_staggered": Count(5),
    },
}
"""Exact for these Pythons. A later patch release of one has at least as many that pass."""
