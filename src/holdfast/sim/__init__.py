"""A world without time: programs of several hosts, their network and everything that goes wrong in it, in one thread and from one seed.

What comes in: an `async def scenario(world)`, a seed, and maybe a plan of faults. What goes out: a `WorldRun`: what failed, the digest of
everything that happened, and the faults, with which it can be repeated. What never happens here: a real socket, a real second, or a number
that is not from the seed; and production imports none of it. There is no disk: files are the real ones. Read `world.py` first.
"""

from .cancelling import Cut, cancel_everywhere
from .climate import Climate
from .corpus import Corpus
from .divergence import Divergence, first_divergence
from .doors import sim_test
from .escapes import Deadlock, Escape, Killed, Overrun, SimulationError
from .explore import Found, Interrupted, Report, explore
from .faults import Fault, FaultPlan
from .history import History, InvariantBroken, Operation, Verdict, exactly_once, sessions
from .linear import Counter, Members, Model, Register, TooWide, linearizable
from .machine import Host
from .models import LoadModel, OverloadReport, Trigger, judge_overload
from .options import WorldOptions
from .process import Process
from .scenario import Case, Failure, NotConverged, Outcome, Scenario, operations
from .shrink import Shrunk, shrink
from .world import World, WorldRun, run_world

__all__ = (
    "Case",
    "Climate",
    "Corpus",
    "Counter",
    "Cut",
    "Deadlock",
    "Divergence",
    "Escape",
    "Failure",
    "Fault",
    "FaultPlan",
    "Found",
    "History",
    "Host",
    "Interrupted",
    "InvariantBroken",
    "Killed",
    "LoadModel",
    "Members",
    "Model",
    "NotConverged",
    "Operation",
    "Outcome",
    "OverloadReport",
    "Overrun",
    "Process",
    "Register",
    "Report",
    "Scenario",
    "Shrunk",
    "SimulationError",
    "TooWide",
    "Trigger",
    "Verdict",
    "World",
    "WorldOptions",
    "WorldRun",
    "cancel_everywhere",
    "exactly_once",
    "explore",
    "first_divergence",
    "judge_overload",
    "linearizable",
    "operations",
    "run_world",
    "sessions",
    "shrink",
    "sim_test",
)
