"""Python services that stay up: typed RPC with deadlines, cancellation, streams and back-pressure, visible all the way down.

The names a service author types in the first hour. Everything else is a module away: `holdfast.errors`, `holdfast.facts`,
`holdfast.testing`.
"""

import sys as _sys

if _sys.platform == "win32":
    raise ImportError("holdfast does not run on Windows; use Linux, macOS or WSL")

from . import testing
from .client import Client, connect
from .config import ClientConfig, ServerConfig
from .context import Context, detached
from .dialing import dial
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
from .net.trust import TlsConfig
from .program import run
from .rpc.streams import Stream
from .server import Server, serve
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
    "TlsConfig",
    "Unauthenticated",
    "Unavailable",
    "connect",
    "detached",
    "dial",
    "run",
    "serve",
    "testing",
)
