"""The client's side of a connection, without a socket: RFC.md, sections 7 to 9."""

from . import body, wire
from .wire import Incomplete, Reader, InvalidFrame

ANSWERS = {"LIST": b"JTPL", "GET_BY_ID": b"JTPD", "BATCH": b"JTPB", "LIST_AND_GET": b"JTPG", "WATCH": b"JTPW"}


class Failed(Exception):
    """The connection has failed."""


class PendingRequest:
    """A request that is not completely answered."""

    def __init__(self, request, keep_alive, ids):
        self.request, self.keep_alive, self.ids = request, keep_alive, ids
        self.left = list(ids)
        self.sent = self.cancel_wanted = self.cancel_sent = self.answered = False


class Client:
    """A client connection. `events` has what was received, `out` the bytes to send."""

    def __init__(self, pipeline=False, max_image_size=body.MAX_SIZE, max_window=body.MAX_WINDOW):
        self.pipeline, self.max_size, self.max_window = pipeline, max_image_size, max_window
        self.pending, self.out, self.events = [], bytearray(), []
        self.buffer, self.received, self.ended = bytearray(), 0, False
        self.parser = self.parse()
        self.want = next(self.parser)

    # Calls of the application.

    def ask(self, request, keep_alive=True, ids=()):
        self.pending.append(PendingRequest(request, keep_alive, ids))
        self.fill()

    def cancel(self):
        last = [request for request in self.pending if request.sent][-1]
        assert last.keep_alive or last.request == "WATCH"  # C4
        last.cancel_wanted = True
        self.fill()

    def fill(self):
        """Appends to `out` the requests that may be sent now."""
        before = None
        for request in self.pending:
            if not request.sent:
                if before and (before.cancel_wanted or before.request == "WATCH"):
                    return  # N3; and a CANCEL cancels the request directly before it (C5)
                if before and before.request == "GET_BY_ID" and not self.pipeline:
                    return  # R7
                kind = wire.REQUESTS.index(request.request)
                self.out += wire.request_head(kind, request.keep_alive, len(request.ids)) + wire.ids(request.ids)
                request.sent = True
            if request.cancel_wanted and not request.cancel_sent:
                self.out += wire.request_head(wire.CANCEL, False)
                request.cancel_sent = True
            before = request

    # Input from the server.

    def receive(self, data):
        """Processes bytes; ignores them once the connection has ended."""
        at = 0
        while at < len(data) and not self.ended:
            piece = data[at:at + self.piece()]
            self.buffer += piece
            self.advance()
            self.received += len(piece)
            at += len(piece)

    def piece(self):
        # One byte at a time, so that the offset of a failure is exact; bodies in larger pieces.
        return 1 if not isinstance(self.want, int) or self.want < 64 else 1 << 16

    def advance(self):
        try:
            while not self.ended:
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
                    except InvalidFrame as invalid:
                        no_request = self.want is wire.read_header and self.idle and not self.in_packets
                        raise Failed("data_unasked" if no_request else invalid.reason) from None
                    used = reader.used
                del self.buffer[:used]
                self.want = self.parser.send(given)
        except Failed as failed:
            self.ended = True
            self.events.append({"failed": str(failed), "at": self.received})

    def end(self):
        """The stream has ended."""
        if self.ended:
            return
        self.ended = True
        complete = not self.pending and not self.buffer and self.want is wire.read_header and not self.in_packets
        self.events.append({"closed": True} if complete else {"failed": "early_end"})

    @property
    def idle(self):
        return not (self.pending and self.pending[0].sent)

    def parse(self):
        """A generator that yields what it needs next, a decoder or a number of bytes, and is sent the result."""
        while True:
            self.in_packets = False
            header = yield wire.read_header
            if header == b"JTPE":
                yield from self.server_error()
                return
            current = None if self.idle else self.pending[0]
            if header == b"JTPC":
                self.cancelled(current)
            elif header == b"JTPW":
                if not current or current.request != "WATCH":
                    raise Failed("news_unasked")
                self.events.append({"new_image": described((yield wire.read_entry))})
            elif not current:
                raise Failed("data_unasked")
            elif current.answered or header != ANSWERS[current.request]:
                raise Failed("not_the_answer")
            else:
                yield from self.response(header, current)

    def server_error(self):
        code, message = yield wire.read_error_body
        self.ended = True
        self.events.append({"error": {"code": code, "message": message}})
        yield wire.read_header

    def cancelled(self, current):
        if not current or not current.cancel_sent:
            raise Failed("cancelled_unasked")
        self.events.append({"cancelled": current.request})
        self.done()

    def done(self):
        del self.pending[0]
        self.fill()

    def response(self, header, current):
        count = yield lambda reader: wire.read_count(reader, header)
        if header == b"JTPD" and count > len(current.ids):
            raise Failed("too_many_images")
        self.events.append({"begin": current.request, "count": count})
        if header == b"JTPL":
            for _ in range(count):
                self.events.append({"entry": described((yield wire.read_entry))})
        else:
            for _ in range(count):
                if not (yield from self.packet(current)):
                    return  # cancelled
        self.events.append({"end": current.request})
        if current.cancel_sent:
            current.answered = True  # C3: JTPC follows
        else:
            self.done()

    def packet(self, current):
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
            self.cancelled(current)
            return False
        flags, length, id_ = yield wire.read_packet_head
        if current.request == "GET_BY_ID":
            if id_ not in current.left:
                raise Failed("image_unasked")
            current.left.remove(id_)
        elif current.request == "BATCH" and id_ in current.ids:
            raise Failed("image_unasked")
        self.events.append({"image": {"id": id_, "flags": flags, "length": length}})
        data = yield length
        verdict, image = body.receive(flags, id_, data, self.max_size, self.max_window)
        event = {"image_end": id_, "verdict": verdict}
        if verdict == "good":
            event["data"] = image
        self.events.append(event)
        return True


def described(entry):
    id_, flags, name, size = entry
    return {"id": id_, "flags": flags, "name": wire.nfc(name), "size": size}
