"""`socket.socket`, as programs in a world see it.

Owns: the class that stands in for `socket.socket` during a run (`patches.py` puts it there): same methods, same errors, same errno; options
read back as Linux gives them. All above it is not simulated: asyncio's transports and `net/sockets.py` call this as they call the kernel.

What may never happen here: a call that waits. A socket that is set to block raises Escape where it would have to.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

from .cpu import Cpu
from .escapes import Escape
from .here import engine_here, here
from .kernel import ANY, Kernel, failure, family_of
from .listening import Listener
from .names import literal
from .tcp import Connection
from .udp import Datagrams

RealSocket = socket.socket
_DESCRIPTORS_FROM = 1 << 20
"""Above every real descriptor, so that neither is taken for the other."""
_SACKED_AT = 28  # where tcp_info of a listener says how long its backlog may be
_DROPS = struct.Struct("9I")
_LINGER = struct.Struct("ii")
SO_MEMINFO = 55


class Fresh:
    """A stream socket that is neither connected nor listening yet."""

    def __init__(self, kernel: Kernel, cpu: Cpu, fd: int) -> None:
        self.kernel, self.cpu, self.fd = kernel, cpu, fd
        self.boot = kernel.boots
        self.reuse_port = self.v6_only = False
        self.local: tuple[str, int] | None = None

    def mask(self) -> int:
        """Nothing to wait for."""
        return 0

    def close(self) -> None:
        """The port, if it had one, is free."""
        self.cpu.files.pop(self.fd, None)
        if self.local is not None and self.boot == self.kernel.boots and self.kernel.on:
            self.kernel.unbind("tcp", self.local[1], self)


class Spare:
    """A descriptor of /dev/null: good for nothing but to take a place."""

    def __init__(self, cpu: Cpu, fd: int) -> None:
        self.cpu, self.fd = cpu, fd

    def mask(self) -> int:
        """Never asked."""
        return 0

    def close(self) -> None:
        """The place is free."""
        self.cpu.files.pop(self.fd, None)


def new_descriptor(cpu: Any) -> int:
    """A number for something that is open. Raises: OSError (EMFILE) when the process has as many as it may."""
    if not cpu.alive:
        raise failure(errno.EBADF)
    if len(cpu.files) >= cpu.descriptors:
        cpu.engine.record("no descriptor", cpu.host, len(cpu.files))
        raise failure(errno.EMFILE)
    return _DESCRIPTORS_FROM + int(cpu.engine.number())


class SimSocket(RealSocket):
    """A socket of a simulated process.

    It is an instance of `socket.socket`, so that whoever asks is content, but the C half of it is never initialised: what has no
    counterpart here finds a closed socket, and not somebody else's descriptor.
    """

    _cpu: Any = None
    _file: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Another thread of the program (a test runner's) gets a real one."""
        if engine_here() is None:
            return RealSocket(*args, **kwargs)
        made = super().__new__(cls)
        made._closed, made._io_refs = False, 0  # type: ignore[attr-defined] # what the Python half of the real one keeps
        return made

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        self._family = socket.AF_INET if family == -1 else socket.AddressFamily(family)
        self._type = socket.SOCK_STREAM if type == -1 else socket.SocketKind(type & 0xF)
        self._proto = 0 if proto == -1 else proto
        self._timeout: float | None = None
        self._options: dict[tuple[int, int], Any] = {}
        self._fd = -1
        self._bound_to: tuple[str, int] | None = None
        if fileno is not None:
            raise Escape("socket.socket(fileno=…): descriptors of the real system are outside the simulation; make a new socket")
        if self._family not in (socket.AF_INET, socket.AF_INET6):
            raise Escape(f"{self._family!r} sockets are outside the simulation; use TCP or UDP, on 127.0.0.1 within a host")
        if self._type not in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            raise Escape(f"{self._type!r} sockets are outside the simulation; use SOCK_STREAM or SOCK_DGRAM")
        cpu = self._cpu = here()
        self._fd = fd = new_descriptor(cpu)
        make = Datagrams if self._type == socket.SOCK_DGRAM else Fresh
        self._file = cpu.files[fd] = make(cpu.kernel, cpu, fd)

    # ----------------------------------------------------------------------------------------------------------- what it is like

    family = property(lambda self: self._family)
    type = property(lambda self: self._type)
    proto = property(lambda self: self._proto)
    timeout = property(lambda self: self._timeout)

    def fileno(self) -> int:
        return self._fd

    def setblocking(self, flag: bool) -> None:
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        return self._timeout != 0.0

    def settimeout(self, value: float | None) -> None:
        self._timeout = value

    def gettimeout(self) -> float | None:
        return self._timeout

    def _open(self, *kinds: Any) -> Any:
        file = self._file
        if self._fd < 0 or file is None:
            raise failure(errno.EBADF)
        if kinds and not isinstance(file, kinds):
            raise failure(errno.ENOTCONN if isinstance(file, Fresh) else errno.EINVAL)
        return file

    def _would_block(self, error: OSError) -> OSError:
        if isinstance(error, BlockingIOError) and self._timeout != 0.0:
            return Escape(  # type: ignore[return-value] # raised in place of it
                "a blocking socket call would stop the simulated world; use asyncio, or setblocking(False) and the loop's sock_ methods"
            )
        return error

    def _name(self, address: tuple[str, int] | None) -> Any:
        """An address as this family shows it."""
        if self._family == socket.AF_INET:
            return address or ("0.0.0.0", 0)  # noqa: S104 # what getsockname says of an unbound socket
        ip, port = address or ("::", 0)
        return (ip if ":" in ip else f"::ffff:{ip}", port, 0, 0)

    def _address(self, address: Any) -> tuple[str, int]:
        """What bind, connect and sendto are given, as address and port. Raises: OSError, TypeError."""
        if not isinstance(address, tuple) or len(address) < 2:
            raise TypeError(f"expected a tuple of host and port, got {address!r}")
        host, port = address[0] or ANY[self._family == socket.AF_INET6], int(address[1])
        if not 0 <= port <= 65_535:
            raise OverflowError("port must be 0-65535.")
        ip = literal(host.partition("%")[0])
        if ip is None:
            ip = self._cpu.resolve(host, self._family)
        if ip.startswith("::ffff:") and "." in ip:
            return ip[7:], port
        if (family_of(ip) == 6) != (self._family == socket.AF_INET6):
            raise failure(errno.EAFNOSUPPORT)
        return ip, port

    # -------------------------------------------------------------------------------------------------------------------- names

    def getsockname(self) -> Any:
        return self._name(self._open().local)

    def getpeername(self) -> Any:
        remote = getattr(self._open(), "remote", None)
        if remote is None or getattr(self._file, "connecting", False) or getattr(self._file, "_reset", False):
            raise failure(errno.ENOTCONN)
        return self._name(remote)

    def bind(self, address: Any) -> None:
        file = self._open(Fresh, Datagrams)
        if file.local is not None:
            raise failure(errno.EINVAL)
        ip, port = self._address(address)
        file.reuse_port = bool(self._options.get((socket.SOL_SOCKET, socket.SO_REUSEPORT)))
        file.v6_only = bool(self._options.get((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)))
        kind = "udp" if isinstance(file, Datagrams) else "tcp"
        file.local = (ip, file.kernel.bind(kind, ip, port, file))

    def listen(self, backlog: int = 128) -> None:
        file = self._open(Fresh, Listener)
        most = file.kernel.engine.options.backlog_max
        backlog = max(0, min(backlog, most))
        if isinstance(file, Listener):
            file.backlog = backlog
            return
        if file.local is None:
            ip = ANY[self._family == socket.AF_INET6]
            file.local = (ip, file.kernel.bind("tcp", ip, 0, file))
        listener = Listener(file.kernel, self._cpu, self._fd, file.local, backlog)
        listener.reuse_port, listener.v6_only = file.reuse_port, file.v6_only
        file.kernel.rebind("tcp", file.local[1], file, listener)
        self._file = self._cpu.files[self._fd] = listener
        self._configure()
        listener.kernel.engine.record("listen", listener.kernel.name, listener.local)

    def accept(self) -> tuple[RealSocket, Any]:
        listener = self._open()
        if not isinstance(listener, Listener):
            raise failure(errno.EINVAL)
        if not listener.queue:
            raise self._would_block(failure(errno.EAGAIN))
        fd = new_descriptor(self._cpu)  # first: a connection that finds no descriptor stays in the queue
        connection = listener.queue.popleft()
        accepted = SimSocket.__new__(SimSocket)
        accepted._family, accepted._type, accepted._proto = self._family, self._type, self._proto
        accepted._timeout, accepted._options = socket.getdefaulttimeout(), dict(self._options)
        accepted._bound_to = None
        accepted._adopt(self._cpu, fd, connection)
        return accepted, accepted._name(connection.remote)

    def _adopt(self, cpu: Any, fd: int, connection: Connection) -> None:
        self._cpu, self._fd, self._file = cpu, fd, connection
        connection.cpu, connection.fd = cpu, fd
        cpu.files[fd] = connection

    def connect_ex(self, address: Any) -> int:
        try:
            self.connect(address)
        except OSError as error:
            if error.errno is None:
                raise
            return error.errno
        return 0

    def connect(self, address: Any) -> None:
        file = self._open()
        ip, port = self._address(address)
        if ip in ANY:
            ip = "::1" if ip == "::" else "127.0.0.1"
        if isinstance(file, Datagrams):
            file.remote = (ip, port)
            source = file.kernel.source_for(ip)
            if file.local is None:
                file.local = (source, file.kernel.bind("udp", source, 0, file))
            elif file.local[0] in ANY:
                file.local = (source, file.local[1])
            return
        if isinstance(file, Connection):
            raise failure(errno.EALREADY if file.connecting else errno.EISCONN)
        if not isinstance(file, Fresh):
            raise failure(errno.EINVAL)
        if self._timeout != 0.0:
            raise self._would_block(failure(errno.EAGAIN))
        kernel = file.kernel
        source = kernel.source_for(ip)
        if file.local is not None and file.local[0] not in ANY:
            source = file.local[0]
        local = (source, file.local[1] if file.local is not None else kernel.ephemeral("tcp", family_of(ip)))
        options = kernel.engine.options
        connection = Connection(kernel, local, (ip, port), options.receive_buffer_bytes, options.send_buffer_bytes)
        self._adopt(self._cpu, self._fd, connection)
        self._configure()
        connection.connect()
        raise failure(errno.EINPROGRESS)

    # --------------------------------------------------------------------------------------------------------------------- data

    def _connection(self) -> Any:
        return self._open(Connection)

    def send(self, data: Any, flags: int = 0) -> int:
        file = self._open(Connection, Datagrams, Fresh)
        if isinstance(file, Datagrams):
            if file.remote is None:
                raise failure(errno.EDESTADDRREQ)
            return file.send(bytes(data), file.remote)
        if isinstance(file, Fresh):
            raise failure(errno.EPIPE)
        # The views are let go before an error leaves: its traceback would hold them, and asyncio clears the buffer in its `except`.
        with memoryview(data) as view, view.cast("B") as sent:
            try:
                return file.send(sent)  # type: ignore[no-any-return]
            except BlockingIOError as error:
                raise self._would_block(error) from None

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None) -> int:
        data = b"".join(buffers)
        return self.send(data, flags) if address is None else self.sendto(data, address)

    def sendall(self, data: Any, flags: int = 0) -> None:
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view, flags) :]

    def sendto(self, data: Any, *args: Any) -> int:
        file = self._open(Datagrams)
        ip, port = self._address(args[-1])
        return file.send(bytes(data), ("::1" if ip == "::" else "127.0.0.1" if ip in ANY else ip, port))  # type: ignore[no-any-return]

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        file = self._open(Connection, Datagrams)
        try:
            if isinstance(file, Datagrams):
                return file.receive()[0][:bufsize]
            return file.receive(bufsize)  # type: ignore[no-any-return]
        except BlockingIOError as error:
            raise self._would_block(error) from None

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data)

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Any]:
        file = self._open(Connection, Datagrams)
        if isinstance(file, Connection):
            return self.recv(bufsize, flags), None
        try:
            data, source = file.receive()
        except BlockingIOError as error:
            raise self._would_block(error) from None
        return data[:bufsize], self._name(source)

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        view = memoryview(buffer).cast("B")
        data, source = self.recvfrom(nbytes or len(view), flags)
        view[: len(data)] = data
        return len(data), source

    # ------------------------------------------------------------------------------------------------------------------ the end

    def shutdown(self, how: int) -> None:
        file = self._open()
        if isinstance(file, Connection):
            if how != socket.SHUT_RD:
                file.shutdown_write()
            if how != socket.SHUT_WR:
                file.read_end = True
                self._cpu.poke(file.fd)
        elif isinstance(file, Fresh):
            raise failure(errno.ENOTCONN)

    def close(self) -> None:
        self._closed = True
        fd, self._fd = self._fd, -1
        file, self._file = self._file, None
        if fd >= 0 and file is not None:
            self._cpu.close_descriptor(fd)

    def detach(self) -> int:
        self._closed = True
        fd, self._fd = self._fd, -1
        self._file = None
        return fd

    def __del__(self) -> None:
        if self._fd >= 0:
            self.close()

    def __repr__(self) -> str:
        return f"<simulated socket {self._fd} of {getattr(self._cpu, 'host', 'nobody')}>"

    # ------------------------------------------------------------------------------------------------------------------ options

    def setsockopt(self, level: int, option: int, value: Any, optlen: int | None = None) -> None:
        file = self._open()
        if not isinstance(value, int | bytes | bytearray) and value is not None:
            raise TypeError(f"expected an int or bytes, got {value!r}")
        self._options[level, option] = value
        if isinstance(file, Datagrams) and (level, option) == (socket.SOL_SOCKET, socket.SO_RCVBUF):
            file.receive_max = int(value or 0)
        self._configure()

    def _configure(self) -> None:
        """Tell the kernel's side of it what has been asked for."""
        file, asked = self._file, self._options
        if not isinstance(file, Connection | Listener):
            return
        tcp, base = socket.IPPROTO_TCP, socket.SOL_SOCKET
        if asked.get((base, socket.SO_KEEPALIVE)):
            file.keepalive = (
                float(asked.get((tcp, socket.TCP_KEEPIDLE), 7200)),
                float(asked.get((tcp, socket.TCP_KEEPINTVL), 75)),
                int(asked.get((tcp, socket.TCP_KEEPCNT), 9)),
            )
        else:
            file.keepalive = None
        file.user_timeout_s = asked.get((tcp, socket.TCP_USER_TIMEOUT), 0) / 1000
        file.receive_max = asked.get((base, socket.SO_RCVBUF), file.receive_max)
        file.send_max = asked.get((base, socket.SO_SNDBUF), file.send_max)
        if isinstance(file, Connection):
            linger = asked.get((base, socket.SO_LINGER))
            file.linger_none = isinstance(linger, bytes | bytearray) and _LINGER.unpack(linger) == (1, 0)

    def getsockopt(self, level: int, option: int, buflen: int | None = None) -> Any:
        file = self._open()
        if level == socket.SOL_SOCKET:
            if option == socket.SO_ERROR:
                error = getattr(file, "error", None)
                if error is not None:
                    file.error = None
                return error.errno if error is not None else 0
            if option == socket.SO_TYPE:
                return int(self._type)
            if option == socket.SO_ACCEPTCONN:
                return int(isinstance(file, Listener))
            if option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                asked = self._options.get((level, option))
                options = self._cpu.engine.options
                least = options.receive_buffer_bytes if option == socket.SO_RCVBUF else options.send_buffer_bytes
                return 2 * asked if asked is not None else least
            if option == SO_MEMINFO:
                return _DROPS.pack(*[0] * 8, getattr(file, "dropped", 0))
        if (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO):
            info = bytearray(buflen or 0)
            if isinstance(file, Listener):
                info[_SACKED_AT : _SACKED_AT + 4] = file.backlog.to_bytes(4, "little")
            return bytes(info)
        value = self._options.get((level, option), 0)
        return value if buflen is None or isinstance(value, bytes) else int(value).to_bytes(4, "little")[:buflen]


def unacknowledged(file: object) -> int:
    """What TIOCOUTQ says."""
    return file.unsent_bytes() if isinstance(file, Connection) else 0


def open_spare(cpu: Any, path: str) -> int | None:
    """A descriptor of /dev/null for a process; None for any other path."""
    if path != os.devnull:
        return None
    fd = new_descriptor(cpu)
    cpu.files[fd] = Spare(cpu, fd)
    return fd
