"""The program `client` and a server in Python, which follows RFC.md or has the habits of deployed ones (R7)."""

import signal
import ssl
import unittest

import zstandard

from jtp import names, wire
from jtp.body import image_id
from jtp.net import ALPN, PATIENCE, Serving
from jtp.programs import Place, ServerProgram, catalog, eventually, noise, png, samples
from jtp.server import Image, Store

DEPLOYED = ("raw sizes", "swallows a byte", "leaves a byte", "cancel at the end", "gap before WATCH")


def image(id_, name, kind, data):
    """As a server of its own mind sends it: BMPs compressed."""
    if kind != 3:
        return Image(name, kind, id_, data)
    found = Image(name, kind | wire.COMPRESSED, id_, zstandard.compress(data, 3))
    found.raw_size = len(data)
    return found


def new(name, data):
    return image(image_id(data), name, names.file_type(data[:16], name.rpartition(".")[2]), data)


class Jobs(unittest.TestCase):
    """What people do with `client`, with a server that follows RFC.md, on plain TCP."""

    habits, secure = (), False

    @classmethod
    def setUpClass(cls):
        cls.files = samples()
        cls.catalog = catalog(cls.files)
        cls.due = {name: data for _, name, _, data in cls.catalog}
        cls.place = Place()
        cls.addClassCleanup(cls.place.__exit__)
        cls.tls = cls.accepting(cls.place) if cls.secure else None

    @classmethod
    def accepting(cls, place):
        """TLS with the certificate that the program `server` makes when it first starts."""
        with ServerProgram(place):
            pass
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place.path / "cert.pem", place.path / "key.pem")
        if not cls.habits:
            context.set_alpn_protocols([ALPN])  # T1: deployed servers select none.
        return context

    def serving(self, *mishaps, **options):
        store = options.pop("store", None) or Store(image(*entry) for entry in self.catalog)
        return Serving(store, self.tls, self.habits + options.pop("habits", ()), mishaps)

    def args(self, place, *args):
        if not self.secure:
            return args
        certificate = place.path / "cert.pem"
        certificate.write_bytes((self.place.path / "cert.pem").read_bytes())
        return ("--tls", *args)

    def run_client(self, place, serving, *args, code=0):
        return place.client(serving.address, *self.args(place, *args), code=code)

    def check(self, place):
        self.assertEqual(sorted(place.fetched()), sorted(self.due))
        for name, data in place.fetched().items():
            self.assertTrue(data == self.due[name], name)

    def test_everything(self):
        for args in (), ("--keep-alive",), ("--parallel", "4"), ("--keep-alive", "--parallel", "3", "--repeat", "2"):
            with self.subTest(args), Place() as place, self.serving() as serving:
                self.run_client(place, serving, *args)
                self.check(place)
                if self.secure:
                    self.assertEqual(set(serving.alpn), {None if self.habits else ALPN})

    def test_batch(self):
        with Place() as place, self.serving() as serving:
            place.output.mkdir()
            for name in list(self.due)[:5]:
                (place.output / name).write_bytes(self.due[name])
            (place.output / "old.png").write_bytes(b"not in the catalog")
            out = self.run_client(place, serving, "--batch")
            self.assertIn(f"fetched {len(self.due) - 5} images", out)
            self.assertIn("5 already there", out)
            (place.output / "old.png").unlink()
            self.check(place)
            out = self.run_client(place, serving, "--batch")
            self.assertIn("fetched 0 images (0 B)", out)

    def test_list(self):
        with Place() as place, self.serving() as serving:
            out = self.run_client(place, serving, "--list")
            self.assertEqual([line.split()[0] for line in out.splitlines()], [id_ for id_, *_ in self.catalog])
            self.assertFalse(place.output.exists())

    def test_watch(self):
        store = Store([new("a.png", png(1))])
        with Place() as place, self.serving(store=store) as serving:
            running = place.start_client(serving.address, *self.args(place, "--watch"))
            try:
                eventually("the first is there", lambda: "a.png" in place.fetched())
                for n in range(3):
                    eventually("it watches", serving.is_watched)
                    added = new(f"new-{n}.bmp", b"BM" + noise(500, n))
                    serving.insert(added)
                    eventually("it is there", lambda name=added.name: name in place.fetched())
                running.send_signal(signal.SIGINT)
                self.assertEqual(running.wait(PATIENCE), 130)
            finally:
                running.kill()
                running.wait()
        self.assertEqual(len(store.images), 4)

    def test_hostile_names(self):
        told = ["../../up.png", "C:\\x.png", "CON", "", "a\0\x1b[2J.png", "same.png", "SAME.png", ".hidden.png"]
        told += ["x" * 400 + ".png", "e\u0301.png", "é.png", "..", "a/b.png", "a:b.png"]
        store = Store(new(name, png(n)) for n, name in enumerate(told))
        plan = names.plan([(found.id, wire.nfc(found.name), found.flags & 7) for found in store.images.values()])
        due = {plan[image_id(png(n))]: png(n) for n in range(len(told))}
        self.assertEqual(len(due), len(told))
        with Place() as place, self.serving(store=store) as serving:
            self.run_client(place, serving)
            self.assertEqual(place.fetched(), due)  # R5
            self.run_client(place, serving, "--batch")
            self.assertEqual(place.fetched(), due)

    def test_it_goes_on_after_a_loss(self):
        # The pauses in between are the most of what these tests take: the long ones only once.
        more = () if self.secure or self.habits else (("cut", "error", "cut"), ("rate limited",))
        for mishaps in ("cut",), ("error",), *more:
            with self.subTest(mishaps), Place() as place, self.serving(*mishaps) as serving:
                self.run_client(place, serving)  # R6
                self.check(place)
                self.assertEqual(serving.mishaps, [])

    def test_it_asks_again_for_a_bad_image(self):
        with Place() as place, self.serving("damage") as serving:
            self.run_client(place, serving)  # R2
            self.check(place)
        store = Store([new("a.png", png(1))])
        with Place() as place, self.serving("damage", "damage", store=store) as serving:
            out = self.run_client(place, serving, code=3)
            self.assertIn("1 failed", out)
            self.assertEqual(place.fetched(), {})

    def test_it_reconnects_where_the_server_closes(self):
        with Place() as place, self.serving(habits=("closes",)) as serving:
            self.run_client(place, serving, "--keep-alive")
            self.check(place)
            self.assertGreater(serving.connections, 1)

    def test_a_broken_protocol(self):
        with Place() as place, self.serving("other header") as serving:
            self.run_client(place, serving, code=6)  # R1


class JobsWithDeployed(Jobs):
    """The same with the habits of deployed servers."""

    habits = DEPLOYED


class SecureJobs(Jobs):
    """The same over TLS."""

    secure = True

    def test_a_stranger_is_not_trusted(self):
        with Place() as place, Place() as other, self.serving() as serving:
            self.accepting(other)
            args = ("--tls", "--cert", str(other.path / "cert.pem"))
            place.client(serving.address, *args, code=5)  # T1
            self.assertEqual(serving.requests, 0)


class SecureJobsWithDeployed(Jobs):
    """The same over TLS where the server selects no ALPN."""

    habits, secure = DEPLOYED, True


class Pipelining(unittest.TestCase):
    """`--pipeline`, for a server that is known to follow RFC.md."""

    def test_many(self):
        store = Store(new(f"{n:04}.png", png(n)) for n in range(600))
        with Place() as place, Serving(store) as serving:
            place.client(serving.address, "--pipeline", "--keep-alive", "--parallel", "2")
            self.assertEqual(len(place.fetched()), 600)


if __name__ == "__main__":
    unittest.main()
