"""Runs processes, and measures their time, memory and traffic."""

import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
TICKS = os.sysconf("SC_CLK_TCK")


def die_with_parent():
    """Runs in a child before exec, so that the child is killed if the benchmark dies."""
    LIBC.prctl(1, signal.SIGKILL)


def children(pid):
    """The IDs of a process and all its descendants."""
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
    """CPU seconds of a process and its descendants, including those that have exited."""
    total = 0.0
    for pid in children(pid):
        try:
            # The CPU clock ID of another process, as clock_getcpuclockid(3) computes it.
            total += time.clock_gettime((~pid << 3) | 2)
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[13]) + int(fields[14])) / TICKS
    return total


def memory(pids):
    """Memory of several processes in bytes; shared pages are counted once."""
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
    """Bytes carried by the loopback device: IP packets with headers, both directions."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split(":")[1].split()[0])
    return 0


def peak_resident(pid):
    """The most resident memory of one process so far in bytes, shared pages included; 0 once it has exited. The kernel's
    count at its end (ru_maxrss) would include this program, from which the process was forked.
    """
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


class Sampler(threading.Thread):
    """Samples the memory of process trees, 100 times per second, and keeps the peaks. Of a client that ends within a few
    of these samples, the last peak that the kernel reported in the meantime is used instead.
    """

    FEW = 5

    def __init__(self, client, server):
        super().__init__(daemon=True)
        self.client, self.server = client, server
        self.samples = 0
        self.peaks = [0, 0]
        self.resident = 0
        self.done = threading.Event()
        self.start()

    def run(self):
        due = time.monotonic() + 0.01
        while True:
            if self.samples < self.FEW:
                self.resident = max(self.resident, peak_resident(self.client))
            if time.monotonic() >= due:
                due += 0.01
                self.sample()
                self.samples += 1
            if self.done.wait(0.001 if self.samples < self.FEW else 0.01):
                return

    def sample(self):
        for n, root in enumerate((self.client, self.server)):
            self.peaks[n] = max(self.peaks[n], memory(children(root)))

    def stop(self):
        self.done.set()
        self.join()
        self.sample()  # Of the server, which still runs.
        client, server = self.peaks
        return (self.resident if self.samples < self.FEW else client), server


class Failed(Exception):
    """A program failed."""


class TooSlow(Exception):
    """A client was killed because it exceeded the timeout."""


# The timeout of a client, in seconds.
TIMEOUT = 90


class Server:
    """A server process. As a context manager, it is stopped at the end of the block."""

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
        """Waits until the processes forked for connections have exited, so that their CPU time is counted."""
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


def and_synced(argv, folder):
    """The command, followed by writing the file system of a folder to the disk. It fails as the command does."""
    return ["sh", "-c", 'folder=$1; shift; "$@" && exec sync -f "$folder"', "sh", str(folder), *argv]


def file_system(folder):
    done = subprocess.run(["df", "--output=fstype", folder], capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


def create_and_delete(count, folder):
    """Creates files and deletes them, both down to the disk. Some file systems are slow for minutes after that."""
    folder.mkdir()
    for number in range(count):
        (folder / str(number)).write_bytes(b"x")
    os.sync()
    shutil.rmtree(folder)
    os.sync()


def run(argv, log, server=None, sample=False):
    """Runs a client. Returns the wall time, the CPU time of both sides, the bytes on the wire and, if `sample`, the memory."""
    if server:
        server.settle()
    with open(log, "w+") as output:
        server_before = server.cpu() if server else 0.0
        wire_before = wire()
        started = time.perf_counter()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=die_with_parent
        )
        sampler = Sampler(process.pid, server.pid) if sample and server else None
        timer = threading.Timer(TIMEOUT, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
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
        if wall > TIMEOUT:
            raise TooSlow
        if process.returncode:
            output.seek(0)
            raise Failed(f"{' '.join(argv[:2])}: exit {process.returncode}: {output.read().strip()[-400:]}")
    return result
