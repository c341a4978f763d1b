"""Kills replicas of a bucket in mid-sync, and checks that each image and each change arrives once. See `run`."""

import argparse
import glob
import os
import shutil
import signal
import string
import sys
import tempfile
import time
from pathlib import Path

from bucket import S3, SIZE, picture
from nodes import Nodes
from processes import PROXY, Crowd, Failed, Processes, Relay, Replica, accepts, duplicates, eventually, free_port
from throughput import Throughput
from variants import Variants

HERE = Path(__file__).resolve().parent
# Bytes of responses beside images and lists: one header for each image and each response.
SLACK = 32 * 1024
# How each round fetches, and the number of connections, each of which can have an image under way.
WAYS = [(["--batch"], 1), (["--batch", "--keep-alive"], 1), (["--keep-alive", "--parallel", "4"], 4)]


def arguments():
    parser = argparse.ArgumentParser(prog="examples/replicas/run", description=__doc__)
    parser.add_argument("--programs", type=Path, required=True, help="folder with the programs server and client [build them]")
    parser.add_argument("--rounds", type=int, help="replicas to kill [3; 1 with --quick]")
    parser.add_argument("--images", type=int, help="images in the bucket [300; 40 with --quick]")
    parser.add_argument("--quick", action="store_true", help="do not wait for another replica to index, and skip the outage")
    parser.add_argument("--throughput", action="store_true", help="compare with rclone, s5cmd and aws-cli instead")
    parser.add_argument("--variants", action="store_true", help="compare a server that compresses images with one that finds them compressed")
    parser.add_argument("--nodes", action="store_true", help="kill nodes of the S3 server instead")
    parser.add_argument("--s3-server", type=Path, help="with --throughput and --nodes: the program s3s-fs, in place of moto")
    args = parser.parse_args()
    args.rounds = args.rounds or (1 if args.quick else 3)
    args.images = args.images or (40 if args.quick else 300)
    args.programs = args.programs.resolve()
    args.s3_server = args.s3_server and args.s3_server.resolve()
    return args


def say(text):
    print(text, flush=True)


def require(holds, what):
    if not holds:
        raise Failed(what)


