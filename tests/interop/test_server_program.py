"""The program `server` against a client in Python."""

import socket
import ssl
import unittest

from jtp import vectors, wire
from jtp.body import image_id
from jtp.net import ALPN, TIMEOUT, Connection
from jtp.programs import WorkDir, ServerProgram, catalog, eventually, noise, png, samples

LIST, LAST_LIST = ("LIST",), ("LIST", False)


def trusting(workdir, alpn=(ALPN,), version=None):
    context = ssl.create_default_context(cafile=workdir.path / "cert.pem")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class Requests(unittest.TestCase):
    """Every request, with a folder of samples, on plain TCP."""

    secure = False

    @classmethod
    def setUpClass(cls):
        cls.files = samples()
        cls.files["copy-of-three.tga"] = cls.files["three.tga"]
        cls.catalog = catalog(cls.files)
        cls.workdir = WorkDir(cls.files)
        cls.server = ServerProgram(cls.workdir)
        cls.tls = trusting(cls.workdir) if cls.secure else None
        cls.addClassCleanup(cls.workdir.__exit__)
        cls.addClassCleanup(cls.server.__exit__)

    def connect(self, **options):
        return Connection(self.server.address, self.tls, pipeline=True, **options)

    def images(self, events):
        """Checks all images in the events and returns their IDs."""
        by_id = {id_: data for id_, _, _, data in self.catalog}
        ends = [event for event in events if "image_end" in event]
        for end in ends:
            self.assertEqual(end["verdict"], "good")
            self.assertTrue(end["data"] == by_id[end["image_end"]])
        return [end["image_end"] for end in ends]

    def all_ids(self):
        return [id_ for id_, *_ in self.catalog]

    def test_list(self):
        with self.connect() as connection:
            connection.ask(LIST)
            events = connection.until("end")
            entries = [event["entry"] for event in events if "entry" in event]
            listed = [(entry["id"], entry["name"], entry["flags"] & 7) for entry in entries]
            self.assertEqual(listed, [(id_, name, kind) for id_, name, kind, _ in self.catalog])
            self.assertEqual(events[0]["count"], len(self.catalog))

    def test_compressed_variant(self):
        def striped():
            connection.ask(LIST)
            [entry] = [e["entry"] for e in connection.until("end") if e.get("entry", {}).get("name") == "striped.bmp"]
            return entry

        with self.connect() as connection:
            eventually("the BMP is compressed", lambda: striped()["flags"] & wire.COMPRESSED)
            entry = striped()
            connection.ask(("GET_BY_ID", True, [entry["id"]]))
            events = connection.until("end")
            self.images(events)
            packet = {"id": entry["id"], "flags": entry["flags"], "length": entry["size"]}
            self.assertEqual(events[1]["image"], packet)
            self.assertLess(entry["size"], 300_000 * 0.95)  # S6 S9

    def test_get(self):
        ids, unknown = self.all_ids(), "00000000000000aa"
        with self.connect() as connection:
            ids_to_get = [ids[3], unknown, ids[0], ids[3]]
            connection.ask(("GET_BY_ID", True, ids_to_get))
            self.assertEqual(self.images(connection.until("end")), [ids[3], ids[0], ids[3]])  # S7
            connection.ask(("GET_BY_ID", True, [unknown] * 255))
            self.assertEqual(connection.until("end")[0]["count"], 0)
            connection.ask(("GET_BY_ID", True, [ids[0]] * 255))
            self.assertEqual(len(self.images(connection.until("end"))), 255)
            connection.ask(("GET_BY_ID", False, []))
            self.assertEqual(connection.until("closed")[-1], {"closed": True})  # S2

    def test_batch_and_list_and_get(self):
        ids = self.all_ids()
        with self.connect() as connection:
            connection.ask(("BATCH", True, [ids[1], ids[4], "00000000000000aa"]))
            missing = [id_ for id_ in ids if id_ not in (ids[1], ids[4])]
            self.assertEqual(self.images(connection.until("end")), missing)
            connection.ask(("BATCH", True, ids))
            self.assertEqual(self.images(connection.until("end")), [])
            many = [f"{n:016x}" for n in range(100_000)]
            connection.ask(("BATCH", True, many))
            self.assertEqual(self.images(connection.until("end")), ids)
            connection.ask(("LIST_AND_GET", False))
            self.assertEqual(self.images(connection.until("closed")), ids)

    def test_pipelining(self):
        ids = self.all_ids()
        with self.connect() as connection:
            both = ("GET_BY_ID", True, ids[:2]), ("BATCH", True, ids[1:])
            connection.ask(LIST, *both, LIST, ("LIST_AND_GET", False))
            events = connection.until("closed")
            ends = [event["end"] for event in events if "end" in event]
            self.assertEqual(ends, ["LIST", "GET_BY_ID", "BATCH", "LIST", "LIST_AND_GET"])  # S1
            self.assertEqual(self.images(events), ids[:2] + ids[:1] + ids)

    def test_cancel(self):
        with self.connect() as connection:
            # Request and CANCEL in one write: C2, or C3 if the response is complete when CANCEL is read.
            for request in LIST, ("LIST_AND_GET",), ("BATCH", True, []), ("GET_BY_ID", True, self.all_ids()):
                connection.client.ask(*request)
                connection.cancel()
                self.images(connection.until("cancelled"))
            connection.ask(LAST_LIST)
            self.assertEqual(connection.until("closed")[-1], {"closed": True})

    def test_unknown_request_type(self):
        with self.connect() as connection:
            connection.socket.sendall(b"\6")
            self.assertEqual(connection.until()[-1]["error"]["code"], wire.UNSUPPORTED_FEATURE)  # S10

    def test_watch(self):
        with WorkDir({"a.png": png(1)}) as workdir, ServerProgram(workdir) as server:
            tls = trusting(workdir) if self.secure else None
            with Connection(server.address, tls, pipeline=True) as connection:
                connection.ask(LIST, ("WATCH",))  # N5
                self.assertEqual(connection.until("end")[0]["count"], 1)
                for n in range(2, 5):
                    workdir.add(f"{n}.png", png(n))
                    [event] = connection.until("new_image")
                    self.assertEqual(event["new_image"]["id"], image_id(png(n)))
                (workdir.images / "a.png").rename(workdir.images / "b.png")  # N1: the same image
                workdir.add("c.png", png(9))
                self.assertEqual(connection.until("new_image")[0]["new_image"]["name"], "c.png")
                connection.cancel()
                connection.until("cancelled")
                connection.ask(LAST_LIST)  # N3
                self.assertEqual(connection.until("end")[0]["count"], 5)


