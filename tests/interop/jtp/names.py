"""File names from a catalog: RFC.md, section 9.2. File types: section 3, W5."""

import re
import unicodedata

from .wire import EXTENSIONS, nfc

MAX_BYTES = 240
FORBIDDEN = set('/\\:<>"|?*') | set("\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f")
FORBIDDEN |= set("\u3164\ufeff\uffa0")
RANGES = ((0x2028, 0x202E), (0x2060, 0x206F), (0xFFF9, 0xFFFB), (0x1D173, 0x1D17A), (0xE0000, 0xE001F))
FORBIDDEN |= {chr(code) for low, high in RANGES for code in range(low, high + 1)}
IMAGES = set(
    "png apng jpg jpeg jpe jfif webp bmp dib gif avif heic heif hif insp jp2 j2k jpf jxl mpo exr hdr ico pbm pcx pdf pgm"
    " pnm ppm psd qoi svg tga tif tiff 3fr arw cr2 cr3 dng erf gpr iiq nef nrw orf pef raf rw2 sr2 srf srw x3f img".split()
)
JOINERS = "\u200c\u200d"
DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|CLOCK\$|(COM|LPT)[0-9\u00b9\u00b2\u00b3])")


def split(name):
    """Stem and extension; the extension includes the dot."""
    dot = name.rfind(".")
    if dot > 0:
        return name[:dot], name[dot:]
    return name, ""


def fit(name, suffix=""):
    stem, extension = split(name)
    room = MAX_BYTES - len((suffix + extension).encode())
    stem = stem.encode()[:room].decode("utf-8", "ignore")
    return (stem + suffix + extension).rstrip(". ")


def of_id(id_, file_type):
    return f"{id_}.{EXTENSIONS[file_type & 7]}"


def ascii_mapped(text, low, high, shift):
    return "".join(chr(ord(c) + shift) if low <= c <= high else c for c in text)


def is_device(name):
    return DEVICE.fullmatch(ascii_mapped(name.split(".")[0].rstrip(" "), "a", "z", -32))


def file_name(catalog_name, id_, file_type):
    if not catalog_name.strip(". "):
        return of_id(id_, file_type)
    safe_name = "".join("_" if c in FORBIDDEN or unicodedata.category(c) == "Cc" else c for c in nfc(catalog_name))
    rest = safe_name.lstrip("." + JOINERS)
    safe_name = ("_" * (len(safe_name) - len(rest)) + rest).rstrip(". ")
    if is_device(safe_name) or safe_name[0] in "-~":
        safe_name = "_" + safe_name
    if ascii_mapped(split(safe_name)[1][1:], "A", "Z", 32) not in IMAGES:
        safe_name += ".img"
    fitted = fit(safe_name)
    return fit("_" + fitted) if is_device(fitted) else fitted


def folded(name):
    kept = (c for c in nfc(name) if c not in JOINERS)
    lower = "".join(c.lower() for c in kept)
    upper = "".join(c.upper() for c in lower)
    return nfc("".join(c.lower() for c in upper))


def suffix_id(name):
    """The ID at the end of the name, if there is one."""
    found = re.search(r"-([0-9a-fA-F]{16})\Z", split(name)[0])
    return found and found.group(1).lower()


def with_id(name, id_):
    return name if suffix_id(name) == id_ else fit(name, f"-{id_}")


def plan(files, sync=False):
    """The file names of images, each given as ID, name in the catalog or None, and type.

    With sync, of several images with exactly one name the last one has it, and the others their IDs as suffixes.
    """
    last = {nfc(catalog_name): id_ for id_, catalog_name, _ in files if catalog_name is not None}
    superseded = {id_ for id_, catalog_name, _ in files if catalog_name is not None and last[nfc(catalog_name)] != id_}
    superseded = superseded if sync else set()
    safe = {id_: file_name(catalog_name, id_, kind) for id_, catalog_name, kind in files if catalog_name is not None}
    same_name = {}
    for id_, name in safe.items():
        if id_ not in superseded:
            same_name.setdefault(folded(name), set()).add(id_)
    names = {}
    for id_, catalog_name, kind in files:
        name = safe.get(id_, of_id(id_, kind))
        others = same_name.get(folded(name), set()) - {id_}
        like = suffix_id(name)
        if like and like != id_ and like in safe and folded(with_id(safe[like], like)) == folded(name):
            others.add(like)
        names[id_] = with_id(name, id_) if others or id_ in superseded else name
    return names


def file_type(start, extension):
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return 0
    if start.startswith(b"\xff\xd8\xff"):
        return 1
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return 2
    if start.startswith(b"BM"):
        return 3
    if start[:6] in (b"GIF87a", b"GIF89a"):
        return 4
    known = {"png": 0, "jpg": 1, "jpeg": 1, "webp": 2, "bmp": 3, "gif": 4}
    return known.get((extension or "").lower(), 7)
