"""Packet data: RFC.md, W3, W8, R2, R4."""

import xxhash
import zstandard

from .wire import COMPRESSED, ENCRYPTED

MAX_SIZE = 4_294_967_295
MAX_WINDOW = 8 << 20
UNKNOWN = (zstandard.CONTENTSIZE_UNKNOWN, 2**64 - 1, -1)


class Fault(Exception):
    """An image with a fault; the text is the verdict."""


def image_id(image):
    return xxhash.xxh64(image, seed=0).hexdigest()  # W3


def receive(flags, id_, data, max_size=MAX_SIZE, max_window=MAX_WINDOW):
    """Returns the verdict, and the image if it is `good`."""
    try:
        if flags & ENCRYPTED:
            raise Fault("encrypted")
        if flags & COMPRESSED:
            image = decode(data, max_size, max_window)
        else:
            image = bytes(data)
        if len(image) > max_size:
            raise Fault("too_large")
        if image_id(image) != id_:
            raise Fault("wrong_id")
    except Fault as fault:
        return str(fault), None
    return "good", image


def decode(data, max_size, max_window):
    """W8: complete frames, at least one of them a data frame, and nothing else."""
    out, any_data = bytearray(), False
    while data:
        if len(data) >= 8 and data[0] & 0xF0 == 0x50 and data[1:4] == b"\x2a\x4d\x18":
            end = 8 + int.from_bytes(data[4:8], "little")
            if len(data) < end:
                raise Fault("broken")
            data = data[end:]
        else:
            data = decode_frame(data, out, max_size, max_window)
            any_data = True
    if not any_data:
        raise Fault("broken")
    return bytes(out)


def decode_frame(data, out, max_size, max_window):
    """Appends the content of the first frame to `out`; returns the data behind the frame."""
    if data[:4] != b"\x28\xb5\x2f\xfd":
        raise Fault("broken")
    try:
        parameters = zstandard.get_frame_parameters(data)
        size_known = parameters.content_size not in UNKNOWN
        if size_known and parameters.content_size > max_size - len(out):
            raise Fault("too_large")
        if parameters.dict_id or parameters.window_size > max_window:
            raise Fault("broken")
        decoder = zstandard.ZstdDecompressor(max_window_size=max(max_window, 1024)).decompressobj()
        before, at = len(out), 0
        while not decoder.eof:
            if at == len(data):
                raise Fault("broken")  # truncated
            # In small pieces: a block of four bytes may decode to 128 KiB.
            out += decoder.decompress(data[at:at + 64])
            at += 64
            at = min(at, len(data))
            if len(out) > max_size:
                raise Fault("too_large")
    except zstandard.ZstdError:
        raise Fault("broken") from None
    if size_known and len(out) - before != parameters.content_size:
        raise Fault("broken")
    return decoder.unused_data + data[at:]
