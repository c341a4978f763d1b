"""The performance goals of JTP: each is a ratio of two measurements of one run."""

import shutil
import subprocess
import time

from measure import Failed, Server, memory, run
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


def least(action, times=10):
    """The shortest time of several runs."""
    def timed():
        started = time.perf_counter()
        action()
        return time.perf_counter() - started

    return min(timed() for _ in range(times))


def tls_start(workspace):
    """`client --list` over TLS: a process, a connection, a handshake and a request."""
    pem = [workspace.work / "start-cert.pem", workspace.work / "start-key.pem"]
    argv = [workspace.program("server"), "--images", str(workspace.source), "--bind", "127.0.0.1:0"]
    argv += ["--cert", str(pem[0]), "--key", str(pem[1]), "--allow-plain", *cache_option(workspace)]
    with Server(argv, workspace.work / "server.log") as server:
        client = [workspace.program("client"), "--addr", server.address, "--list", "--quiet"]
        encrypted = client + ["--tls", "--cert", str(pem[0])]
        least(lambda: output(*encrypted), 1)
        return {"ours": least(lambda: output(*encrypted)), "other": 0.010, "plain": least(lambda: output(*client))}


def held(pid):
    """The memory of a process in bytes."""
    return memory([pid])


def server_memory(workspace):
    """The idle server's memory above that of a server of one image, per image, compared with 64 B and the name."""
    one = workspace.work / "one"
    shutil.rmtree(one, ignore_errors=True)
    one.mkdir()
    shutil.copy(workspace.source / workspace.names[0], one)
    with jtp_server(workspace, *cache_option(workspace)) as many:
        time.sleep(1)
        all_images = held(many.pid)
    alone = Workspace(workspace.programs, workspace.work, one, None)
    with jtp_server(alone, *cache_option(workspace)) as few:
        time.sleep(1)
        base = held(few.pid)
    shutil.rmtree(one)
    return per_image(workspace, all_images - base, 64)


def client_memory(workspace):
    """The client's peak in a --batch without changes, per image, compared with 100 B and the name."""
    out = workspace.work / "out"
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run(["cp", "-rl", workspace.source, out], check=True)
    time.sleep(1)
    with jtp_server(workspace, *cache_option(workspace)) as server:
        argv = [workspace.program("client"), "--addr", server.address, "--out", str(out), "--batch", "--quiet"]
        output(*argv)
        log = workspace.work / "log"
        peak = run(argv, log, server, sample=True)["client_memory"]
        base = run(argv[:3] + ["--list", "--include", "none", "--quiet"], log, server, sample=True)["client_memory"]
    shutil.rmtree(out)
    return per_image(workspace, peak - base, 100)


def per_image(workspace, size, goal):
    count = len(workspace.names)
    name = sum(len(name.encode()) for name in workspace.names) / count
    return {"ours": max(size, 0) / count, "other": goal + name}


CLAIMS = [
    # (goal, corpus, function)
    ("throughput", "photos", throughput),
    ("throughput", "tiny", throughput),
    ("listing", "tiny", listing),
    ("unchanged", "tiny", unchanged),
    ("start", "tiny", start),
    ("restart", "tiny", restart),
    ("server memory", "tiny", server_memory),
    ("client memory", "tiny", client_memory),
    ("tls start", "small", tls_start),
    ("start", "million", start),
    ("restart", "million", restart),
    ("server memory", "million", server_memory),
    ("client memory", "million", client_memory),
    ("unchanged", "web", unchanged),
    ("start", "web", start),
    ("restart", "web", restart),
]


def measure_all(corpora, folder, programs, ledger, has_time, rounds):
    for corpus in corpora:
        chosen = [claim for claim in CLAIMS if claim[1] == corpus.name]
        if corpus.name in ("repository", "desktop"):
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
