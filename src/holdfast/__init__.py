"""Python services that stay up: typed RPC with deadlines, cancellation, streams and back-pressure, visible all the way down.

The names a service author types in the first hour. Everything else is a module away: `holdfast.errors`, `holdfast.facts`,
`holdfast.testing`.
"""

import sys as _sys

if _sys.platform == "win32":
    raise ImportError("holdfast does not run on Windows; use Linux, macOS or WSL")

from . import testing
from .client import Client, ClientConfig, connect
from .context import Context, detached
from .errors import (
    BadReply,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    HoldfastError,
    InternalError,
    InvalidArgument,
    MethodNotFound,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    Refused,
    Unauthenticated,
    Unavailable,
)
from .program import run
from .rpc.streams import Stream
from .server import Server, ServerConfig, serve
from .service import Service

__all__ = (
    "BadReply",
    "Cancelled",
    "Client",
    "ClientConfig",
    "ConfigError",
    "Context",
    "DeadlineExceeded",
    "HoldfastError",
    "InternalError",
    "InvalidArgument",
    "MethodNotFound",
    "NotFound",
    "OutcomeUnknown",
    "Overloaded",
    "PermissionDenied",
    "ProtocolError",
    "Refused",
    "Server",
    "ServerConfig",
    "Service",
    "Stream",
    "Unauthenticated",
    "Unavailable",
    "connect",
    "detached",
    "run",
    "serve",
    "testing",
)