class SecureRequests(Requests):
    """The same over TLS."""

    secure = True

    def test_alpn(self):
        for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
            for alpn in (ALPN,), ("h2", ALPN), ():  # T1
                with Connection(self.server.address, trusting(self.workdir, alpn, version)) as connection:
                    self.assertEqual(connection.socket.selected_alpn_protocol(), ALPN if alpn else None)
                    connection.ask(LAST_LIST)
                    self.assertEqual(connection.until("closed")[-1], {"closed": True})
            with self.assertRaises(ssl.SSLError):
                with Connection(self.server.address, trusting(self.workdir, ("h2",), version)) as connection:
                    connection.ask(LAST_LIST)
                    connection.until("closed")

    def test_plain_beside_tls(self):
        with Connection(self.server.address) as connection:  # T2: from loopback
            connection.ask(LAST_LIST)
            self.assertEqual(connection.until("closed")[-1], {"closed": True})
        with WorkDir() as workdir, ServerProgram(workdir, "--require-tls") as server:
            with Connection(server.address) as connection:
                connection.ask(LAST_LIST)
                error = connection.until()[-1]["error"]
                self.assertEqual(error["code"], wire.UNSUPPORTED_FEATURE)
                self.assertIn("TLS", error["message"])


class Large(unittest.TestCase):
    """Large responses, and limits."""

    def test_cancel_stops_large_response(self):
        files = {f"{n}.png": noise(1 << 20, n) for n in range(40)}
        with WorkDir(files) as workdir, ServerProgram(workdir, "--no-tls") as server:
            with Connection(server.address, pipeline=True) as connection:
                for request in ("LIST_AND_GET",), ("BATCH", True, []):
                    connection.ask(request)
                    connection.until("image_end")
                    connection.cancel()
                    received = [event for event in connection.until("cancelled") if "image_end" in event]
                    self.assertLess(len(received), 39)  # C2 C6
                connection.ask(("LIST_AND_GET", False))
                received = [event for event in connection.until("closed") if "image_end" in event]
                self.assertEqual([event["verdict"] for event in received], ["good"] * 40)

    def test_rate_limit_and_shutdown(self):
        with WorkDir({"a.png": png(1)}) as workdir:
            with ServerProgram(workdir, "--no-tls", "--rate-limit", "3", "--rate-limit-window", "3600") as server:
                idle, watching = Connection(server.address), Connection(server.address)
                with idle, watching:
                    idle.ask(LIST)
                    idle.until("end")
                    watching.ask(LIST, ("WATCH",))
                    watching.until("end")
                    workdir.add("b.png", png(2))
                    watching.until("new_image")
                    self.assertTrue(self.is_refused(server.address))  # S15: the fourth
                    self.assertEqual(server.stop(), 0)  # S16
                    self.assertEqual(idle.until("closed"), [{"closed": True}])
                    self.assertEqual(watching.until("failed")[-1]["failed"], "early_end")

    def is_refused(self, address):
        with Connection(address) as connection:
            connection.ask(LAST_LIST)
            return connection.until()[-1].get("error", {}).get("code") == wire.RATE_LIMITED


