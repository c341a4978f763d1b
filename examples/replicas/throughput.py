"""Compares the first sync through one server with programs that fetch the same objects from the S3 server themselves."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bucket import BUCKET, S3
from processes import Failed, Replica

# Number and size of the images.
SETS = {"large": (200, 2_000_000), "tiny": (5_000, 2_000)}
# Ways of the client.
WAYS = {"client": [], "client --parallel 4": ["--parallel", "4"]}


def image(number, size):
    """Bytes that do not compress, after those of a GIF."""
    return (b"GIF89a" + number.to_bytes(8, "little") + os.urandom(size))[:size]


def tools(s3, source):
    """Programs that fetch the objects below a prefix, if they are installed: name and a function of the output folder."""
    rclone = [
        "rclone", "copy", f":s3:{source}", "--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", s3.endpoint,
        "--s3-force-path-style", "--config", "/dev/null", "--transfers", "32", "--checkers", "32", "--low-level-retries", "1",
    ]  # fmt: skip
    known = {
        "rclone --transfers 32": lambda out: [*rclone, out],
        "s5cmd": lambda out: ["s5cmd", "--endpoint-url", s3.endpoint, "--log", "error", "cp", f"s3://{source}/*", out + "/"],
        "aws s3 cp": lambda out: ["aws", "s3", "cp", "--recursive", "--quiet", "--endpoint-url", s3.endpoint, f"s3://{source}", out],
    }
    # Programs of the virtual environment, too.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = {}
    for name, argv in known.items():
        program = shutil.which(name.split()[0], path=path)
        if program:
            found[name] = lambda out, argv=argv, program=program: [program, *argv(out)[1:]]
    return found


class Throughput:
    def __init__(self, args, processes, say):
        self.args, self.processes, self.say = args, processes, say
        self.s3 = S3(sys.executable, processes, args.s3_server)

    def measure(self, argv, count, size):
        """Runs a program that fills a folder. Returns the seconds."""
        out = self.processes.folder / "out"
        out.mkdir()
        argv = argv(str(out))
        started = time.monotonic()
        result = subprocess.run(argv, env=self.s3.environment, capture_output=True, text=True, cwd=self.processes.folder)
        seconds = time.monotonic() - started
        if result.returncode:
            raise Failed(f"{argv} ended with exit code {result.returncode}: {result.stderr[-2000:]}")
        files = [path.stat().st_size for path in out.iterdir() if not path.name.startswith(".")]
        shutil.rmtree(out)
        if (len(files), sum(files)) != (count, count * size):
            raise Failed(f"{argv} fetched {len(files)} files, {sum(files)} bytes")
        return seconds

    def set(self, name):
        count, size = SETS[name]
        count //= 10 if self.args.quick else 1
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: self.put(name, number, size), range(count)))
        self.s3.url = f"s3://{BUCKET}/{name}"
        server = str(self.args.programs / "server")
        subprocess.run([server, "--images", self.s3.url, "--index-only"], env=self.s3.environment, check=True, capture_output=True)
        candidates = dict(tools(self.s3, f"{BUCKET}/{name}"))
        Replica.interval = ["--watch-interval", "3600"]
        for cache in (0, 1):
            replica = Replica(f"{name}-{cache}", self.args.programs, self.s3, self.processes, ["--store-cache-size", "1GiB"] if cache else [])
            client = str(self.args.programs / "client")
            for way, flags in WAYS.items():
                argv = lambda out, flags=flags, address=replica.address: [client, *flags, address, "--out", out]  # noqa: E731
                candidates[way + (" (cached)" if cache else "")] = argv
        best = dict.fromkeys(candidates, float("inf"))
        # The first sync of a server with a cache fills it.
        for number in range(self.args.rounds + 1):
            for way, argv in candidates.items():
                seconds = self.measure(argv, count, size)
                if self.args.quick:
                    self.say(f"  {way}: {seconds:.2f} s")
                if number:
                    best[way] = min(best[way], seconds)
        others = [seconds for way, seconds in best.items() if not way.startswith("client")]
        for way, seconds in best.items():
            ratio = f", {min(others) / seconds:.2f} times the best of the others" if way.startswith("client") and others else ""
            rate = f"{count * size / seconds / 1e6:.0f} MB/s, {count / seconds:.0f} images/s"
            self.say(f"{count} images of {size} bytes, {way}: {seconds:.2f} s, {rate}{ratio}")

    def put(self, name, number, size):
        self.s3.client.put_object(Bucket=BUCKET, Key=f"{name}/{number:05}.gif", Body=image(number, size))

    def run(self):
        for name in SETS:
            self.set(name)
