"""All programs. Importing this is what fills the list: each family registers its own when its file is imported."""

from tests.sim.parity.programs import cancel, closing, names, protocols, sockets, streams, sync, taskgroups, timeouts, tls, udp
from tests.sim.parity.stage import PROGRAMS

FILES = (cancel, closing, names, protocols, sockets, streams, sync, taskgroups, timeouts, tls, udp)

__all__ = ["FILES", "PROGRAMS"]
