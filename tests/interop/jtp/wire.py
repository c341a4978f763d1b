"""Frames: RFC.md, sections 3 to 5. Every byte is validated as it is read."""

import unicodedata

GET_BY_ID, LIST, BATCH, CANCEL, WATCH, LIST_AND_GET = range(6)
REQUESTS = ("GET_BY_ID", "LIST", "BATCH", "CANCEL", "WATCH", "LIST_AND_GET")
HEADERS = (b"JTPL", b"JTPD", b"JTPB", b"JTPG", b"JTPC", b"JTPW", b"JTPE")
TYPES = ("PNG", "JPEG", "WebP", "BMP", "GIF", "reserved", "reserved", "other")
EXTENSIONS = ("png", "jpg", "webp", "bmp", "gif", "img", "img", "img")
COMPRESSED, ENCRYPTED = 0x08, 0x10
NOT_FOUND, INVALID_REQUEST, SERVER_ERROR, UNSUPPORTED_FEATURE, RATE_LIMITED = range(1, 6)
ERRORS = (None, "NotFound", "InvalidRequest", "ServerError", "UnsupportedFeature", "RateLimited")
MAX_HAVE = 1_000_000  # S8


class Incomplete(Exception):
    """The bytes end inside the frame."""


class InvalidFrame(Exception):
    """The bytes are not a valid frame."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


class Reader:
    """Bytes, and the number of them that were used."""

    def __init__(self, data):
        self.data, self.used = data, 0

    def take(self, count):
        if len(self.data) - self.used < count:
            raise Incomplete
        self.used += count
        return bytes(self.data[self.used - count:self.used])

    def byte(self):
        return self.take(1)[0]

    def number(self, size):
        return int.from_bytes(self.take(size), "big")  # W1

    def varint(self):
        value = 0
        for index in range(5):
            byte = self.byte()
            if index == 4 and byte > 0x0F:
                raise InvalidFrame("varint")  # W2: over 32 bits, or a sixth byte
            if byte == 0 and index > 0:
                raise InvalidFrame("varint")  # W2: longer than needed
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value

    def id(self):
        return self.take(8).hex()


def varint(value):
    out = bytearray()
    while True:
        group, value = value & 0x7F, value >> 7
        if not value:
            out.append(group)
            return bytes(out)
        out.append(group | 0x80)


def read_request_head(reader):
    """The type, bit 0 of the flags, and the count or None."""
    kind = reader.byte()
    if kind > LIST_AND_GET:
        raise InvalidFrame("request_type")  # S10: before the flags
    flags = reader.byte()
    if flags & ~1:
        raise InvalidFrame("request_flags")
    count = None
    if kind == GET_BY_ID:
        count = reader.byte()
    elif kind == BATCH:
        count = reader.varint()
    return kind, bool(flags), count


def request_head(kind, keep_alive, count=None):
    flags = 1 if keep_alive and kind not in (CANCEL, WATCH) else 0
    out = bytes((kind, flags))
    if kind == GET_BY_ID:
        out += bytes((count,))
    elif kind == BATCH:
        out += varint(count)
    return out


def ids(values):
    return b"".join(map(bytes.fromhex, values))


def read_header(reader):
    seen = b""
    while len(seen) < 4:
        seen += bytes((reader.byte(),))
        if not any(header.startswith(seen) for header in HEADERS):
            raise InvalidFrame("header")
    return seen


def read_count(reader, header):
    """The count behind a header; None for JTPC, JTPW and JTPE."""
    if header == b"JTPD":
        return reader.byte()
    if header in (b"JTPL", b"JTPB", b"JTPG"):
        return reader.varint()
    return None


def head(header, count=None):
    if count is None:
        return header
    return header + (bytes((count,)) if header == b"JTPD" else varint(count))


def read_entry(reader):
    """The ID, the flags, the name as received, the size."""
    id_, flags = reader.id(), reader.byte()
    if flags & 0xF0:
        raise InvalidFrame("entry_flags")  # R1
    try:
        name = reader.take(reader.number(2)).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidFrame("name") from None
    return id_, flags, name, reader.varint()


def entry(id_, flags, name, size):
    name = name.encode("utf-8")
    return bytes.fromhex(id_) + bytes((flags,)) + len(name).to_bytes(2, "big") + name + varint(size)


def read_packet_head(reader):
    """The flags, the length, the ID."""
    flags = reader.byte()
    if flags & 0xE0:
        raise InvalidFrame("packet_flags")  # R1
    return flags, reader.varint(), reader.id()


def packet_head(flags, length, id_):
    return bytes((flags,)) + varint(length) + bytes.fromhex(id_)


def read_error_body(reader):
    """The fields behind JTPE: the code and the message."""
    code = reader.byte()
    if not 1 <= code <= 5:
        raise InvalidFrame("error_code")  # R1
    return code, reader.take(reader.number(2)).decode("utf-8", "replace")


def error(code, message):
    message = message.encode("utf-8")
    return b"JTPE" + bytes((code,)) + len(message).to_bytes(2, "big") + message


def nfc(name):
    return unicodedata.normalize("NFC", name)  # W6
