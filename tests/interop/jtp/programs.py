"""The programs `server` and `client` as processes, and folders of images for them."""

import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time
import zlib

from .body import image_id
from .names import file_type
from .net import TIMEOUT
from .wire import nfc

PROGRAMS = pathlib.Path(os.environ.get("JTP_PROGRAMS", "."))
SAMPLES = pathlib.Path(__file__).resolve().parents[3] / "images"


def noise(length, seed):
    return random.Random(seed).randbytes(length)


def bmp(length):
    """A BMP that compresses well."""
    return (b"BM" + length.to_bytes(4, "little") + bytes(range(48)) + b"\x10\x20\x30" * length)[:length]


def png(seed):
    return b"\x89PNG\r\n\x1a\n" + zlib.compress(noise(2000, seed))


def samples():
    """Names and contents of the repository's sample images, and of some unusual ones."""
    found = {path.name: path.read_bytes() for path in SAMPLES.iterdir() if path.is_file()}
    found["striped.bmp"] = bmp(300_000)
    found["empty.png"] = b""
    found["e\u0301te\u0301.jpg"] = b"\xff\xd8\xff\xe0" + noise(5000, 1)
    found["three.tga"] = b"abc"
    found["really-a-gif.png"] = b"GIF89a" + noise(100, 2)
    found["UPPER.JPEG"] = noise(70_000, 3)
    return found


def catalog(files):
    """The catalog of a folder: ID, name, type and data, in catalog order (S4, S5)."""
    entries, seen = [], set()
    for name in sorted(files, key=lambda name: nfc(name).encode()):
        data, id_ = files[name], image_id(files[name])
        if id_ not in seen:
            seen.add(id_)
            extension = name.rpartition(".")[2]
            entries.append((id_, nfc(name), file_type(data[:16], extension), data))
    return entries


class WorkDir:
    """A working folder for the programs."""

    def __init__(self, files=None):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)
        self.images, self.output = self.path / "images", self.path / "output"
        self.images.mkdir()
        for name, data in (files or {}).items():
            (self.images / name).write_bytes(data)
        if b"" in (files or {}).values():
            # A server lists an empty file once it has stayed empty for 5 s.
            time.sleep(5.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    def add(self, name, data):
        """Adds an image by a rename, so that it is never seen half-written."""
        hidden = self.path / "new"
        hidden.write_bytes(data)
        hidden.rename(self.images / name)

    def command(self, program, *args):
        env = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.path), "XDG_CACHE_HOME": str(self.path / "cache")}
        return {"args": [str(PROGRAMS / program), *args], "cwd": self.path, "env": env, "stdin": subprocess.DEVNULL}

    def fetched(self):
        """The visible files of the output folder."""
        if not self.output.exists():
            return {}
        return {path.name: path.read_bytes() for path in self.output.iterdir() if not path.name.startswith(".")}

    def client(self, address, *args, code=0):
        """Runs `client` to its end and returns its output."""
        command = self.command("client", "--addr", "%s:%d" % address, *args)
        done = subprocess.run(**command, capture_output=True, timeout=TIMEOUT, text=True)
        if done.returncode != code:
            raise AssertionError(f"client {args}: exit {done.returncode}, not {code}\n{done.stdout}{done.stderr}")
        return done.stdout

    def start_client(self, address, *args):
        command = self.command("client", "--addr", "%s:%d" % address, *args)
        return subprocess.Popen(**command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class ServerProgram:
    """The program `server` on a free port. The constructor waits until it listens."""

    def __init__(self, workdir, *args):
        self.workdir = workdir
        self.log = open(workdir.path / "server.log", "w+", encoding="utf-8")
        command = workdir.command("server", "--bind", "127.0.0.1:0", *args)
        self.process = subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            self.log.seek(0)
            raise AssertionError(f"{line!r}\n{self.log.read()}")
        host, port = line.split()[-1].rsplit(":", 1)
        self.address = host, int(port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def stop(self):
        """Sends SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT)


def eventually(what, condition):
    """Polls until a condition holds that another process brings about."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not in time: {what}")
        time.sleep(0.005)
