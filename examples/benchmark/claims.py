"""What JTP claims of itself, each a ratio of two things measured in one run."""

import shutil
import subprocess
import time

from measure import Failed, Server
from tools import Place, cache_option, wait_for_forms

GET_ALL = "0500"
LIST = "0101"
LIST_TIMES = 100


def output(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(argv[:2])}: {done.stderr.strip()}")
    return done.stdout


def jtp_server(place, *options):
    argv = [place.program("server"), "--images", str(place.source), "--bind", "127.0.0.1:0", "--no-tls"]
    return Server(argv + list(options), place.work / "server.log")


def drained(place, server, request, times=1):
    """Bytes a second of what a server sends to a reader that throws it away."""
    size, seconds = output(place.peer(), "drain", server.address, request, str(times)).split()
    return int(size), int(size) / float(seconds)


def throughput(place):
    """Server to a discarding reader, against the same files by read and write alone."""
    with jtp_server(place) as ours, Server([place.peer(), "serve", str(place.source)], place.work / "log") as raw:
        wait_for_forms(place, ours)
        drained(place, ours, GET_ALL)
        drained(place, raw, "")
        size, rate = drained(place, ours, GET_ALL)
        raw_size, raw_rate = drained(place, raw, "")
    return {"ours": rate, "other": raw_rate, "bytes": size, "other_bytes": raw_size}


def listing(place):
    """LIST over and over on one connection, against a file of the same bytes sent as often."""
    with jtp_server(place) as ours:
        once = place.work / "list"
        shutil.rmtree(once, ignore_errors=True)
        once.mkdir()
        done = subprocess.run([place.peer(), "list", ours.address], capture_output=True)
        (once / "list").write_bytes(done.stdout)
        raw = [place.peer(), "serve", str(once), str(LIST_TIMES)]
        with Server(raw, place.work / "log") as raw:
            drained(place, ours, LIST, LIST_TIMES)
            drained(place, raw, "")
            _, rate = drained(place, ours, LIST, LIST_TIMES)
            _, raw_rate = drained(place, raw, "")
        shutil.rmtree(once)
    return {"ours": rate, "other": raw_rate}


def hashing(place, folder):
    return float(output(place.peer(), "hash", str(folder)).split()[2])


def unchanged(place):
    """A second --batch, when nothing has changed, against reading and hashing all files."""
    out = place.work / "out"
    shutil.rmtree(out, ignore_errors=True)
    # As after a fetch, without the room for two copies.
    subprocess.run(["cp", "-rl", place.source, out], check=True)
    time.sleep(1)
    with jtp_server(place) as server:
        argv = [place.program("client"), "--addr", server.address, "--out", str(out), "--batch", "--quiet"]
        output(*argv)
        hashing(place, out)
        started = time.perf_counter()
        output(*argv)
        seconds = time.perf_counter() - started
    hashed = hashing(place, out)
    shutil.rmtree(out)
    return {"ours": seconds, "other": hashed}


def restart(place):
    """A server's second start, against reading and hashing all files."""
    options = cache_option(place)
    if not options:
        return None
    with jtp_server(place, *options):
        pass
    with jtp_server(place, *options):
        pass
    with jtp_server(place, *options) as server:
        seconds = server.start_seconds
    return {"ours": seconds, "other": hashing(place, place.source)}


def start(place):
    """A server's first start, against reading and hashing all files."""
    shutil.rmtree(place.work / "cache", ignore_errors=True)
    with jtp_server(place, *cache_option(place)) as server:
        seconds = server.start_seconds
    return {"ours": seconds, "other": hashing(place, place.source)}


CLAIMS = [
    # What, on which corpus, how.
    ("throughput", "photos", throughput),
    ("throughput", "tiny", throughput),
    ("listing", "tiny", listing),
    ("unchanged", "tiny", unchanged),
    ("start", "tiny", start),
    ("restart", "tiny", restart),
    ("unchanged", "web", unchanged),
    ("start", "web", start),
    ("restart", "web", restart),
]


def measure_all(corpora, folder, programs, ledger, in_time, rounds):
    for corpus in corpora:
        chosen = [claim for claim in CLAIMS if claim[1] == corpus.name]
        if corpus.name == "repository":
            # To see that they work; the ratios of so few images mean nothing.
            chosen = list({claim[0]: claim for claim in CLAIMS}.values())
        if not chosen:
            continue
        source = folder / "source"
        corpus.lay_out(source)
        # Files that have just been written are not taken for settled.
        time.sleep(0.2)
        place = Place(programs, folder, source, None)
        for key, _, how in chosen:
            for number in range(1, rounds + 1):
                if ledger.has(kind="claim", claim=key, corpus=corpus.name, round=number):
                    continue
                if not in_time():
                    return
                found = how(place)
                if found is None:
                    break
                ledger.add(kind="claim", claim=key, corpus=corpus.name, round=number, **found)
                ratio = found["ours"] / found["other"]
                print(f"  {corpus.name:10} {key:26} {number}: {ratio:8.3f}", flush=True)
        shutil.rmtree(source)
