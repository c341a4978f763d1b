"""The program `client` against a server in Python that follows RFC.md or behaves like deployed ones (R7)."""

import signal
import ssl
import unittest

import zstandard

from jtp import names, wire
from jtp.body import image_id
from jtp.net import ALPN, TIMEOUT, SocketServer
from jtp.programs import WorkDir, ServerProgram, catalog, eventually, noise, png, samples
from jtp.server import Image, Store

DEPLOYED_QUIRKS = ("raw sizes", "swallows a byte", "leaves a byte", "cancel at the end", "gap before WATCH")


def image(id_, name, kind, data):
    """An image as the server sends it: BMPs compressed."""
    if kind != 3:
        return Image(name, kind, id_, data)
    found = Image(name, kind | wire.COMPRESSED, id_, zstandard.compress(data, 3))
    found.raw_size = len(data)
    return found


def new(name, data):
    return image(image_id(data), name, names.file_type(data[:16], name.rpartition(".")[2]), data)


class Jobs(unittest.TestCase):
    """The modes of `client`, with a server that follows RFC.md, on plain TCP."""

    quirks, secure = (), False

    @classmethod
    def setUpClass(cls):
        cls.files = samples()
        cls.catalog = catalog(cls.files)
        cls.expected = {name: data for _, name, _, data in cls.catalog}
        cls.workdir = WorkDir()
        cls.addClassCleanup(cls.workdir.__exit__)
        cls.tls = cls.accepting(cls.workdir) if cls.secure else None

    @classmethod
    def accepting(cls, workdir):
        """A TLS context with the certificate that the program `server` creates when it first starts."""
        with ServerProgram(workdir):
            pass
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(workdir.path / "cert.pem", workdir.path / "key.pem")
        if not cls.quirks:
            context.set_alpn_protocols([ALPN])  # T1: deployed servers select none.
        return context

    def serving(self, *failures, **options):
        store = options.pop("store", None) or Store(image(*entry) for entry in self.catalog)
        return SocketServer(store, self.tls, self.quirks + options.pop("quirks", ()), failures)

    def args(self, workdir, *args):
        if not self.secure:
            return args
        certificate = workdir.path / "cert.pem"
        certificate.write_bytes((self.workdir.path / "cert.pem").read_bytes())
        return ("--tls", *args)

    def run_client(self, workdir, serving, *args, code=0):
        return workdir.client(serving.address, *self.args(workdir, *args), code=code)

    def check(self, workdir):
        self.assertEqual(sorted(workdir.fetched()), sorted(self.expected))
        for name, data in workdir.fetched().items():
            self.assertTrue(data == self.expected[name], name)

    def test_fetch_all(self):
        for args in (), ("--keep-alive",), ("--parallel", "4"), ("--keep-alive", "--parallel", "3", "--repeat", "2"):
            with self.subTest(args), WorkDir() as workdir, self.serving() as serving:
                self.run_client(workdir, serving, *args)
                self.check(workdir)
                if self.secure:
                    self.assertEqual(set(serving.alpn), {None if self.quirks else ALPN})

    def test_batch(self):
        with WorkDir() as workdir, self.serving() as serving:
            workdir.output.mkdir()
            for name in list(self.expected)[:5]:
                (workdir.output / name).write_bytes(self.expected[name])
            (workdir.output / "old.png").write_bytes(b"not in the catalog")
            out = self.run_client(workdir, serving, "--batch")
            self.assertIn(f"fetched {len(self.expected) - 5} images", out)
            self.assertIn("5 already there", out)
            (workdir.output / "old.png").unlink()
            self.check(workdir)
            out = self.run_client(workdir, serving, "--batch")
            self.assertIn("fetched 0 images (0 B)", out)

    def test_list(self):
        with WorkDir() as workdir, self.serving() as serving:
            out = self.run_client(workdir, serving, "--list")
            self.assertEqual([line.split()[0] for line in out.splitlines()], [id_ for id_, *_ in self.catalog])
            self.assertFalse(workdir.output.exists())

    def test_watch(self):
        store = Store([new("a.png", png(1))])
        with WorkDir() as workdir, self.serving(store=store) as serving:
            running = workdir.start_client(serving.address, *self.args(workdir, "--watch"))
            try:
                eventually("the first image is fetched", lambda: "a.png" in workdir.fetched())
                for n in range(3):
                    eventually("the client watches", serving.is_watched)
                    added = new(f"new-{n}.bmp", b"BM" + noise(500, n))
                    serving.insert(added)
                    eventually("the new image is fetched", lambda name=added.name: name in workdir.fetched())
                running.send_signal(signal.SIGINT)
                self.assertEqual(running.wait(TIMEOUT), 130)
            finally:
                running.kill()
                running.wait()
        self.assertEqual(len(store.images), 4)

    def test_hostile_names(self):
        hostile_names = ["../../up.png", "C:\\x.png", "CON", "", "a\0\x1b[2J.png", "same.png", "SAME.png"]
        hostile_names += [".hidden.png", "x" * 400 + ".png", "e\u0301.png", "é.png", "..", "a/b.png", "a:b.png"]
        store = Store(new(name, png(n)) for n, name in enumerate(hostile_names))
        listed = [(found.id, wire.nfc(found.name), found.flags & 7) for found in store.snapshot()]
        plan = names.plan(listed, sync=True)
        expected = {plan[image_id(png(n))]: png(n) for n in range(len(hostile_names))}
        self.assertEqual(len(expected), len(hostile_names))
        with WorkDir() as workdir, self.serving(store=store) as serving:
            self.run_client(workdir, serving)
            self.assertEqual(workdir.fetched(), expected)  # R5
            self.run_client(workdir, serving, "--batch")
            self.assertEqual(workdir.fetched(), expected)

    def test_recovers_after_a_loss(self):
        # Most of the time is spent in the client's pauses, so the long sequences run only once.
        more = () if self.secure or self.quirks else (("cut", "error", "cut"), ("rate limited",))
        for failures in ("cut",), ("error",), *more:
            with self.subTest(failures), WorkDir() as workdir, self.serving(*failures) as serving:
                self.run_client(workdir, serving)  # R6
                self.check(workdir)
                self.assertEqual(serving.failures, [])

    def test_bad_image_is_requested_again(self):
        with WorkDir() as workdir, self.serving("damage") as serving:
            self.run_client(workdir, serving)  # R2
            self.check(workdir)
        store = Store([new("a.png", png(1))])
        with WorkDir() as workdir, self.serving("damage", "damage", store=store) as serving:
            out = self.run_client(workdir, serving, code=3)
            self.assertIn("1 failed", out)
            self.assertEqual(workdir.fetched(), {})

    def test_reconnects_after_the_server_closes(self):
        with WorkDir() as workdir, self.serving(quirks=("closes",)) as serving:
            self.run_client(workdir, serving, "--keep-alive")
            self.check(workdir)
            self.assertGreater(serving.connections, 1)

    def test_protocol_error(self):
        with WorkDir() as workdir, self.serving("other header") as serving:
            self.run_client(workdir, serving, code=6)  # R1


class JobsWithDeployed(Jobs):
    """The same with a server that behaves like deployed ones."""

    quirks = DEPLOYED_QUIRKS


class SecureJobs(Jobs):
    """The same over TLS."""

    secure = True

    def test_untrusted_certificate(self):
        with WorkDir() as workdir, WorkDir() as other, self.serving() as serving:
            self.accepting(other)
            args = ("--tls", "--cert", str(other.path / "cert.pem"))
            workdir.client(serving.address, *args, code=5)  # T1
            self.assertEqual(serving.requests, 0)


class SecureJobsWithDeployed(Jobs):
    """The same over TLS with a server that behaves like deployed ones and selects no ALPN."""

    quirks, secure = DEPLOYED_QUIRKS, True


class Pipelining(unittest.TestCase):
    """`--pipeline`, with a server that follows RFC.md."""

    def test_many(self):
        store = Store(new(f"{n:04}.png", png(n)) for n in range(600))
        with WorkDir() as workdir, SocketServer(store) as serving:
            workdir.client(serving.address, "--pipeline", "--keep-alive", "--parallel", "2")
            self.assertEqual(len(workdir.fetched()), 600)


if __name__ == "__main__":
    unittest.main()
