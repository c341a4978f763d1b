"""The server's side of a connection, without a socket: RFC.md, sections 6 to 8."""

from . import wire
from .wire import Incomplete, Reader, InvalidFrame

READ_AHEAD = 64 << 10  # S1


class Image:
    def __init__(self, name, flags, id_, data):
        self.name, self.flags, self.id, self.data = name, flags, id_, data
        self.readable = True

    def entry(self, quirks=()):
        if "raw sizes" in quirks and self.flags & wire.COMPRESSED:
            return wire.entry(self.id, self.flags & 7, self.name, self.raw_size)
        return wire.entry(self.id, self.flags, self.name, len(self.data))

    def packet(self):
        return wire.packet_head(self.flags, len(self.data), self.id) + self.data


class Store:
    """The catalog, and its history: the images that entered it, in order (N2)."""

    def __init__(self, images=()):
        self.images, self.history = {image.id: image for image in images}, []

    def snapshot(self):
        return sorted(self.images.values(), key=lambda image: (image.name.encode(), image.id))  # S5

    def insert(self, image):
        if image.id not in self.images:
            self.images[image.id] = image
            self.history.append(image)

    def remove(self, name):
        self.images = {id_: image for id_, image in self.images.items() if image.name != name}


class Server:
    """A server connection. `quirks` are behaviours of deployed servers (R7), `failures` are injected by tests."""

    def __init__(self, store, watch=True, quirks=()):
        self.store, self.watch, self.quirks = store, watch, quirks
        self.input, self.input_ended = bytearray(), False
        self.state, self.cancellable, self.watch_from = "idle", False, None
        self.requests, self.failures = 0, []

    def wants_input(self):
        """S1: during a response only a CANCEL is read."""
        if self.state == "responding":
            return len(self.input) < READ_AHEAD and (not self.input or self.input[:1] == b"\3")
        return self.state != "closing"

    def receive(self, data):
        self.input += data

    def end(self):
        self.input_ended = True

    def output(self):
        """The next bytes to send, possibly none. The input is checked again after each call."""
        while True:
            before = self.state, len(self.input)
            out = getattr(self, self.state)()
            if out or self.state == "closing" or (self.state, len(self.input)) == before:
                return out

    def closing(self):
        return b""

    def close(self, out=b""):
        self.state = "closing"
        return out

    def error(self, code, message):
        return self.close(wire.error(code, message))  # S11

    # Between requests.

    def idle(self):
        reader = Reader(self.input)
        try:
            kind, bit0, count = wire.read_request_head(reader)
        except Incomplete:
            return self.close() if self.input_ended else b""  # S10
        except InvalidFrame as invalid:
            unknown = invalid.reason == "request_type"
            code = wire.UNSUPPORTED_FEATURE if unknown else wire.INVALID_REQUEST
            return self.error(code, invalid.reason)
        del self.input[:reader.used]
        if kind == wire.CANCEL:
            if self.cancellable:
                return b"JTPC"  # C3
            return self.error(wire.INVALID_REQUEST, "nothing to cancel")  # C4
        if kind == wire.WATCH and not self.watch:
            return self.error(wire.UNSUPPORTED_FEATURE, "WATCH is not offered")
        if kind == wire.BATCH and count > wire.MAX_HAVE:
            return self.error(wire.INVALID_REQUEST, "too many IDs")  # S8
        self.requests += 1
        self.cancellable = self.cancellable or bit0 or kind == wire.WATCH
        watch_from, self.watch_from = self.watch_from, None
        if kind == wire.WATCH:
            self.state = "watching"
            self.place = len(self.store.history) if watch_from is None else watch_from
            return b""
        self.kind, self.keep_alive, self.left = kind, bit0, 8 * (count or 0)
        self.catalog = self.store.snapshot()  # S3
        self.wanted, self.had = [], set()
        self.state = "reading_ids"
        follows = bit0 and self.input[:1] == b"\4" and "gap before WATCH" not in self.quirks
        if kind == wire.LIST and follows:
            self.watch_from = len(self.store.history)  # N5
        return b""

    def reading_ids(self):
        """S8: IDs are matched as they arrive and not stored."""
        known = {image.id: image for image in self.catalog}
        whole = min(self.left, len(self.input) // 8 * 8)
        for at in range(0, whole, 8):
            id_ = bytes(self.input[at:at + 8]).hex()
            if id_ in known:
                self.had.add(id_)
                if self.kind == wire.GET_BY_ID:
                    self.wanted.append(known[id_])
        del self.input[:whole]
        self.left -= whole
        if self.left:
            return self.close() if self.input_ended else b""
        self.state, self.cancelled = "responding", False
        self.frames = self.respond()
        return next(self.frames)

    # Responses. Each piece ends at a packet boundary.

    def respond(self):
        if self.kind == wire.LIST:
            entries = b"".join(image.entry(self.quirks) for image in self.catalog)
            yield wire.head(b"JTPL", len(self.catalog)) + entries
            return
        if self.kind == wire.GET_BY_ID:
            images, header = self.wanted, b"JTPD"
        elif self.kind == wire.BATCH:
            images, header = [image for image in self.catalog if image.id not in self.had], b"JTPB"
        else:
            images, header = self.catalog, b"JTPG"
        failure = self.failures.pop(0) if self.failures and images else None
        yield wire.head(header, len(images)) if failure != "other header" else b"JTPX"
        for image in images:
            if failure == "error" and image is images[len(images) // 2]:
                yield self.error(wire.SERVER_ERROR, "failure")  # S12
                return
            if failure == "cut" and image is images[len(images) // 2]:
                yield self.close(image.packet()[:-1])  # S13
                return
            if failure == "damage" and image is images[len(images) // 2]:
                packet = image.packet()
                yield packet[:-1] + bytes((packet[-1] ^ 1,))
                continue
            if not image.readable:
                yield self.error(wire.SERVER_ERROR, "image unavailable")  # S12
                return
            yield image.packet()

    def responding(self):
        swallows = self.kind == wire.GET_BY_ID and "swallows a byte" in self.quirks
        if not swallows:
            self.look_for_cancel()
        early = self.kind == wire.GET_BY_ID or "cancel at the end" not in self.quirks
        out = None if self.cancelled and early and self.kind != wire.LIST else next(self.frames, None)
        if swallows and out is not None and self.input:
            # Before each packet, but not behind the last: otherwise no client could reuse the connection.
            self.cancelled = self.input[0] == wire.CANCEL
            del self.input[0]
            out = None if self.cancelled else out
        if out is not None:
            return out
        if self.cancelled and not self.keep_alive:
            return self.error(wire.INVALID_REQUEST, "nothing to cancel")  # C4
        if not self.keep_alive or "closes" in self.quirks:
            return self.close()  # S2
        self.state = "idle"
        return b"JTPC" if self.cancelled else b""

    def look_for_cancel(self):
        """C5: accepts only a CANCEL that directly follows the request."""
        if len(self.input) >= 2 and self.input[0] == wire.CANCEL and self.input[1] < 2 and not self.cancelled:
            self.cancelled = True
            del self.input[:2]

    def watching(self):
        if self.input:
            if self.input[0] != wire.CANCEL:
                return self.error(wire.INVALID_REQUEST, "only CANCEL may follow WATCH")  # N3
            if "leaves a byte" in self.quirks:
                del self.input[0]
                self.state = "idle"
                return b"JTPC"
            if len(self.input) > 1:
                if self.input[1] > 1:
                    return self.error(wire.INVALID_REQUEST, "reserved request flag")
                del self.input[:2]
                self.state = "idle"
                return b"JTPC"
        if self.place < len(self.store.history):
            self.place += 1
            return b"JTPW" + self.store.history[self.place - 1].entry(self.quirks)  # N1
        return self.close() if self.input_ended else b""  # N6
