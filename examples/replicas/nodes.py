"""Kills nodes of an S3 server in mid-sync: three of s3s-fs over one folder, behind HAProxy. See `run`."""

import sys
import time

from bucket import S3, SIZE, picture
from processes import Failed, Relay, Replica, eventually

COUNT = 200


class Nodes:
    def __init__(self, args, processes, say):
        self.args, self.processes, self.say = args, processes, say
        if not args.s3_server:
            raise Failed("--nodes needs --s3-server")
        self.s3 = S3(sys.executable, processes, args.s3_server, nodes=3)

    def index(self):
        """Conditional puts of s3s-fs are not atomic, so a job indexes before the servers start."""
        argv = [str(self.args.programs / "server"), "--images", self.s3.url, "--index-only"]
        self.processes.start("index", argv, self.s3.environment).wait()

    def put(self, number):
        self.s3.put(*picture(number))

    def round(self, victim):
        relay = Relay(self.replica.address)
        relay.hold(COUNT * SIZE // 2)
        out = self.processes.folder / f"out-{victim}"
        argv = [str(self.args.programs / "client"), "--json", "--batch", "--out", str(out), relay.address]
        client = self.processes.start("sync", argv, self.s3.environment)
        eventually("half of the images have arrived", relay.held.is_set)
        self.s3.nodes[victim].kill()
        started = time.monotonic()
        relay.release()
        client.wait()
        seconds = time.monotonic() - started
        fetched = client.events("fetched")
        found = {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith(".")}
        if found != self.s3.images or len(fetched) != len(found):
            raise Failed(f"{len(found)} images, {len(fetched)} fetched")
        retries = len(client.events("retry"))
        self.say(f"node {victim + 1} of 3 killed in mid-sync: exit code 0 after {seconds:.1f} s more, {retries} retries of the client")
        # What is new is found with the two others.
        self.put(COUNT + victim)
        self.index()
        eventually("the server lists a new image", lambda: self.listed() == len(self.s3.images))
        self.s3.start_node(victim)

    def listed(self):
        argv = [str(self.args.programs / "client"), "--json", "--list", self.replica.address]
        client = self.processes.start("list", argv, self.s3.environment)
        client.wait()
        return len(client.events("entry"))

    def run(self):
        for number in range(COUNT):
            self.put(number)
        self.index()
        self.replica = Replica("A", self.args.programs, self.s3, self.processes)
        for number in range(self.args.rounds):
            self.round(number % 3)