class Exchanges(unittest.TestCase):
    """The exchanges of server.json and server_states.json that work with a folder of image files."""

    def test_vectors(self):
        done = 0
        found = vectors.load("server") + vectors.load("server_states")
        found = [v for v in found if v["catalog"] in ("raw", "empty")]
        found = [v for v in found if not any("unreadable" in step for step in v["steps"])]
        changing = [v for v in found if any("appear" in step for step in v["steps"])]
        for name in "raw", "empty":
            files = {image[0]: image[3] for image in vectors.images(name)}
            for off in False, True:
                those = [v for v in found if v not in changing and v["catalog"] == name]
                those = [v for v in those if bool(v.get("options")) == off]
                if those:
                    with WorkDir(files) as workdir, ServerProgram(workdir, "--no-tls", *["--no-watch"] * off) as server:
                        for vector in those:
                            done += self.play(vector, workdir, server.address)
            for vector in changing:
                if vector["catalog"] == name:
                    with WorkDir(files) as workdir, ServerProgram(workdir, "--no-tls") as server:
                        done += self.play(vector, workdir, server.address)
        self.assertEqual(done, len(found))

    def play(self, vector, workdir, address):
        with self.subTest(vector["name"]), socket.create_connection(address, TIMEOUT) as peer:
            self.read = peer.makefile("rb").read
            changes = any("appear" in step for step in vector["steps"])
            for index, step in enumerate(vector["steps"]):
                [(what, with_)] = step.items()
                if what == "client":
                    if changes and index == 0:
                        # A LIST before the WATCH (N5), so that the start of the watch is known.
                        peer.sendall(bytes((1, 1)))
                    peer.sendall(vectors.octets(with_))
                    if changes and index == 0:
                        self.take_list(vectors.images(vector["catalog"]))
                elif what == "client_ends":
                    peer.shutdown(socket.SHUT_WR)
                elif what == "server":
                    self.expect(with_)
                elif what == "server_any":
                    self.expect_any(with_, "server_ends" in str(vector["steps"][index + 1:]))
                elif what == "server_ends":
                    self.assertEqual(self.read(1), b"")
                elif what == "appear":
                    workdir.add(with_["name"], vectors.octets(with_["image"]))
                elif what == "disappear":
                    (workdir.images / with_).unlink()
                    eventually("the image is removed", lambda name=with_: name not in self.names(address))
            if "server_ends" not in str(vector["steps"]):
                peer.shutdown(socket.SHUT_WR)
                self.assertEqual(self.read(1), b"")  # No more bytes.
            return 1
        return 0

    def names(self, address):
        with Connection(address) as connection:
            connection.ask(LAST_LIST)
            return [event["entry"]["name"] for event in connection.until("closed") if "entry" in event]

    def take_list(self, images):
        entries = [wire.entry(id_, kind, name, len(raw)) for name, kind, id_, raw, *_ in images]
        self.expect_bytes(wire.head(b"JTPL", len(entries)) + b"".join(entries))

    def expect(self, parts):
        for part in parts:
            if isinstance(part, str):
                self.expect_bytes(vectors.octets(part))
            else:
                self.expect_bytes(b"JTPE" + bytes((part["error"],)))
                self.assertTrue(self.read(int.from_bytes(self.read(2), "big")))

    def expect_bytes(self, wanted):
        got = self.read(len(wanted))
        self.assertTrue(got == wanted, f"received {got[:200].hex()}, expected {wanted[:200].hex()}")

    def expect_any(self, answers, to_end):
        """Reads to the end if the server ends the stream; otherwise up to the JTPC that ends each alternative."""
        if to_end:
            got = self.read()
            self.assertTrue(any(self.is_all(got, parts) for parts in answers), got.hex())
            return
        wanted = [b"".join(map(vectors.octets, parts)) for parts in answers]
        got = self.read(min(map(len, wanted)))
        while got not in wanted:
            longer = [len(each) for each in wanted if len(each) > len(got) and each.startswith(got[:-4])]
            self.assertTrue(longer, got.hex())
            got += self.read(min(longer) - len(got))

    def is_all(self, got, parts):
        for part in parts:
            if isinstance(part, str):
                wanted = vectors.octets(part)
                if got[:len(wanted)] != wanted:
                    return False
                got = got[len(wanted):]
            else:
                if got[:5] != b"JTPE" + bytes((part["error"],)):
                    return False
                got = got[7 + int.from_bytes(got[5:7], "big"):]
        return not got


if __name__ == "__main__":
    unittest.main()
