"""Processes, and relays in front of servers that count bytes."""

import asyncio
import collections
import contextlib
import ctypes
import json
import resource
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

LIBC = ctypes.CDLL(None, use_errno=True)
TIMEOUT = 60


class Failed(Exception):
    """A check that failed."""


def eventually(what, condition, timeout=TIMEOUT):
    """Polls until a condition holds that another process brings about. Returns the seconds."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout:
            raise Failed(f"not within {timeout} s: {what}")
        time.sleep(0.01)
    return time.monotonic() - started


def die_with_parent():
    """Runs in a child before exec, so that the child is killed if this program dies."""
    LIBC.prctl(1, signal.SIGKILL)


class Process:
    def __init__(self, name, argv, environment, folder):
        self.name, self.folder = name, folder
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        with open(self.out, "w") as out, open(self.err, "w") as err:
            self.popen = subprocess.Popen(
                argv, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, preexec_fn=die_with_parent
            )

    def line(self):
        """Waits for the first line of stdout."""

        def has_line():
            if self.popen.poll() is not None:
                raise Failed(f"{self.name} ended with exit code {self.popen.returncode}: {self.errors()}")
            return "\n" in self.out.read_text()

        eventually(f"{self.name} is ready", has_line)
        return self.out.read_text().splitlines()[0]

    def errors(self):
        return self.err.read_text()[-2000:]

    def events(self, kind):
        """The events of one kind in the output of `client --json`."""
        lines = self.out.read_text().splitlines(keepends=True)
        events = [json.loads(line) for line in lines if line.endswith("\n")]
        return [event for event in events if event["event"] == kind]

    def wait(self, code=0):
        try:
            found = self.popen.wait(2 * TIMEOUT)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} does not end: {self.errors()}") from None
        if found != code:
            raise Failed(f"{self.name} ended with exit code {found}: {self.errors()}")

    def kill(self, by=signal.SIGKILL):
        self.popen.send_signal(by)
        self.popen.wait(TIMEOUT)


class Processes(contextlib.ExitStack):
    """All processes; they are killed at the end."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.count = 0

    def start(self, name, argv, environment):
        self.count += 1
        process = Process(f"{name}-{self.count}", argv, environment, self.folder)
        self.callback(process.kill)
        return process


def split(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def accepts(address):
    try:
        socket.create_connection(split(address), 1).close()
    except OSError:
        return False
    return True


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


# A load balancer connects to the servers from this address.
PROXY = "127.0.0.2"


class Replica:
    """A server that can be killed, and started again on the same port."""

    # How often the bucket is listed: each second instead of each 10 s.
    interval = ["--watch-interval", "1"]

    def __init__(self, name, programs, s3, processes, flags=()):
        self.flags = flags
        self.name, self.programs, self.s3, self.processes = name, programs, s3, processes
        self.address = f"127.0.0.1:{free_port()}"
        self.folder = processes.folder / f"server-{name}"
        self.start()

    def start(self):
        argv = [str(self.programs / "server"), "--images", self.s3.url, "--bind", self.address, "--no-tls"]
        argv += ["--proxy-protocol", PROXY, "--cache-dir", str(self.folder), *self.interval, *self.flags]
        started = time.monotonic()
        self.process = self.processes.start(f"server-{self.name}", argv, self.s3.environment)
        self.process.line()
        self.seconds = time.monotonic() - started

    def memory(self):
        """The resident memory in bytes."""
        with open(f"/proc/{self.process.popen.pid}/status") as status:
            [size] = [line.split()[1] for line in status if line.startswith("VmRSS:")]
        return int(size) * 1024

    def kill(self):
        self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Crowd:
    """Connections that ask a server for all images, again and again."""

    def __init__(self, address, count):
        self.address, self.count = split(address), count
        # Answers that end with an error frame.
        self.errors = 0
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def run(self, seconds):
        async def ask():
            while True:
                reader, writer = await asyncio.open_connection(*self.address)
                # LIST_AND_GET, keep-alive.
                writer.write(b"\x05\x01")
                answer = await reader.read()
                self.errors += b"JTPE\x03" in answer
                writer.close()
                await asyncio.sleep(1)

        async def all_of_them():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.gather(*(ask() for _ in range(self.count))), seconds)

        asyncio.run(all_of_them())


class Relay:
    """Passes connections on to a server, and counts the bytes that the server sends."""

    def __init__(self, server, source="127.0.0.1"):
        self.target, self.source = split(server), (source, 0)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.bytes = 0
        self.hold_after = None
        self.held, self.released = threading.Event(), threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def hold(self, after):
        """Stops passing bytes to the client after this number of them, until `released` is set."""
        self.held.clear()
        self.released.clear()
        self.hold_after = self.bytes + after

    def release(self):
        """Passes all bytes on."""
        self.hold_after = None
        self.released.set()

    def refuse(self):
        """Refuses new connections from now on."""
        # `close` alone does not end a blocked `accept`.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.socket()
                # The system would take some megabytes that the relay holds back, and a server that is killed has sent them.
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
                server.settimeout(TIMEOUT)
                try:
                    server.bind(self.source)
                    server.connect(self.target)
                except OSError:
                    server.close()
                    # Closed with a reset, as by a server that is down.
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.close()
                    continue
                server.settimeout(None)
                threading.Thread(target=self.forward, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self.forward, args=(server, client, True), daemon=True).start()

    def forward(self, source, sink, counted):
        # A reset ends the stream, too.
        with contextlib.suppress(OSError):
            while data := source.recv(16 * 1024):
                if counted:
                    self.count(len(data))
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def count(self, length):
        with self.lock:
            self.bytes += length
            holds = self.hold_after is not None and self.bytes >= self.hold_after
        if holds:
            self.held.set()
            self.released.wait()


def duplicates(values):
    return [value for value, count in collections.Counter(values).items() if count > 1]
