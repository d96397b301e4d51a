"""Connections between the processes of a run, so that all hear at once when one of them is gone.

Process 0 listens at the address that all were given; each of the others holds one connection to it. Both ends send a
beat ten times in the time after which silence counts as death. A process that is killed is noticed at once, for the
system closes its connections. Whoever hears that a process is gone, or failed, says so in one line and ends at once:
its collectives would wait for ever.

JAX's own coordination service listens on process 0's loopback, and the others reach it through the same address. When
process 0 dies, JAX aborts every other process with a stack trace; here it does not hear of it, for the connection that
it watches is one to its own process, which stays open.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from dnn_research.errors import UserError

BEATS = 10
# A first line that is longer, or comes later, is not from a process of ours.
FIRST_BYTES, FIRST_SECONDS = 1 << 20, 10.0
# So long a process that failed waits for word of another that failed before, and for its own word to arrive.
GRACE_SECONDS = 2.0
GO_ON = "the same command on all hosts goes on from the last checkpoint"

Message = dict[str, Any]


class Connection:
    """A socket that carries a line of JSON a message."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._received, self._sending = b"", threading.Lock()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: Message) -> bool:
        """Sends; False if the connection is closed, which those who read from it act on."""
        try:
            with self._sending:
                self.sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Ends whoever reads from it, too."""
        with contextlib.suppress(OSError):  # the other end was first
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def receive(self, tick: float, patience: int) -> Message:
        """The next message.

        Raises:
            TimeoutError: none came in `patience` ticks of so many seconds. Ticks are counted, not a clock: a process
                that was stopped for a while does not take its own absence for that of the others.
            ConnectionError: it was closed.
        """
        self.sock.settimeout(tick)
        silent = 0
        while b"\n" not in self._received:
            if len(self._received) > FIRST_BYTES:
                raise ConnectionError("too long a line")
            try:
                more = self.sock.recv(1 << 16)
            except TimeoutError:
                silent += 1
                if silent >= patience:
                    raise
                continue
            except OSError as error:
                raise ConnectionError(str(error)) from error
            if not more:
                raise ConnectionError("closed")
            self._received += more
        line, _, self._received = self._received.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError as error:
            raise ConnectionError("not JSON") from error
        if not isinstance(message, dict):
            raise ConnectionError("not a message")
        return message

    def unread(self) -> bytes:
        """What came after the last message."""
        rest, self._received = self._received, b""
        return rest


class Watch:
    """What this process has of the connections.

    Args:
        index: of this process.
        count: of all processes.
        silence: so many seconds without a beat count as death.
    """

    def __init__(self, index: int, count: int, silence: float) -> None:
        self.index, self.count = index, count
        self.tick = silence / BEATS
        self.silence = silence
        self.peers: dict[int, Connection] = {}
        self._names: dict[int, str] = {index: socket.gethostname()}
        self._closed: set[int] = set()
        self.leaving = False
        self._ending = threading.Lock()

    def name(self, process: int) -> str:
        """Such as 'process 1 of 4 (node7)'."""
        host = f" ({self._names[process]})" if process in self._names else ""
        return f"process {process} of {self.count}{host}"

    def add(self, process: int, host: str, connection: Connection) -> None:
        """Begins to watch a process."""
        self._names[process] = host
        self.peers[process] = connection
        threading.Thread(target=self._listen, args=(process, connection), daemon=True).start()
        threading.Thread(target=self._beat, args=(connection,), daemon=True).start()

    def leave(self) -> None:
        """From here on a connection that closes is no news: all processes end together."""
        self.leaving = True
        for connection in self.peers.values():
            connection.send({"bye": self.index})

    def fail(self, status: int, line: str) -> NoReturn:
        """Tells the others why this process ends, and ends it without waiting for them."""
        time.sleep(GRACE_SECONDS)  # in which word of another's end ends this process, with that line
        with self._ending:
            print(line, file=sys.stderr, flush=True)
            self._tell(f"{self.name(self.index)} ended: {line.removeprefix('error: ')}")
            self._end(status)

    def lost(self, line: str, *, tell: bool) -> None:
        """Ends this process for the reason that `line` gives; with `tell`, the others too."""
        with self._ending:
            if self.leaving:
                return
            print(f"error: {line}; all processes stop, and {GO_ON}", file=sys.stderr, flush=True)
            if tell:
                self._tell(line)
            self._end(1)

    def _tell(self, line: str) -> None:
        for connection in self.peers.values():
            connection.send({"failed": line})
        # A process that ended with something unread would take back what it has just sent: they close first.
        until = time.monotonic() + GRACE_SECONDS / 2
        while len(self._closed) < len(self.peers) and time.monotonic() < until:
            time.sleep(0.01)

    def _end(self, status: int) -> NoReturn:
        sys.stdout.flush()
        os._exit(status)

    def _beat(self, connection: Connection) -> None:
        while connection.send({"beat": self.index}):
            time.sleep(self.tick)

    def _listen(self, process: int, connection: Connection) -> None:
        ended = False
        while True:
            try:
                message = connection.receive(self.tick, BEATS)
            except TimeoutError:
                self.lost(f"nothing was heard of {self.name(process)} for {self.silence:g} s", tell=True)
                return
            except ConnectionError:
                self._closed.add(process)
                if not ended:
                    self.lost(f"{self.name(process)} is gone", tell=True)
                return
            ended |= "bye" in message
            if "failed" in message:
                # Process 0 tells all itself.
                self.lost(str(message["failed"]), tell=process != 0)


class Hub:
    """Process 0's end: takes the others in, and passes JAX's connections on to its service.

    Args:
        watch: of this process.
        host, port: where to listen; port 0 for any that is free.
        service: (host, port) of JAX's service.
        differs: what another process says of itself -> why it cannot be of this run, or None.
    """

    def __init__(
        self,
        watch: Watch,
        host: str,
        port: int,
        service: tuple[str, int],
        differs: Callable[[Mapping[str, Any]], str | None],
    ) -> None:
        self._watch, self._service, self._differs = watch, service, differs
        self._all = threading.Condition()
        self._refused = ""
        try:
            if host in ("localhost", "127.0.0.1", "::1"):
                family = socket.AF_INET6 if host == "::1" else socket.AF_INET
                self._listener = socket.create_server((host, port), family=family, backlog=128)
            else:
                dual = socket.has_dualstack_ipv6()
                family = socket.AF_INET6 if dual else socket.AF_INET
                self._listener = socket.create_server(("", port), family=family, backlog=128, dualstack_ipv6=dual)
        except OSError as error:
            raise UserError(f"process 0 cannot listen at {host}:{port}: {error.strerror}; take another port") from error
        threading.Thread(target=self._accept, daemon=True).start()

    def wait_for_all(self, seconds: float) -> None:
        """Returns when all processes are there.

        Raises:
            UserError: they are not after so many seconds, or one is of another run.
        """
        watch = self._watch
        with self._all:
            self._all.wait_for(lambda: self._refused or len(watch.peers) == watch.count - 1, seconds)
        missing = [str(n) for n in range(1, watch.count) if n not in watch.peers]
        why = self._refused
        if missing and not why:
            why = (
                f"process 0 waited {seconds:g} s for {watch.count - 1} others, and {', '.join(missing)} did not come: "
                f"start the same command on all hosts (DNN_START_TIMEOUT=SECONDS waits longer)"
            )
        if why:
            for connection in watch.peers.values():
                connection.send({"failed": why})
            watch.leave()
            raise UserError(why)
        for connection in watch.peers.values():
            connection.send({"welcome": socket.gethostname()})

    def close(self) -> None:
        """Takes nobody in any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._take, args=(Connection(sock),), daemon=True).start()

    def _take(self, connection: Connection) -> None:
        try:
            first = connection.receive(FIRST_SECONDS, 1)
            kind, process = first["kind"], int(first["process"])
            if kind == "coordination":
                # It begins when all are there.
                service = dial(self._service, FIRST_SECONDS)
                service.sendall(connection.unread())
                pump(connection.sock, service)
                return
        except (OSError, KeyError, TypeError, ValueError):
            connection.close()
            return
        host = str(first.get("host"))
        with self._all:
            why = self._differs(first)
            if why is None and not 0 < process < self._watch.count:
                why = f"is not from 1 to {self._watch.count - 1}"
            if why is None and process in self._watch.peers:
                why = "came a second time: two have the same PROCESS_ID"
            if why is None:
                self._watch.add(process, host, connection)
            else:
                why = f"process {process} ({host}) {why}"
                connection.send({"failed": why})
                connection.close()
                self._refused = self._refused or why
            self._all.notify_all()


