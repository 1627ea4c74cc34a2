"""Encoded bodies, decoded whole and bounded (RFC 9110 section 8.4).

Law: memory is bounded by `limit` whatever the input claims; one member, complete, with nothing behind it, or nothing.
"""

import zlib

import brotli
import zstandard

ENCODINGS = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd"})
"""What can be decoded."""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class UndecodableBody(Exception):
    """The body is not one whole, well-formed member within the limit."""


def decode(data: bytes, encoding: str, *, limit: int) -> bytes:
    """The decoded body. Raises `UndecodableBody`."""
    try:
        match encoding:
            case "gzip" | "x-gzip":
                return _inflate(data, zlib.MAX_WBITS | 16, limit)
            case "deflate":
                return _inflate(data, zlib.MAX_WBITS, limit)
            case "br":
                return _brotli(data, limit)
            case "zstd":
                return _zstd(data, limit)
            case _:
                raise UndecodableBody(f"encoding {encoding!r} is not known")
    except (zlib.error, brotli.error, zstandard.ZstdError) as error:
        raise UndecodableBody(f"not well-formed {encoding}") from error


def _inflate(data: bytes, window: int, limit: int) -> bytes:
    decoder = zlib.decompressobj(window)
    out = decoder.decompress(data, limit + 1)
    if len(out) > limit or not decoder.eof or decoder.unused_data:
        raise UndecodableBody("too large, cut, or more than one member")
    return out


def _brotli(data: bytes, limit: int) -> bytes:
    decoder = brotli.Decompressor()
    out = decoder.process(data, output_buffer_limit=limit + 1)
    while not decoder.is_finished() and len(out) <= limit:
        more = decoder.process(b"", output_buffer_limit=limit + 1 - len(out))
        if not more:
            break
        out += more
    if len(out) > limit or not decoder.is_finished():
        raise UndecodableBody("too large, or cut")
    return bytes(out)


def _zstd(data: bytes, limit: int) -> bytes:
    if not data.startswith(_ZSTD_MAGIC):
        raise UndecodableBody("not a zstd frame")
    decoder = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024)
    with decoder.stream_reader(data, read_across_frames=False) as reader:
        out = reader.read(limit + 1)
    frame = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024).decompressobj()
    if len(out) > limit:
        raise UndecodableBody("too large")
    frame.decompress(data)
    if not frame.eof or frame.unused_data:
        raise UndecodableBody("cut, or more than one frame")
    return out
