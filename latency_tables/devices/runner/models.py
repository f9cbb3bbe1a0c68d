"""Models over there: weights made from shape and seed, and put into the ONNX file's bytes.

A protobuf message that is followed by another one of its kind reads as both merged, so weights are
appended: no ONNX library is needed.
"""

from __future__ import annotations

import base64
import gzip
import json
import os

import numpy as np

from .records import read_file

POOL = (1 << 20) + 7
TYPES = {1: "float32", 2: "uint8", 3: "int8", 10: "float16", 11: "float64", 16: "bfloat16"}
"""ONNX's numbers of the types of weights that are made, and their names."""
_pools: dict[str, np.ndarray] = {}


def load_model(folder, name):
    """Read a model of a bundle: its ONNX bytes with weights, and its inputs by name."""
    header, _, data = gzip.decompress(read_file(os.path.join(folder, "models", name))).partition(
        b"\n"
    )
    facts = json.loads(header.decode())
    feed = {own["name"]: make_input(own) for own in facts["inputs"]}
    return add_weights(data, facts["weights"]), feed


def add_weights(data, weights):
    """Append initializers to a serialized ONNX model."""
    parts = [data]
    for name, shape, kind, how, low, high, seed in weights:
        raw = make_values(shape, TYPES[kind], how, low, high, seed).tobytes()
        tensor = b"".join(encode_number(1, size) for size in shape) + encode_number(2, kind)
        tensor += encode_bytes(8, name.encode())
        head = encode_head(9, len(raw))
        size = len(tensor) + len(head) + len(raw)
        inner = encode_head(5, size)
        parts += [encode_head(7, len(inner) + size), inner, tensor, head, raw]
    return b"".join(parts)


def make_values(shape, kind, how, low, high, seed):
    """Make an array from its shape and seed.

    Values come from a pool that is made once: what they are has no effect on latencies, and making
    each would take a small device longer than timing them.
    """
    count = int(np.prod(shape, dtype=np.int64))
    pool = _pools.get(how)
    if pool is None:
        random = np.random.RandomState(len(_pools))
        pool = random.standard_normal(POOL) if how == "normal" else random.random_sample(POOL)
        pool = _pools[how] = pool.astype(np.float32)
    start = seed * 7919 % POOL
    repeats = (start + count) // POOL + 1
    values = (np.tile(pool, repeats) if repeats > 1 else pool)[start : start + count]
    if how == "normal":
        values = values * np.float32(high) + np.float32(low)
    elif how == "uniform":
        values = values * np.float32(high - low) + np.float32(low)
    else:
        values = np.minimum(np.floor(values * (high - low + 1)) + low, high)
    return to_kind(values, kind).reshape(shape)


def make_input(facts):
    """Make an input, or decode one whose values matter."""
    if facts["data"] is not None:
        raw = gzip.decompress(base64.b64decode(facts["data"]))
        kind = "uint16" if facts["kind"] == "bfloat16" else facts["kind"]
        return np.frombuffer(raw, dtype=kind).reshape(facts["shape"]).copy()
    return make_values(facts["shape"], facts["kind"], facts["how"], facts["low"], facts["high"], 1)


def to_kind(values, kind):
    """Convert to a type by its name; bfloat16 to its bits, rounded to the nearest even."""
    if kind != "bfloat16":
        return values.astype(kind)
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def encode_varint(number):
    """Encode a whole number as protobuf does."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def encode_number(field, number):
    """Encode a field that is a whole number."""
    return encode_varint(field << 3) + encode_varint(number)


def encode_head(field, size):
    """Encode what stands before a field of so many bytes."""
    return encode_varint(field << 3 | 2) + encode_varint(size)


def encode_bytes(field, data):
    """Encode a field of bytes."""
    return encode_head(field, len(data)) + data
