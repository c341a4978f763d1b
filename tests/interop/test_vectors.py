"""The Python peer against all vectors of tests/vectors."""

import unittest

from jtp import body, names, wire
from jtp.client import Client
from jtp.server import Image, Server, Store
from jtp.vectors import image, images, load, octets
from jtp.wire import Incomplete, Reader, InvalidFrame


class Frames(unittest.TestCase):
    def check(self, kind, read, write):
        for vector in load(kind):
            with self.subTest(f"{kind}/{vector['name']}"):
                self.check_one(vector, read, write)

    def check_one(self, vector, read, write):
        frame = octets(vector["bytes"])
        error = vector.get("error")
        end = vector["error_at"] if error else len(frame) - 1
        for cut in {*range(0, end + 1, 1 if end < 4096 else 997), end}:
            with self.assertRaises(Incomplete):
                read(Reader(frame[:cut]), vector)
        if error:
            for cut in range(end + 1, len(frame) + 1):
                with self.assertRaises(InvalidFrame) as invalid:
                    read(Reader(frame[:cut]), vector)
                self.assertEqual(invalid.exception.reason, error)
            return
        for then in b"", octets(vector.get("then", "")):
            reader = Reader(frame + then)
            self.assertEqual(read(reader, vector), vector["value"])
            self.assertEqual(reader.used, len(frame))
        if vector.get("encode", True):
            self.assertEqual(write(vector["value"]), frame)

    def test_varint(self):
        self.check("varint", lambda reader, _: reader.varint(), wire.varint)

    def test_request(self):
        def read(reader, vector):
            kind, keep_alive, count = wire.read_request_head(reader)
            value = {"request": wire.REQUESTS[kind], "keep_alive": keep_alive}
            if count is not None:
                value["count"] = count
            if "ids" in vector.get("value", {}):
                value["ids"] = [reader.id() for _ in range(count)]
            return value

        def write(value):
            kind = wire.REQUESTS.index(value["request"])
            return wire.request_head(kind, value["keep_alive"], value.get("count")) + wire.ids(value.get("ids", []))

        self.check("request", read, write)

    def test_head(self):
        def read(reader, _):
            header = wire.read_header(reader)
            count = wire.read_count(reader, header)
            value = {"header": header.decode()}
            return value if count is None else {**value, "count": count}

        self.check("head", read, lambda value: wire.head(value["header"].encode(), value.get("count")))

    def test_entry(self):
        def read(reader, _):
            id_, flags, name, size = wire.read_entry(reader)
            kind = {"flags": flags, "type": wire.TYPES[flags & 7], "compressed": bool(flags & 8)}
            value = {"id": id_, **kind, "name": name, "size": size}
            return value if wire.nfc(name) == name else {**value, "nfc": wire.nfc(name)}

        self.check("entry", read, lambda v: wire.entry(v["id"], v["flags"], v["name"], v["size"]))

    def test_packet(self):
        def read(reader, _):
            flags, length, id_ = wire.read_packet_head(reader)
            kind = {"flags": flags, "type": wire.TYPES[flags & 7]}
            return {**kind, "compressed": bool(flags & 8), "encrypted": bool(flags & 16), "length": length, "id": id_}

        self.check("packet", read, lambda v: wire.packet_head(v["flags"], v["length"], v["id"]))

    def test_error(self):
        def read(reader, _):
            self.assertEqual(wire.read_header(reader), b"JTPE")
            code, message = wire.read_error_body(reader)
            return {"code": code, "code_name": wire.ERRORS[code], "message": message}

        self.check("error", read, lambda v: wire.error(v["code"], v["message"]))