class Scenario:
    def __init__(self, args, processes):
        self.args, self.processes = args, processes
        self.s3 = S3(sys.executable, processes)
        self.next = 0
        self.replicas, self.watchers = [], []
        # Names and bytes of each image that a watcher has to fetch, besides those that it found first.
        self.changes = []

    def add(self):
        name, image = picture(self.next)
        self.next += 1
        self.s3.put(name, image)
        return name

    def client(self, name, *args):
        argv = [str(self.args.programs / "client"), "--json", *args]
        return self.processes.start(name, argv, self.s3.environment)

    def index(self):
        """Runs a job that only indexes. Returns what it reports."""
        argv = [str(self.args.programs / "server"), "--images", self.s3.url, "--index-only"]
        job = self.processes.start("index", argv, self.s3.environment)
        job.wait()
        return job.errors()

    def fill(self):
        for _ in range(self.args.images):
            self.add()
        count = self.args.images
        for read in (count, 0):
            started = time.monotonic()
            report = self.index()
            require(f"{count} objects, {read} read, {read} changes" in report, report)
            say(f"indexed {count} objects, {read} of them read: {time.monotonic() - started:.1f} s")

    def start(self):
        for name in "ABC":
            self.replicas.append(Replica(name, self.args.programs, self.s3, self.processes))
        say("start of a replica with the catalog: " + ", ".join(f"{replica.seconds:.2f} s" for replica in self.replicas))
        eventually("a replica indexes", self.holder)

    def holder(self, besides=None):
        """The replica that says that it indexes."""
        for replica in self.replicas:
            said = [line for line in replica.process.err.read_text().splitlines() if "server indexes the bucket" in line]
            if replica is not besides and said and "this server" in said[-1]:
                return replica
        return None

    def folder(self, client):
        return self.processes.folder / f"out-{client}"

    def compare(self, name):
        """Checks names and bytes of all images."""
        found = {path.name: path.read_bytes() for path in self.folder(name).iterdir() if not path.name.startswith(".")}
        wrong = [key for key in found.keys() | self.s3.images.keys() if found.get(key) != self.s3.images.get(key)]
        require(not wrong, f"the folder of {name} differs from the bucket: {sorted(wrong)[:5]}")

    def sync(self, name, way, order, victim=None):
        """Fetches all images through relays; kills `victim` after half of them. Returns the bytes that were sent."""
        relays = [Relay(replica.address) for replica in order]
        half = self.args.images * SIZE // 2 + SIZE // 3
        if victim:
            relays[0].hold(half)
        client = self.client(name, *way, "--out", str(self.folder(name)), *(relay.address for relay in relays))
        if victim:
            eventually("half of the images have arrived", relays[0].held.is_set)
            victim.kill()
            relays[0].release()
        client.wait()
        fetched = client.events("fetched")
        require(len(fetched) == len(self.s3.images), f"{len(fetched)} images were fetched")
        require(not duplicates(event["id"] for event in fetched), f"images were fetched twice: {fetched}")
        self.compare(name)
        for relay in relays:
            relay.refuse()
        if victim:
            require(relays[1].bytes > half // 2, f"{order[1].name} did not go on: {[relay.bytes for relay in relays]}")
        shutil.rmtree(self.folder(name))
        return sum(relay.bytes for relay in relays)

    def list_size(self):
        relay = Relay(self.replicas[-1].address)
        client = self.client("list", "--list", relay.address)
        client.wait()
        relay.refuse()
        return relay.bytes, len(client.events("entry"))

    def round(self, number):
        # Replicas that index and replicas that do not are killed in turn.
        holder = self.holder()
        require(holder, "no replica indexes")
        others = [replica for replica in self.replicas if replica is not holder]
        # Without --quick, the one that indexes is the first: another one has to take over.
        victim = holder if (number % 2 == 0) != self.args.quick else others[number // 2 % 2]
        order = [victim, *(replica for replica in self.replicas if replica is not victim)]
        way, connections = WAYS[number % len(WAYS)]
        expected = len(self.s3.images) * SIZE
        list_size, _ = self.list_size()
        received = self.sync(f"sync-{number}", way, order, victim)
        # One list from the first replica, and one from the next.
        again = received - expected - 2 * list_size
        require(received >= expected, f"only {received} bytes were sent")
        require(again <= connections * SIZE + SLACK, f"{again} bytes were sent again, over {connections} connections")
        indexes = " (it indexed)" if victim is holder else ""
        say(
            f"kill {number + 1}: {victim.name}{indexes} in mid-sync of {len(self.s3.images)} images, client {' '.join(way)}: exit code 0, "
            f"{max(0, received - expected) / SIZE:.2f} images and lists sent again"
        )
        self.change(number, victim, victim is holder)
        victim.start()

    def change(self, number, victim, holder_killed):
        """Changes the bucket, and waits until each watcher and each replica has the changes."""
        started = time.monotonic()
        added = [self.add() for _ in range(3)]
        # Other bytes below the key of an image, and an image that is removed.
        replaced, removed = sorted(self.s3.images)[0], sorted(self.s3.images)[1]
        extension = Path(replaced).suffix
        while not picture(self.next)[0].endswith(extension):
            self.next += 1
        self.s3.put(replaced, picture(self.next)[1])
        self.next += 1
        self.s3.delete(removed)
        self.changes += [*added, replaced]
        if self.args.quick:
            # A job beside a replica that indexes, too.
            self.index()
        elif holder_killed:
            seconds = eventually("another replica indexes", lambda: self.holder(victim))
            say(f"  {self.holder(victim).name} indexes {seconds:.1f} s after the kill and the sync")
        logged, log = time.monotonic(), self.s3.log()

        def is_told():
            nonlocal logged, log
            before, log = log, self.s3.log()
            logged = time.monotonic() if log != before else logged
            expected = self.first + len(self.changes)
            return all(len(watcher.events("fetched")) >= expected for _, watcher in self.watchers)

        eventually("each watcher has all changes", is_told)
        now = time.monotonic()
        say(f"  each of {len(self.watchers)} watchers has 4 new images {now - started:.1f} s after the first change, {now - logged:.1f} s after the log")
        for replica in self.replicas:
            if replica is not victim:
                self.has_all(replica)

    def has_all(self, replica):
        def same():
            client = self.client("list", "--list", replica.address)
            client.wait()
            return sorted(event["name"] for event in client.events("entry")) == sorted(self.s3.images)

        eventually(f"{replica.name} lists the bucket as it is", same)

    def watch(self):
        """A watcher for each replica, with the others as its next ones."""
        self.first = len(self.s3.images)
        for number, replica in enumerate(self.replicas):
            name = f"watcher-{replica.name}"
            addresses = [self.replicas[(number + step) % 3].address for step in range(3)]
            watcher = self.client(name, "--batch", "--watch", "--out", str(self.folder(name)), *addresses)
            self.watchers.append((name, watcher))
        for name, watcher in self.watchers:
            eventually(f"{name} has the images", lambda watcher=watcher: len(watcher.events("fetched")) >= self.first)

    def end_watchers(self):
        for name, watcher in self.watchers:
            watcher.popen.send_signal(signal.SIGINT)
            watcher.wait(130)
            fetched = watcher.events("fetched")
            require(not duplicates(event["id"] for event in fetched), f"{name} fetched images twice")
            names = sorted(event["name"] for event in fetched[self.first :])
            require(names == sorted(self.changes), f"{name} fetched {names}, not {sorted(self.changes)}")
            for key, image in self.s3.images.items():
                require((self.folder(name) / key).read_bytes() == image, f"{name} has other bytes in {key}")
        say(f"each watcher fetched the {len(self.changes)} changes once")

    def hand_over(self):
        """Ends the replica that indexes with SIGTERM: it gives up the lease, and another one takes it at its next look."""
        holder = self.holder()
        require(holder, "no replica indexes")
        holder.process.popen.send_signal(signal.SIGTERM)
        holder.process.wait()
        lease = self.s3.read(".jtp/v1/lease")
        # The last byte before the checksum.
        released = lease[-9] == 1
        if not self.args.quick:
            seconds = eventually("another replica indexes", lambda: self.holder(holder))
            say(f"{holder.name} indexed and was ended by SIGTERM: {self.holder(holder).name} indexes after {seconds:.1f} s")
            require(seconds < 9, f"another replica indexed after {seconds} s only")
        else:
            # Another one may have taken it already.
            require(released or self.holder(holder), "the lease was not given up")
            say(f"{holder.name} indexed and was ended by SIGTERM: it gave up the lease")
        holder.start()

    def start_proxy(self, name, relays):
        """Starts a load balancer in front of the relays of the replicas. Returns its address, `None` if it is not installed."""
        program = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
        modules = glob.glob("/usr/lib*/nginx/modules/ngx_stream_module.so")
        if not program or (name == "nginx" and not modules):
            say(f"{name} is not installed: skipped")
            return None
        frontend = f"127.0.0.1:{free_port()}"
        variables = {"JTP_BIND": frontend, "JTP_SOURCE": PROXY}
        variables.update({f"JTP_{replica.name}": relay.address for replica, relay in zip(self.replicas, relays)})
        if name == "nginx":
            config = self.processes.folder / "nginx.conf"
            text = string.Template((HERE / "nginx.conf").read_text()).safe_substitute(variables)
            config.write_text(text.replace("modules/ngx_stream_module.so", modules[0]))
            argv = [program, "-p", str(self.processes.folder), "-e", "stderr", "-c", str(config)]
        else:
            argv = [program, "-db", "-f", str(HERE / "haproxy.cfg")]
        self.processes.start(name, argv, {**self.s3.environment, **variables})
        eventually(f"{name} listens", lambda: accepts(frontend))
        return frontend

    def behind(self, name):
        """A client knows a load balancer alone. The replica that serves it is killed in mid-sync."""
        # nginx does not send the PROXY protocol's version 2.
        source = PROXY if name == "haproxy" else "127.0.0.1"
        relays = [Relay(replica.address, source) for replica in self.replicas]
        frontend = self.start_proxy(name, relays)
        if not frontend:
            return
        list_size, _ = self.list_size()
        for relay in relays:
            relay.hold(len(self.s3.images) * SIZE // 2)
        client = self.client(name, "--batch", "--out", str(self.folder(name)), frontend)
        eventually("half of the images have arrived", lambda: any(relay.held.is_set() for relay in relays))
        [used] = [number for number, relay in enumerate(relays) if relay.held.is_set()]
        victim = self.replicas[used]
        victim.kill()
        relays[used].refuse()
        for relay in relays:
            relay.release()
        client.wait()
        self.compare(name)
        require(len(client.events("fetched")) == len(self.s3.images), "images were fetched twice")
        again = sum(relay.bytes for relay in relays) - len(self.s3.images) * SIZE - 2 * list_size
        require(again <= SIZE + SLACK, f"{again} bytes were sent again")
        say(f"behind {name}: {victim.name} killed in mid-sync, exit code 0, {max(0, again) / SIZE:.2f} images sent again")
        victim.start()

    def crowd(self, replica):
        """Asks for all images over 1,000 connections, again and again, while the S3 server is stopped."""
        crowd = Crowd(replica.address, 1000)
        sizes = []
        for _ in range(6):
            crowd.run(10)
            sizes.append(replica.memory())
        require(crowd.errors > 1000, f"{crowd.errors} answers in a minute")
        require(sizes[-1] < 1.1 * sizes[0] + 4e6, f"memory grows: {sizes}")
        shown = ", ".join(f"{size / 1e6:.0f}" for size in sizes)
        say(f"  1,000 connections that ask for images: {crowd.errors} answers ServerError in 60 s; memory each 10 s: {shown} MB")

    def outage(self):
        """The S3 server answers no request for a while."""
        replica = self.replicas[0]
        replica.kill()
        replica.flags = ["--max-connections-per-ip", "0"]
        replica.start()
        with self.s3.stopped():
            started = time.monotonic()
            _, entries = self.list_size()
            require(entries == len(self.s3.images), f"{entries} entries")
            say(f"S3 server stopped: a list of {entries} images takes {time.monotonic() - started:.2f} s")
            client = self.client("outage", "--out", str(self.folder("outage")), replica.address)
            client.wait(1)
            seconds = time.monotonic() - started
            require(seconds < 30, f"the client ended after {seconds} s")
            say(f"  a client gives up after {seconds:.0f} s")
            self.crowd(replica)
            started = time.monotonic()
            client = self.client("once", "--retries", "0", "--out", str(self.folder("once")), replica.address)
            client.wait(1)
            say(f"  a client with --retries 0 then ends after {time.monotonic() - started:.2f} s")
            patient = self.client("patient", "--retries", "8", "--out", str(self.folder("patient")), replica.address)
            eventually("a client tries again", lambda: patient.events("retry"))
        started = time.monotonic()
        patient.wait()
        self.compare("patient")
        say(f"  S3 server continued: a client with --retries 8 ends with exit code 0 after {time.monotonic() - started:.1f} s")
        started = time.monotonic()
        self.sync("recovered", ["--batch"], self.replicas)
        say(f"  S3 server continued: all images were fetched after {time.monotonic() - started:.1f} s")

    def idle(self):
        """Counts the requests of replicas with default settings and without clients."""
        for replica in self.replicas:
            replica.kill()
            replica.interval = []
            replica.start()
        eventually("a replica indexes", self.holder)
        seconds = 60
        before, started = self.s3.requests(), time.monotonic()
        while time.monotonic() - started < seconds:
            time.sleep(0.1)
        after = self.s3.requests()
        rates = {method: (count - before.get(method, 0)) * 3600 // seconds for method, count in after.items()}
        say("requests in an hour of three idle replicas: " + ", ".join(f"{rate} {method}" for method, rate in sorted(rates.items()) if rate))

    def run(self):
        started = time.monotonic()
        self.fill()
        self.start()
        self.watch()
        undisturbed = self.sync("undisturbed", ["--batch"], self.replicas)
        say(f"undisturbed sync of {self.args.images} images: {undisturbed - self.args.images * SIZE} bytes beside the images")
        for number in range(self.args.rounds):
            self.round(number)
        self.hand_over()
        if not self.args.quick:
            self.behind("haproxy")
            self.behind("nginx")
            self.outage()
        self.end_watchers()
        if not self.args.quick:
            self.idle()
        say(f"all checks passed: {time.monotonic() - started:.1f} s")


def main():
    # Turns SIGTERM into an exit with cleanup.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A job in the background of a script ignores SIGINT, and so would the clients that get it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="jtp-replicas-") as folder, Processes(Path(folder)) as processes:
        if args.throughput:
            Throughput(args, processes, say).run()
        elif args.variants:
            Variants(args, processes, say).run()
        elif args.nodes:
            Nodes(args, processes, say).run()
        else:
            Scenario(args, processes).run()


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
