"""An encoded body is decoded whole, within its limit, or not at all."""

import gzip
import hashlib
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from coatcheck.http.decode import ENCODINGS, UndecodableBody, decode

MEBIBYTE = 1024 * 1024
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}
TEXT = b'{"jsonrpc":"2.0","id":1,"result":{}}' * 20

NOISE = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(2200))
"""70 KB that do not get smaller."""

each = pytest.mark.parametrize("encoding", ENCODERS)


def test_every_encoding_is_in_these_tables() -> None:
    assert set(ENCODERS) == ENCODINGS


@each
@pytest.mark.parametrize("body", [b"", b"x", TEXT, NOISE], ids=["none", "1", "text", "70 K"])
def test_a_whole_body_is_decoded(encoding, body) -> None:
    assert decode(ENCODERS[encoding](body), encoding, limit=MEBIBYTE) == body


@each
@given(body=st.binary(max_size=300))
def test_decoding_is_the_opposite_of_encoding(encoding, body) -> None:
    assert decode(ENCODERS[encoding](body), encoding, limit=300) == body


@each
def test_every_cut_of_a_body_is_refused(encoding) -> None:
    encoded = ENCODERS[encoding](TEXT)
    for size in range(len(encoded)):
        with pytest.raises(UndecodableBody):
            decode(encoded[:size], encoding, limit=MEBIBYTE)


@each
@pytest.mark.parametrize("tail", [b"\0", b"x", b"\r\n", b"\0" * 512], ids=["NUL", "byte", "line", "padding"])
def test_bytes_behind_the_member_are_refused(encoding, tail) -> None:
    with pytest.raises(UndecodableBody):
        decode(ENCODERS[encoding](TEXT) + tail, encoding, limit=MEBIBYTE)


@each
def test_two_members_are_refused(encoding) -> None:
    with pytest.raises(UndecodableBody):
        decode(ENCODERS[encoding](TEXT) * 2, encoding, limit=MEBIBYTE)


SKIPPABLE = struct.pack("<II", 0x184D2A50, 4) + b"xxxx"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(SKIPPABLE + zstandard.compress(TEXT), id="before"),
        pytest.param(zstandard.compress(TEXT) + SKIPPABLE, id="behind"),
        pytest.param(SKIPPABLE, id="alone"),
    ],
)
def test_a_skippable_frame_is_not_the_one_member(data) -> None:
    with pytest.raises(UndecodableBody):
        decode(data, "zstd", limit=MEBIBYTE)


def test_a_raw_deflate_stream_is_refused() -> None:
    with pytest.raises(UndecodableBody):
        decode(zlib.compress(TEXT)[2:-4], "deflate", limit=MEBIBYTE)


@each
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_nothing_but_what_was_written(encoding, at, flip) -> None:
    """It never raises anything else."""
    encoded = bytearray(ENCODERS[encoding](TEXT))
    encoded[at % len(encoded)] ^= flip
    with suppress(UndecodableBody):
        assert len(decode(bytes(encoded), encoding, limit=MEBIBYTE)) <= MEBIBYTE


@each
@given(data=st.binary(max_size=60))
def test_any_bytes_decode_or_are_refused(encoding, data) -> None:
    with suppress(UndecodableBody):
        assert len(decode(data, encoding, limit=100)) <= 100


@each
@pytest.mark.parametrize("size", [1, 1000, 200_000])
def test_the_limit_is_exact(encoding, size) -> None:
    encoded = ENCODERS[encoding](b"a" * size)
    assert decode(encoded, encoding, limit=size) == b"a" * size
    with pytest.raises(UndecodableBody):
        decode(encoded, encoding, limit=size - 1)


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """300 MB of zeros, made piece by piece."""
    makers = {
        "gzip": zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16),
        "deflate": zlib.compressobj(1),
        "zstd": zstandard.ZstdCompressor().compressobj(),
    }
    zeros = bytes(10 * MEBIBYTE)
    out = {
        name: b"".join([*(maker.compress(zeros) for _ in range(30)), maker.flush()]) for name, maker in makers.items()
    }
    compressor = brotli.Compressor(quality=1)
    out["br"] = b"".join([*(compressor.process(zeros) for _ in range(30)), compressor.finish()])
    return out | {"x-gzip": out["gzip"]}


@each
def test_a_bomb_is_refused_and_takes_no_more_memory_than_the_limit_needs(encoding, bombs) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UndecodableBody):
            decode(bombs[encoding], encoding, limit=2 * MEBIBYTE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * MEBIBYTE


def test_a_window_that_would_take_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = b"".join([compressor.compress(NOISE[:1000] * 20_000), compressor.flush()])
    with pytest.raises(UndecodableBody):
        decode(data, "zstd", limit=64 * MEBIBYTE)


@pytest.mark.parametrize("encoding", ["identity", "", "compress", "GZIP", "gzip, br", "gzip,gzip"])
def test_an_encoding_that_is_not_known_is_refused(encoding) -> None:
    with pytest.raises(UndecodableBody):
        decode(gzip.compress(TEXT), encoding, limit=MEBIBYTE)


@each
def test_no_message_quotes_the_body(encoding) -> None:
    with pytest.raises(UndecodableBody) as caught:
        decode(b"sk-live-canary", encoding, limit=MEBIBYTE)
    assert "canary" not in str(caught.value)
