"""Compressed variants: one server makes them, others find them. Compares their work. See `run`."""

import os
import random
import sys
import time

from bucket import BUCKET, S3
from processes import Failed, Replica, eventually

COUNT, WIDTH = 40, 816


def bmp(number):
    """A picture of 2 MB with some noise, so that it compresses to somewhat over half of its size."""
    noise = random.Random(number)
    pixels = noise.randbytes(3 * WIDTH * WIDTH).translate(bytes(value & 15 for value in range(256)))
    size = (54 + len(pixels)).to_bytes(4, "little")
    sides = WIDTH.to_bytes(4, "little") * 2
    return b"BM" + size + bytes(4) + b"6\0\0\0(\0\0\0" + sides + b"\1\0\x18\0" + bytes(24) + pixels


class Variants:
    def __init__(self, args, processes, say):
        self.args, self.processes, self.say = args, processes, say
        self.s3 = S3(sys.executable, processes)
        self.images = {}

    def client(self, name, replica, *args):
        argv = [str(self.args.programs / "client"), "--json", *args, replica.address]
        client = self.processes.start(name, argv, self.s3.environment)
        client.wait()
        return client

    def cpu(self, replica):
        """Seconds of CPU that a server has used."""
        with open(f"/proc/{replica.process.popen.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def list(self, replica):
        return self.client("list", replica, "--list").events("entry")

    def compressed(self, replica):
        return sum(entry["compressed"] for entry in self.list(replica))

    def sync(self, name, replica):
        """A first sync. Says what it took, and whether all images came."""
        cpu, started = self.cpu(replica), time.monotonic()
        out = self.processes.folder / f"out-{name}"
        self.client(name, replica, "--out", str(out))
        seconds, used = time.monotonic() - started, self.cpu(replica) - cpu
        if {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")} != self.images:
            raise Failed(f"{name} has other images")
        self.say(f"{name}: {seconds:.2f} s, {used:.2f} s of CPU in the server")

    def replica(self, name, *flags):
        return Replica(name, self.args.programs, self.s3, self.processes, flags)

    def run(self):
        for number in range(COUNT):
            self.images[f"{number:02}.bmp"] = bmp(number)
        for key, image in self.images.items():
            self.s3.client.put_object(Bucket=BUCKET, Key=f"bmp/{key}", Body=image)
        self.s3.url = f"s3://{BUCKET}/bmp"
        Replica.interval = ["--watch-interval", "3600"]
        first, raw = self.replica("first"), self.replica("raw", "--compression-threshold", "0")
        for replica in (first, raw):
            eventually("all images are listed", lambda replica=replica: len(self.list(replica)) == COUNT)
        self.sync("without compression", raw)
        cpu, started = self.cpu(first), time.monotonic()
        self.sync("the first server, images are sent raw", first)
        eventually("all variants are made", lambda: self.compressed(first) == COUNT)
        self.say(f"  all {COUNT} variants are listed after {time.monotonic() - started:.2f} s, {self.cpu(first) - cpu:.2f} s of CPU")
        self.sync("the first server, compressed", first)
        second = self.replica("second")
        if self.compressed(second) != COUNT:
            raise Failed("a server that starts does not list the variants")
        self.sync("a second server, compressed", second)
        listed = self.s3.client.list_objects_v2(Bucket=BUCKET, Prefix="bmp/.jtp/v1/variant/")
        sizes = [entry["Size"] for entry in listed["Contents"]]
        raw_size = sum(map(len, self.images.values()))
        self.say(f"{len(sizes)} variants of {sum(sizes)} bytes, {sum(sizes) / raw_size:.2f} of the images")
