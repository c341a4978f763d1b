"""Sockets for both sides: RFC.md, section 10, and the lingering close of S11."""

import select
import socket
import ssl
import threading
import time

from . import wire
from .client import Client
from .server import Server

TIMEOUT = 20  # seconds; elapses only if a test fails
ALPN = "jtp/1"


class Connection:
    """A client on a socket."""

    def __init__(self, address, tls=None, **options):
        self.socket = socket.create_connection(address, TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.client = Client(**options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def ask(self, *requests):
        """Sends requests, each the arguments of `Client.ask`, in one write."""
        for request in requests:
            self.client.ask(*request)
        self.flush()

    def cancel(self):
        self.client.cancel()
        self.flush()

    def flush(self):
        self.socket.sendall(bytes(self.client.out))
        self.client.out.clear()

    def next(self):
        """The next event."""
        while not self.client.events:
            data = self.socket.recv(1 << 16)
            if data:
                self.client.receive(data)
            else:
                self.client.end()
            if self.client.out:
                self.flush()
        return self.client.events.pop(0)

    def until(self, *kinds):
        """All events up to the first of one of these kinds."""
        events = []
        while not events or not any(kind in events[-1] for kind in kinds + ("failed", "error", "closed")):
            events.append(self.next())
        return events


class SocketServer:
    """A server on a port of 127.0.0.1 with a thread for each connection. each of `failures` happens once, in order."""

    def __init__(self, store, tls=None, quirks=(), failures=()):
        self.store, self.tls, self.quirks, self.failures = store, tls, quirks, list(failures)
        self.connections, self.requests, self.alpn = 0, 0, []
        self.lock, self.wakers, self.active = threading.Lock(), set(), set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def insert(self, image):
        with self.lock:
            self.store.insert(image)
            for waker in self.wakers:
                waker.send(b"!")

    def is_watched(self):
        with self.lock:
            return any(connection.server.state == "watching" for connection in self.active)

    def accept(self):
        while True:
            try:
                connected, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connected,), daemon=True).start()

    def serve(self, connected):
        woken, waker = socket.socketpair()
        connection = None
        try:
            connected.settimeout(TIMEOUT)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                connected = self.tls.wrap_socket(connected, server_side=True)
                self.alpn.append(connected.selected_alpn_protocol())
            connected.setblocking(False)
            connection = ServerConnection(self, connected, woken)
            with self.lock:
                self.wakers.add(waker)
                self.active.add(connection)
            connection.run()
        except OSError:
            pass  # The client disconnected.
        finally:
            with self.lock:
                self.wakers.discard(waker)
                self.active.discard(connection)
            for each in connected, woken, waker:
                each.close()


class ServerConnection:
    """One connection of the server."""

    def __init__(self, serving, connected, woken):
        self.serving, self.socket, self.woken = serving, connected, woken
        self.server = Server(serving.store, quirks=serving.quirks)
        self.server.failures = serving.failures
        self.output, self.ended = b"", False

    def run(self):
        if self.serving.failures[:1] == ["rate limited"]:
            self.serving.failures.pop(0)
            self.output = self.server.error(wire.RATE_LIMITED, "slow down")
        while self.server.state != "closing" or self.output:
            # Reads even while writing is blocked, to see a CANCEL.
            reads = not self.ended and self.server.wants_input()
            moved = (reads and self.read()) | self.write()
            if not moved and (self.server.state != "closing" or self.output):
                wants = ([self.socket] if reads else []) + [self.woken]
                ready, _, _ = select.select(wants, [self.socket] if self.output else [], [], TIMEOUT)
                if self.woken in ready:
                    self.woken.recv(100)
        self.serving.requests += self.server.requests
        if "reset" not in self.server.quirks:
            self.linger()

    def read(self):
        data = self.receive()
        if data is None:
            return False
        self.ended = not data
        if data:
            self.server.receive(data)
        else:
            self.server.end()
        return True

    def receive(self):
        try:
            return self.socket.recv(1 << 16)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def write(self):
        if not self.output:
            with self.serving.lock:
                self.output = self.server.output()
        if not self.output:
            return False
        try:
            sent = self.socket.send(self.output[:1 << 16])
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        self.output = self.output[sent:]
        return True

    def linger(self):
        """S11: half-closes, and reads until the client closes, so that the last bytes sent are not lost to a reset."""
        end = time.monotonic() + 5
        if isinstance(self.socket, ssl.SSLSocket):
            try:
                self.socket.unwrap()  # Sends close_notify without waiting for the peer's.
            except (ssl.SSLError, OSError):
                pass
        self.socket.shutdown(socket.SHUT_WR)
        left = 16 << 20
        while left > 0 and time.monotonic() < end:
            select.select([self.socket], [], [], end - time.monotonic())
            data = self.receive()
            if data == b"":
                return
            left -= len(data or b"")
