"""The compared programs: how each one serves and fetches a folder."""

import contextlib
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

from measure import Failed, Server

FIRST, SAME, CHANGED = "first sync", "nothing changed", "1 % changed"


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def until_connectable(port):
    def wait(process):
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        raise Failed(f"{process.args[0]} does not listen")

    return wait


def version_of(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    return (done.stdout or done.stderr).splitlines()[0].strip()


class Workspace:
    """The working folder of a run, the programs, and the folder to serve."""

    def __init__(self, programs, work, source, own_network):
        self.programs = programs
        self.work = work
        self.source = source
        self.own_network = own_network
        self.changes = 0
        self.names = sorted(path.name for path in source.iterdir())

    def program(self, name):
        return str(self.programs / name)

    def peer(self):
        return str(self.programs / "examples" / "benchmark_peer")


class Tool:
    """A compared program: one row of the tables."""

    jobs = (FIRST, SAME, CHANGED)
    corpora = None  # All.
    needs = ()

    def missing(self):
        return [name for name in self.needs if not shutil.which(name)]

    def versions(self):
        return {}

    def prepare(self, workspace, server, out, job):
        """Untimed preparation, such as lists of URLs."""

    def when_changed(self, workspace, server, names, before):
        """Waits until the server has noticed the change."""


def catalog(workspace, server):
    """The listed IDs by name of a JTP server, and the number of compressed images."""
    data = subprocess.run([workspace.peer(), "list", server.address], capture_output=True).stdout
    assert data[:4] == b"JTPL", data[:40]
    at = 4

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    ids, compressed = {}, 0
    for _ in range(varint()):
        image, flags, length = struct.unpack_from(">QBH", data, at)
        at += 11
        ids[data[at : at + length].decode()] = image
        at += length
        varint()
        compressed += flags >> 3 & 1
    return ids, compressed


class Jtp(Tool):
    def __init__(self, tls=False, parallel=1):
        self.tls, self.parallel = tls, parallel
        self.name = "JTP" + (", TLS" if tls else "") + (f", {parallel} connections" if parallel > 1 else "")

    def key(self):
        return "jtp" + ("-tls" if self.tls else "") + (f"-{self.parallel}" if self.parallel > 1 else "")

    def versions(self):
        return {}

    def serve(self, workspace, log):
        argv = [workspace.program("server"), "--images", str(workspace.source), "--bind", "127.0.0.1:0"]
        argv += ["--cert", str(workspace.work / "cert.pem"), "--key", str(workspace.work / "key.pem")]
        argv += cache_option(workspace)
        server = Server(argv, log)
        wait_until_compressed(workspace, server)
        return server

    def fetch(self, workspace, server, out, job):
        argv = [workspace.program("client"), "--addr", server.address, "--out", str(out)]
        if job != FIRST:
            argv.append("--batch")
        if self.tls:
            argv += ["--tls", "--cert", str(workspace.work / "cert.pem")]
        if self.parallel > 1:
            argv += ["--parallel", str(self.parallel)]
        return argv

    def when_changed(self, workspace, server, names, before):
        if not names:
            return
        end = time.monotonic() + 30
        while time.monotonic() < end:
            ids, _ = catalog(workspace, server)
            if all(ids.get(name) not in (None, before.get(name)) for name in names):
                wait_until_compressed(workspace, server)
                return
            time.sleep(0.2)
        raise Failed("the server does not list the changed images")


def cache_option(workspace):
    """Selects a separate cache for this run, if the server has one."""
    usage = subprocess.run([workspace.program("server"), "--help"], capture_output=True, text=True).stdout
    return ["--cache-dir", str(workspace.work / "cache")] if "--cache-dir" in usage else []


def wait_until_compressed(workspace, server):
    """Waits until the server has compressed its images: until none was added for 2 s."""
    if not any(name.endswith(".bmp") for name in workspace.names):
        return
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 2:
        _, compressed = catalog(workspace, server)
        if compressed != last:
            last, since = compressed, time.monotonic()
        time.sleep(0.2)


@contextlib.contextmanager
def over_line(server, mbit, rtt, log):
    """Puts a slow and long line before a server."""
    where = "url" if hasattr(server, "url") else "address"
    before = getattr(server, where)
    address = re.search(r"127\.0\.0\.1:\d+", before)[0]
    argv = [sys.executable, str(Path(__file__).with_name("delay.py")), address, "--mbit", str(mbit), "--rtt", str(rtt)]
    with Server(argv, log) as line:
        setattr(server, where, before.replace(address, line.address))
        try:
            yield
        finally:
            setattr(server, where, before)


class Rsync(Tool):
    needs = ("rsync",)

    def __init__(self, compress=False):
        self.compress = compress
        self.name = "rsync -z" if compress else "rsync"
        if compress:
            self.corpora = ("bmp",)

    def key(self):
        return "rsync-z" if self.compress else "rsync"

    def versions(self):
        return {"rsync": version_of("rsync", "--version")}

    def serve(self, workspace, log):
        port = free_port()
        config = workspace.work / "rsyncd.conf"
        # As root, the daemon would become `nobody`, who may not enter the temporary folder.
        user = "uid = root\ngid = root\n" if os.geteuid() == 0 else ""
        config.write_text(f"use chroot = no\n{user}[images]\npath = {workspace.source}\nread only = yes\n")
        argv = ["rsync", "--daemon", "--no-detach", f"--port={port}", "--address=127.0.0.1"]
        server = Server(argv + [f"--config={config}"], log, until_connectable(port))
        server.url = f"rsync://127.0.0.1:{port}/images/"
        return server

    def fetch(self, workspace, server, out, job):
        return ["rsync", "-rtz" if self.compress else "-rt", server.url, f"{out}/"]


class Nginx(Tool):
    """nginx, and curl with a list of URLs, which sends If-Modified-Since for existing files."""

    needs = ("nginx", "curl")

    def __init__(self, tls=False, parallel=1):
        self.tls, self.parallel = tls, parallel
        self.name = "nginx + curl" + (", HTTPS" if tls else "") + (" --parallel" if parallel > 1 else "")

    def key(self):
        return "curl" + ("-tls" if self.tls else "") + ("-parallel" if self.parallel > 1 else "")

    def versions(self):
        return {"nginx": version_of("nginx", "-v"), "curl": version_of("curl", "--version")}

    def serve(self, workspace, log):
        port = free_port()
        home = workspace.work / "nginx"
        home.mkdir(exist_ok=True)
        tls = ""
        if self.tls:
            cert, key = home / "cert.pem", home / "key.pem"
            if not cert.exists():
                make_certificate(cert, key)
            tls = f"ssl_certificate {cert}; ssl_certificate_key {key};"
        paths = "".join(
            f"{name}_temp_path {home};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = home / "nginx.conf"
        config.write_text(
            f"""
user root;
worker_processes auto;
pid {home}/nginx.pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    {paths}
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 10000000;
    open_file_cache off;
    autoindex on;
    autoindex_exact_size on;
    server {{
        listen 127.0.0.1:{port}{" ssl" if self.tls else ""};
        {tls}
        root {workspace.source};
    }}
}}
"""
        )
        argv = ["nginx", "-p", str(home), "-c", str(config), "-g", "daemon off;"]
        server = Server(argv, log, until_connectable(port))
        server.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{port}/"
        return server

    def prepare(self, workspace, server, out, job):
        each = [f'url = "{server.url}{quote(name)}"\noutput = "{out}/{name}"\n' for name in workspace.names]
        if job != FIRST:
            # `time-cond` applies to one URL, and `next` resets most options.
            options = "remote-time\nfail\nhttp1.1\n"
            each = [f'{text}time-cond = "{out}/{name}"\n{options}' for text, name in zip(each, workspace.names)]
        (workspace.work / "urls").write_text("next\n".join(each) if job != FIRST else "".join(each))

    def fetch(self, workspace, server, out, job):
        argv = ["curl", "--silent", "--show-error", "--config", str(workspace.work / "urls")]
        if job == FIRST:
            argv += ["--remote-time", "--fail", "--http1.1"]
        if self.tls:
            argv += ["--cacert", str(workspace.work / "nginx" / "cert.pem")]
        if self.parallel > 1:
            argv += ["--parallel", "--parallel-max", str(self.parallel)]
        return argv


class NginxFirst(Nginx):
    jobs = (FIRST,)


def make_certificate(cert, key):
    argv = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    argv += " -addext subjectAltName=IP:127.0.0.1"
    done = subprocess.run(argv.split() + ["-keyout", str(key), "-out", str(cert)], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"openssl: {done.stderr.strip()}")


class Rclone(Nginx):
    """rclone with nginx's listing. `rclone serve` is not used because it caches its listing for 5 minutes."""

    needs = ("nginx", "rclone")

    def __init__(self):
        super().__init__()
        self.name = "nginx + rclone"

    def key(self):
        return "rclone"

    def versions(self):
        return {"nginx": version_of("nginx", "-v"), "rclone": version_of("rclone", "version")}

    def prepare(self, workspace, server, out, job):
        pass

    def fetch(self, workspace, server, out, job):
        return ["rclone", "--config", "", "sync", "--http-url", server.url, ":http:", str(out)]


class Tar(Tool):
    needs = ("tar",)
    jobs = (FIRST,)
    name = "tar over TCP"

    def key(self):
        return "tar"

    def versions(self):
        return {"tar": version_of("tar", "--version")}

    def serve(self, workspace, log):
        argv = [workspace.peer(), "serve-command", "tar", "-C", str(workspace.source), "-cf", "-", "."]
        return Server(argv, log)

    def fetch(self, workspace, server, out, job):
        return [workspace.peer(), "fetch-command", server.address, "tar", "-C", str(out), "-xf", "-"]


class Raw(Tool):
    name = "raw TCP copy (the limit)"
    jobs = (FIRST,)

    def key(self):
        return "raw"

    def serve(self, workspace, log):
        return Server([workspace.peer(), "serve", str(workspace.source)], log)

    def fetch(self, workspace, server, out, job):
        return [workspace.peer(), "fetch", server.address, str(out)]


TOOLS = [
    Jtp(),
    Jtp(tls=True),
    Jtp(parallel=4),
    Jtp(tls=True, parallel=4),
    Rsync(),
    Rsync(compress=True),
    Nginx(),
    NginxFirst(tls=True),
    NginxFirst(parallel=4),
    Tar(),
    Rclone(),
    Raw(),
]


def processor():
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.*)", text)
    return (model[1] if model else "unknown processor", text.count("\nprocessor") + text.startswith("processor"))