class Images(unittest.TestCase):
    def test_image_id(self):
        for vector in load("image_id"):
            self.assertEqual(body.image_id(octets(vector["data"])), vector["id"], vector["name"])

    def test_body(self):
        for vector in load("body"):
            with self.subTest(vector["name"]):
                data = octets(vector["data"])
                self.assertEqual(len(data), vector["length"])
                verdict, found = body.receive(vector["flags"], vector["id"], data, **vector.get("limits", {}))
                self.assertEqual(verdict, vector["verdict"])
                if verdict == "good":
                    self.assertTrue(found == octets(vector["image"]))

    def test_file_type(self):
        for vector in load("file_type"):
            found = names.file_type(octets(vector["start"]), vector["extension"])
            self.assertEqual(found, vector["type"], vector["name"])

    def test_file_name(self):
        for vector in load("file_name"):
            found = names.file_name(vector["catalog_name"], vector["id"], vector["type"])
            self.assertEqual(found, vector["file_name"], vector["name"])

    def test_name_plan(self):
        for vector in load("name_plan"):
            files = [(file["id"], file["catalog_name"], file["type"]) for file in vector["files"]]
            expected = {file["id"]: file["file_name"] for file in vector["files"]}
            for turn in range(len(files)):
                self.assertEqual(names.plan(files[turn:] + files[:turn]), expected, vector["name"])


def to_serve(file):
    name, kind, id_, _, sent, compressed = file
    return Image(name, kind | (wire.COMPRESSED if compressed else 0), id_, sent)


class Exchanges(unittest.TestCase):
    def test_server(self):
        for vector in load("server") + load("server_states"):
            for cut in 1, 2, 5, 1 << 20:
                if cut < 1 << 20 and any("*99" in step.get("client", "") for step in vector["steps"]):
                    continue
                with self.subTest(f"{vector['name']}, cut by {cut}"):
                    self.serve(vector, cut)

    def serve(self, vector, cut):
        store = Store(map(to_serve, images(vector["catalog"])))
        server = Server(store, **vector.get("options", {}))
        got, ended = bytearray(), False

        def run():
            while out := server.output():
                got.extend(out)

        for step in vector["steps"]:
            [(what, with_)] = step.items()
            if what == "client":
                data = octets(with_)
                for at in range(0, len(data), cut):
                    server.receive(data[at:at + cut])
                    run()
            elif what == "client_ends":
                server.end()
            elif what in ("server", "server_any"):
                answers = [with_] if what == "server" else with_
                rests = [rest for rest in (behind(got, parts) for parts in answers) if rest is not None]
                self.assertTrue(rests, got.hex())
                got[:] = min(rests, key=len)
            elif what == "server_ends":
                ended = True
                self.assertEqual((server.state, got), ("closing", b""))
            elif what == "appear":
                store.insert(to_serve(image(with_)))
            elif what == "disappear":
                store.remove(with_)
            elif what == "unreadable":
                for found in store.images.values():
                    found.readable &= found.name != with_
            else:
                self.fail(what)
            run()
        self.assertEqual(got, b"")
        self.assertEqual(server.state == "closing", ended)

    def test_client(self):
        for vector in load("client") + load("client_states"):
            for cut in 1, 3, 1 << 20:
                with self.subTest(f"{vector['name']}, cut by {cut}"):
                    self.ask(vector, cut)

    def ask(self, vector, cut):
        client = Client(**vector.get("options", {}))
        for step in vector["steps"]:
            [(what, with_)] = step.items()
            if what == "ask":
                client.ask(with_["request"], with_["keep_alive"], with_.get("ids", []))
            elif what == "cancel":
                client.cancel()
            elif what == "sent":
                self.assertEqual(client.out, octets(with_))
                client.out.clear()
            elif what == "server":
                data = octets(with_)
                for at in range(0, len(data), cut):
                    client.receive(data[at:at + cut])
            elif what == "server_ends":
                client.end()
            elif what == "events":
                expected = [{**event, "data": octets(event["data"])} if "data" in event else event for event in with_]
                self.assertEqual(client.events, expected)
                client.events.clear()
            else:
                self.fail(what)
        self.assertEqual((client.out, client.events), (b"", []))


def behind(got, parts):
    """The bytes behind these parts, if `got` begins with them."""
    for part in parts:
        if isinstance(part, str):
            wanted = octets(part)
            if not got.startswith(wanted):
                return None
            got = got[len(wanted):]
        else:
            if got[:5] != b"JTPE" + bytes((part["error"],)) or len(got) < 7:
                return None
            got = got[7 + int.from_bytes(got[5:7], "big"):]
    return got


if __name__ == "__main__":
    unittest.main()
