"""The S3 server, its bucket, and the pictures in it."""

import contextlib
import json
import os
import shutil
import signal
import urllib.request
import zlib
from pathlib import Path

import boto3
from botocore.config import Config

from processes import accepts, eventually, free_port

REPOSITORY = Path(__file__).resolve().parents[2]
BUCKET, PREFIX = "photos", "2024/"
PNG = b"\x89PNG\r\n\x1a\n"
# One byte more than a server sends in one piece.
SIZE = 256 * 1024 + 1
# What only a request to a cloud could need is fake, or leads to a port that refuses connections.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "example",
    "AWS_SECRET_ACCESS_KEY": "example",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_METADATA_ENDPOINT": "http://127.0.0.1:1",
}


def png_chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def picture(number):
    """A picture of the repository with comments that make its bytes unique and its size SIZE.

    All pictures have the same size, so the number of bytes on a connection shows how many were sent.
    """
    samples = sorted(path for path in (REPOSITORY / "images").iterdir() if path.suffix in (".jpg", ".png"))
    sample = samples[number % len(samples)]
    image, left = sample.read_bytes(), SIZE - sample.stat().st_size
    text = (f"picture {number} " * SIZE).encode()
    if image.startswith(PNG):
        # Before IEND, the last 12 bytes. A chunk has 12 bytes beside its data.
        image = image[:-12] + png_chunk(b"tEXt", b"Comment\0" + text[: left - 20]) + image[-12:]
    else:
        while left:
            # COM segments after SOI. A segment has 4 bytes beside its data; the last one gets at least one byte.
            size = min(left, 60_000) if left >= 60_005 or left <= 60_000 else left // 2
            image = image[:2] + b"\xff\xfe" + (size - 2).to_bytes(2, "big") + text[: size - 4] + image[2:]
            left -= size
    assert len(image) == SIZE
    return f"{number:05}{sample.suffix}", image


class S3:
    """The S3 server as a process, with an empty bucket."""

    def __init__(self, python, processes, program=None, nodes=1):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        if program:
            # s3s-fs: far faster than moto; its conditional puts are not atomic. All nodes have the same folder.
            self.processes, self.program, self.node_environment = processes, program, environment
            (processes.folder / "s3").mkdir()
            self.ports = [free_port() for _ in range(nodes)]
            self.nodes = [None] * nodes
            for node in range(nodes):
                self.start_node(node)
            port = self.ports[0] if nodes == 1 else self.balance()
        else:
            argv = [python, str(Path(__file__).with_name("s3_server.py"))]
            self.process = processes.start("s3", argv, environment)
            port = int(self.process.line())
        self.endpoint = f"http://127.0.0.1:{port}"
        self.environment = {**environment, **ENVIRONMENT, "AWS_ENDPOINT_URL": self.endpoint}
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=ENVIRONMENT["AWS_REGION"],
            aws_access_key_id="example",
            aws_secret_access_key="example",
            config=Config(proxies={}, s3={"addressing_style": "path"}),
        )
        self.client.create_bucket(Bucket=BUCKET)
        self.images = {}

    def start_node(self, node):
        port, root = str(self.ports[node]), str(self.processes.folder / "s3")
        argv = [str(self.program), "--host", "127.0.0.1", "--port", port, "--access-key", "example", "--secret-key", "example", root]
        self.nodes[node] = self.processes.start("s3", argv, self.node_environment)
        eventually("the S3 server listens", lambda: accepts(f"127.0.0.1:{port}"))

    def balance(self):
        """Starts HAProxy in front of the nodes. Returns its port."""
        port = free_port()
        variables = {"JTP_BIND": f"127.0.0.1:{port}"}
        variables.update({f"JTP_{name}": f"127.0.0.1:{node}" for name, node in zip("ABC", self.ports)})
        haproxy = shutil.which("haproxy", path=os.environ["PATH"] + ":/usr/sbin")
        argv = [haproxy, "-db", "-f", str(Path(__file__).with_name("s3-nodes.cfg"))]
        self.processes.start("s3-nodes", argv, {**self.node_environment, **variables})
        eventually("HAProxy listens", lambda: accepts(f"127.0.0.1:{port}"))
        return port

    url = f"s3://{BUCKET}/{PREFIX.rstrip('/')}"

    def put(self, name, image):
        self.client.put_object(Bucket=BUCKET, Key=PREFIX + name, Body=image)
        self.images[name] = image

    def delete(self, name):
        self.client.delete_object(Bucket=BUCKET, Key=PREFIX + name)
        del self.images[name]

    def read(self, name):
        return self.client.get_object(Bucket=BUCKET, Key=PREFIX + name)["Body"].read()

    def log(self):
        """The newest object of the catalog's log."""
        listed = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}.jtp/v1/log/")
        return max((entry["Key"] for entry in listed.get("Contents", [])), default=None)

    def requests(self):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.endpoint}/-/requests", timeout=30) as answer:
            return json.load(answer)

    @contextlib.contextmanager
    def stopped(self):
        """The server accepts connections, and answers no request."""
        self.process.popen.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.popen.send_signal(signal.SIGCONT)
