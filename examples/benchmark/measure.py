"""Processes, and what they cost."""

import ctypes
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
TICKS = os.sysconf("SC_CLK_TCK")


def die_with_parent():
    """Run in a child before its program: nothing that was started outlives the benchmark, however that ends."""
    LIBC.prctl(1, signal.SIGKILL)


def children(pid):
    """A process and all its descendants."""
    parents = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(entry.path, "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += parents.get(pid, [])
    return found


def cpu(pid):
    """Seconds of processor time of a process, of its descendants and of those that have ended."""
    total = 0.0
    for pid in children(pid):
        try:
            # The clock of another process: clock_getcpuclockid(3).
            total += time.clock_gettime((~pid << 3) | 2)
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[13]) + int(fields[14])) / TICKS
    return total


def memory(pids):
    """Bytes of memory of some processes, what they share counted once."""
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


def wire():
    """Bytes that the loopback device has carried: IP packets with their heads, both directions."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split(":")[1].split()[0])
    return 0


class Sampler(threading.Thread):
    """The most memory that some processes have had at once, as seen a hundred times a second."""

    def __init__(self, *roots):
        super().__init__(daemon=True)
        self.roots = roots
        self.peaks = [0] * len(roots)
        self.done = threading.Event()
        self.start()

    def run(self):
        while not self.done.wait(0.01):
            for n, root in enumerate(self.roots):
                self.peaks[n] = max(self.peaks[n], memory(children(root)))

    def stop(self):
        self.done.set()
        self.join()
        return self.peaks


class Failed(Exception):
    """A program that did not do what it was started for."""


class TooSlow(Exception):
    """A client that was broken off."""


# After so many seconds a client is broken off.
PATIENCE = 90


class Server:
    """A server process; it ends with the block that it is used in."""

    def __init__(self, argv, log, ready=None):
        self.log = open(log, "w+")
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            preexec_fn=die_with_parent,
            start_new_session=True,
        )
        self.address = None
        if ready is None:
            line = self.process.stdout.readline()
            if not line.startswith("listening on "):
                self.stop()
                raise Failed(f"{argv[0]} does not listen: {Path(log).read_text().strip()}")
            self.address = line.split()[2]
        else:
            ready(self.process)
        self.start_seconds = time.perf_counter() - self.started

    @property
    def pid(self):
        return self.process.pid

    def cpu(self):
        return cpu(self.pid)

    def settle(self):
        """Waits until what was forked for a connection has ended, so that its time is counted."""
        end = time.monotonic() + 2
        before = cpu(self.pid)
        while time.monotonic() < end:
            time.sleep(0.05)
            now = cpu(self.pid)
            if now - before < 0.001:
                return
            before = now

    def stop(self):
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, signal.SIGTERM)
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def run(argv, log, server=None, sample=False):
    """Runs a client to its end: wall time, both sides' processor time, bytes on the wire, and memory if asked."""
    if server:
        server.settle()
    with open(log, "w+") as said:
        server_before = server.cpu() if server else 0.0
        wire_before = wire()
        started = time.perf_counter()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, preexec_fn=die_with_parent
        )
        sampler = Sampler(process.pid, server.pid) if sample and server else None
        patience = threading.Timer(PATIENCE, process.kill)
        patience.start()
        _, status, usage = os.wait4(process.pid, 0)
        patience.cancel()
        wall = time.perf_counter() - started
        wire_after = wire()
        process.returncode = os.waitstatus_to_exitcode(status)
        result = {
            "wall": wall,
            "client_cpu": usage.ru_utime + usage.ru_stime,
            "wire": wire_after - wire_before,
        }
        if sampler:
            result["client_memory"], result["server_memory"] = sampler.stop()
        if server:
            server.settle()
            result["server_cpu"] = server.cpu() - server_before
        if wall > PATIENCE:
            raise TooSlow
        if process.returncode:
            said.seek(0)
            raise Failed(f"{' '.join(argv[:2])}: exit {process.returncode}: {said.read().strip()[-400:]}")
    return result
