"""Reads tests/vectors; its README describes the format."""

import json
import pathlib

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "vectors"


def load(kind):
    with open(FOLDER / f"{kind}.json", encoding="utf-8") as file:
        found = json.load(file)
    assert found["format"] == 1 and found["kind"] == kind and found["vectors"]
    return unrolled(found["vectors"])


def unrolled(value):
    if isinstance(value, list):
        return [unrolled(item) for item in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for key, item in value.items():
        if key.endswith("_repeat"):
            what, times = item
            key = key.removesuffix("_repeat")
            out[key] = [what] * times if key == "ids" else what * times
        else:
            out[key] = unrolled(item)
    return out


def octets(text):
    out = bytearray()
    for word in text.split():
        digits, _, times = word.partition("*")
        out += bytes.fromhex(digits) * int(times or 1)
    return bytes(out)


def images(name):
    """A catalog as (name, type, id, image, bytes as sent, whether compressed)."""
    [catalog] = [found for found in load("catalog") if found["name"] == name]
    return [image(file) for file in catalog["files"]]


def image(file):
    raw = octets(file["image"])
    compressed = "compressed" in file
    return file["name"], file["type"], file["id"], raw, octets(file["compressed"]) if compressed else raw, compressed
