"""The performance goals of JTP: each is a ratio of two measurements of one run."""

import shutil
import subprocess
import time

from measure import Failed, Server
from tools import Workspace, cache_option, wait_until_compressed

GET_ALL = "0500"
LIST = "0101"
LIST_TIMES = 100


def output(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(argv[:2])}: {done.stderr.strip()}")
    return done.stdout


def jtp_server(workspace, *options):
    argv = [workspace.program("server"), "--images", str(workspace.source), "--bind", "127.0.0.1:0", "--no-tls"]
    return Server(argv + list(options), workspace.work / "server.log")


def drained(workspace, server, request, times=1):
    """Bytes per second that a server sends to a discarding reader."""
    size, seconds = output(workspace.peer(), "drain", server.address, request, str(times)).split()
    return int(size), int(size) / float(seconds)


def throughput(workspace):
    """Server to a discarding reader, compared with a plain copy of the same files."""
    with jtp_server(workspace) as ours, Server([workspace.peer(), "serve", str(workspace.source)], workspace.work / "log") as raw:
        wait_until_compressed(workspace, ours)
        drained(workspace, ours, GET_ALL)
        drained(workspace, raw, "")
        size, rate = drained(workspace, ours, GET_ALL)
        raw_size, raw_rate = drained(workspace, raw, "")
    return {"ours": rate, "other": raw_rate, "bytes": size, "other_bytes": raw_size}


def listing(workspace):
    """Repeated LISTs on one connection, compared with sending the same bytes from a file."""
    with jtp_server(workspace) as ours:
        once = workspace.work / "list"
        shutil.rmtree(once, ignore_errors=True)
        once.mkdir()
        done = subprocess.run([workspace.peer(), "list", ours.address], capture_output=True)
        (once / "list").write_bytes(done.stdout)
        raw = [workspace.peer(), "serve", str(once), str(LIST_TIMES)]
        with Server(raw, workspace.work / "log") as raw:
            drained(workspace, ours, LIST, LIST_TIMES)
            drained(workspace, raw, "")
            _, rate = drained(workspace, ours, LIST, LIST_TIMES)
            _, raw_rate = drained(workspace, raw, "")
        shutil.rmtree(once)
    return {"ours": rate, "other": raw_rate}


def hashing(workspace, folder):
    return float(output(workspace.peer(), "hash", str(folder)).split()[2])


def unchanged(workspace):
    """A second --batch without changes, compared with reading and hashing all files."""
    out = workspace.work / "out"
    shutil.rmtree(out, ignore_errors=True)
    # The state after a fetch; hard links save the space of a second copy.
    subprocess.run(["cp", "-rl", workspace.source, out], check=True)
    time.sleep(1)
    with jtp_server(workspace) as server:
        argv = [workspace.program("client"), "--addr", server.address, "--out", str(out), "--batch", "--quiet"]
        output(*argv)
        hashing(workspace, out)
        started = time.perf_counter()
        output(*argv)
        seconds = time.perf_counter() - started
    hashed = hashing(workspace, out)
    shutil.rmtree(out)
    return {"ours": seconds, "other": hashed}


def restart(workspace):
    """A server's second start, compared with reading and hashing all files."""
    options = cache_option(workspace)
    if not options:
        return None
    with jtp_server(workspace, *options):
        pass
    with jtp_server(workspace, *options):
        pass
    with jtp_server(workspace, *options) as server:
        seconds = server.start_seconds
    return {"ours": seconds, "other": hashing(workspace, workspace.source)}


def start(workspace):
    """A server's first start, compared with reading and hashing all files."""
    shutil.rmtree(workspace.work / "cache", ignore_errors=True)
    with jtp_server(workspace, *cache_option(workspace)) as server:
        seconds = server.start_seconds
    return {"ours": seconds, "other": hashing(workspace, workspace.source)}


CLAIMS = [
    # (goal, corpus, function)
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


def measure_all(corpora, folder, programs, ledger, has_time, rounds):
    for corpus in corpora:
        chosen = [claim for claim in CLAIMS if claim[1] == corpus.name]
        if corpus.name == "repository":
            # Only a smoke test: with so few images the ratios are meaningless.
            chosen = list({claim[0]: claim for claim in CLAIMS}.values())
        if not chosen:
            continue
        source = folder / "source"
        corpus.lay_out(source)
        # The server treats files modified just now as incomplete.
        time.sleep(0.2)
        workspace = Workspace(programs, folder, source, None)
        for key, _, how in chosen:
            for number in range(1, rounds + 1):
                if ledger.has(kind="claim", claim=key, corpus=corpus.name, round=number):
                    continue
                if not has_time():
                    return
                found = how(workspace)
                if found is None:
                    break
                ledger.add(kind="claim", claim=key, corpus=corpus.name, round=number, **found)
                ratio = found["ours"] / found["other"]
                print(f"  {corpus.name:10} {key:26} {number}: {ratio:8.3f}", flush=True)
        shutil.rmtree(source)
