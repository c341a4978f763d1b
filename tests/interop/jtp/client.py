"""The client's side of a connection, without a socket: RFC.md, sections 7 to 9."""

from . import body, wire
from .wire import Incomplete, Reader, Refused

ANSWERS = {"LIST": b"JTPL", "GET_BY_ID": b"JTPD", "BATCH": b"JTPB", "LIST_AND_GET": b"JTPG", "WATCH": b"JTPW"}


class Failed(Exception):
    """The connection is to be given up."""


class Asked:
    """A request that is not wholly answered."""

    def __init__(self, request, keep_alive, ids):
        self.request, self.keep_alive, self.ids = request, keep_alive, ids
        self.left = list(ids)
        self.sent = self.cancel_wanted = self.cancel_sent = self.answered = False


class Client:
    """Tells what came by `events`; what is to be sent is in `out`."""

    def __init__(self, pipeline=False, max_image_size=body.MAX_SIZE, max_window=body.MAX_WINDOW):
        self.pipeline, self.max_size, self.max_window = pipeline, max_image_size, max_window
        self.asked, self.out, self.events = [], bytearray(), []
        self.buffer, self.came, self.over = bytearray(), 0, False
        self.parser = self.parse()
        self.want = next(self.parser)

    # What the application wants.

    def ask(self, request, keep_alive=True, ids=()):
        self.asked.append(Asked(request, keep_alive, ids))
        self.fill()

    def cancel(self):
        last = [asked for asked in self.asked if asked.sent][-1]
        assert last.keep_alive or last.request == "WATCH"  # C4
        last.cancel_wanted = True
        self.fill()

    def fill(self):
        """Sends what may be sent."""
        before = None
        for asked in self.asked:
            if not asked.sent:
                if before and (before.cancel_wanted or before.request == "WATCH"):
                    return  # N3, and a CANCEL stops the request it follows (C5)
                if before and before.request == "GET_BY_ID" and not self.pipeline:
                    return  # R7
                kind = wire.REQUESTS.index(asked.request)
                self.out += wire.request_head(kind, asked.keep_alive, len(asked.ids)) + wire.ids(asked.ids)
                asked.sent = True
            if asked.cancel_wanted and not asked.cancel_sent:
                self.out += wire.request_head(wire.CANCEL, False)
                asked.cancel_sent = True
            before = asked

    # What comes from the server.

    def receive(self, data):
        """Takes bytes; once the connection is over they are left."""
        at = 0
        while at < len(data) and not self.over:
            piece = data[at:at + self.piece()]
            self.buffer += piece
            self.advance()
            self.came += len(piece)
            at += len(piece)

    def piece(self):
        # A byte at a time, so that a failure is found at its byte; bodies are what there is much of.
        return 1 if not isinstance(self.want, int) or self.want < 64 else 1 << 16

    def advance(self):
        try:
            while not self.over:
                if isinstance(self.want, int):
                    if len(self.buffer) < self.want:
                        return
                    given = bytes(self.buffer[:self.want])
                    used = self.want
                else:
                    reader = Reader(self.buffer)
                    try:
                        given = self.want(reader)
                    except Incomplete:
                        return
                    except Refused as refused:
                        unasked = self.want is wire.read_header and self.idle and not self.in_packets
                        raise Failed("data_unasked" if unasked else refused.reason) from None
                    used = reader.used
                del self.buffer[:used]
                self.want = self.parser.send(given)
        except Failed as failed:
            self.over = True
            self.events.append({"failed": str(failed), "at": self.came})

    def end(self):
        """The stream has ended."""
        if self.over:
            return
        self.over = True
        complete = not self.asked and not self.buffer and self.want is wire.read_header and not self.in_packets
        self.events.append({"closed": True} if complete else {"failed": "early_end"})

    @property
    def idle(self):
        return not (self.asked and self.asked[0].sent)

    def parse(self):
        """Yields what it needs, a decoder or a number of bytes, and is sent it."""
        while True:
            self.in_packets = False
            header = yield wire.read_header
            if header == b"JTPE":
                yield from self.server_error()
                return
            due = None if self.idle else self.asked[0]
            if header == b"JTPC":
                self.cancelled(due)
            elif header == b"JTPW":
                if not due or due.request != "WATCH":
                    raise Failed("news_unasked")
                self.events.append({"new_image": described((yield wire.read_entry))})
            elif not due:
                raise Failed("data_unasked")
            elif due.answered or header != ANSWERS[due.request]:
                raise Failed("not_the_answer")
            else:
                yield from self.response(header, due)

    def server_error(self):
        code, message = yield wire.read_error_body
        self.over = True
        self.events.append({"error": {"code": code, "message": message}})
        yield wire.read_header

    def cancelled(self, due):
        if not due or not due.cancel_sent:
            raise Failed("cancelled_unasked")
        self.events.append({"cancelled": due.request})
        self.done()

    def done(self):
        del self.asked[0]
        self.fill()

    def response(self, header, due):
        count = yield lambda reader: wire.read_count(reader, header)
        if header == b"JTPD" and count > len(due.ids):
            raise Failed("too_many_images")
        self.events.append({"begin": due.request, "count": count})
        if header == b"JTPL":
            for _ in range(count):
                self.events.append({"entry": described((yield wire.read_entry))})
        else:
            for _ in range(count):
                if not (yield from self.packet(due)):
                    return  # cancelled
        self.events.append({"end": due.request})
        if due.cancel_sent:
            due.answered = True  # C3: JTPC is still to come
        else:
            self.done()

    def packet(self, due):
        self.in_packets = True
        first = yield lambda reader: reader.byte()
        self.buffer[:0] = bytes((first,))
        if first == ord("J"):  # S12
            header = yield wire.read_header
            if header == b"JTPE":
                yield from self.server_error()
                return False
            if header != b"JTPC":
                raise Failed("not_a_packet")
            self.cancelled(due)
            return False
        flags, length, id_ = yield wire.read_packet_head
        if due.request == "GET_BY_ID":
            if id_ not in due.left:
                raise Failed("image_unasked")
            due.left.remove(id_)
        elif due.request == "BATCH" and id_ in due.ids:
            raise Failed("image_unasked")
        self.events.append({"image": {"id": id_, "flags": flags, "length": length}})
        data = yield length
        verdict, image = body.receive(flags, id_, data, self.max_size, self.max_window)
        told = {"image_end": id_, "verdict": verdict}
        if verdict == "good":
            told["data"] = image
        self.events.append(told)
        return True


def described(entry):
    id_, flags, name, size = entry
    return {"id": id_, "flags": flags, "name": wire.nfc(name), "size": size}
