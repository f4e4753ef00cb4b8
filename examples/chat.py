"""A chat: lines of text, one room, names. `telnet` is a client, and so is chat_client.py.

    cd examples
    holdfast serve chat:talker --bind tcp://127.0.0.1:7000
    python chat_client.py tcp://127.0.0.1:7000 ada

What to look at: a slow reader is dropped and holds nobody back (`overflowed`), and a server that goes down says goodbye first
(`drain_requested`). There is no lock, no queue and no task: everything happens in callbacks of one loop.
"""

import re

from holdfast.framing import FramingError, Lines
from holdfast.net import Framed

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,19}")
TALKERS_MAX = 500
LINE_MAX_BYTES = 1000
UNREAD_MAX_BYTES = 256 * 1024
"""What may wait for one talker. Whoever is further behind does not read any more."""


class Room:
    """Who is here, by name."""

    def __init__(self) -> None:
        self.talkers: dict[str, Talker] = {}

    def say(self, text: str) -> None:
        """Tell everybody. One that is dropped here leaves the room later, from the loop: nothing changes under our feet."""
        for talker in self.talkers.values():
            talker.tell(text)

    def enter(self, talker: "Talker", name: str) -> str:
        """Let somebody in; the answer says why not, or is empty."""
        if not NAME.fullmatch(name):
            return "a name has up to 20 letters, digits, '-' and '_', and begins with a letter"
        if name in self.talkers:
            return f"{name} is here already"
        if len(self.talkers) >= TALKERS_MAX:
            return "the room is full; try again later"
        self.say(f"* {name} came")
        self.talkers[name] = talker
        return ""

    def leave(self, name: str, why: str) -> None:
        if self.talkers.pop(name, None) is not None:
            self.say(f"* {name} {why}")


class Talker(Framed):
    """One connection: first its name, then what it says."""

    def __init__(self, room: Room) -> None:
        super().__init__(Lines(ending=b"\r\n", max_bytes=LINE_MAX_BYTES), send_max_bytes=UNREAD_MAX_BYTES)
        self.room = room
        self.name = ""
        self.why = "left"

    def tell(self, text: str) -> None:
        self.send(text.encode())

    def message_received(self, message: bytes) -> None:
        text = message.decode(errors="replace").strip()
        if not self.name:
            refused = self.room.enter(self, text)
            self.name = "" if refused else text
            self.tell(f"* {refused}" if refused else f"* hello {text}; /who says who is here, /quit leaves")
        elif text == "/who":
            self.tell(f"* here: {', '.join(self.room.talkers)}")
        elif text == "/quit":
            self.tell("* goodbye")
            self.transport.close()
        elif text:
            self.room.say(f"{self.name}: {text}")

    def framing_failed(self, error: FramingError) -> None:
        self.tell(f"* a line has at most {LINE_MAX_BYTES} bytes; goodbye")
        self.transport.close()

    def overflowed(self) -> None:
        self.why = "does not read, and was dropped"
        self.transport.abort()

    def drain_requested(self) -> None:
        self.tell("* the server is going down; goodbye")
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.room.leave(self.name, self.why)


room = Room()


def talker() -> Talker:
    """Make a protocol for one connection."""
    return Talker(room)