def dial(address: tuple[str, int], seconds: float) -> socket.socket:
    """Connects to somebody who may not be there yet; OSError after so many seconds."""
    until = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(address, timeout=5)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def call(address: tuple[str, int], first: Message, seconds: float, tick: float) -> tuple[Connection, str]:
    """A connection to process 0, which may not be there yet, as soon as all processes are; and the name of its host.

    Raises:
        UserError: it is not there after so many seconds, or it says why not.
    """
    until = time.monotonic() + seconds
    host, port = address
    late = (
        f"process {first['process']} waited {seconds:g} s for process 0 at {host}:{port}: start the same command on "
        f"all hosts (DNN_START_TIMEOUT=SECONDS waits longer)"
    )
    try:
        connection = Connection(dial(address, seconds))
    except OSError as error:
        raise UserError(f"{late}; the last try: {error.strerror or error}") from error
    connection.send(first)
    while time.monotonic() < until + 5:
        try:
            message = connection.receive(tick, BEATS)
        except OSError as error:
            raise UserError(f"process 0 at {host}:{port} is gone ({error})") from error
        if "failed" in message:
            raise UserError(str(message["failed"]))
        if "welcome" in message:
            return connection, str(message["welcome"])
        connection.send({"beat": first["process"]})  # process 0 listens from the first word on
    raise UserError(late)


def relay(address: tuple[str, int], process: int) -> int:
    """Listens on loopback and passes connections on to process 0's JAX service; the port.

    When process 0's end closes, this process's end stays open: the watch speaks of it.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            near, _ = listener.accept()
            try:
                far = Connection(socket.create_connection(address, timeout=5))
            except OSError:
                near.close()
                continue
            far.send({"kind": "coordination", "process": process})
            far.sock.settimeout(None)
            pump(near, far.sock, keep_open=True)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def pump(near: socket.socket, far: socket.socket, *, keep_open: bool = False) -> None:
    """Copies both ways between two sockets, in threads, until one closes; `keep_open` leaves the near one open."""

    def copy(source: socket.socket, target: socket.socket, close: bool) -> None:
        with contextlib.suppress(OSError):  # gone, as at an end of file
            while block := source.recv(1 << 16):
                target.sendall(block)
        if close:
            for sock in (source, target):
                with contextlib.suppress(OSError):  # it was closed already
                    sock.shutdown(socket.SHUT_RDWR)

    for sock in (near, far):
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=copy, args=(near, far, True), daemon=True).start()
    threading.Thread(target=copy, args=(far, near, not keep_open), daemon=True).start()
