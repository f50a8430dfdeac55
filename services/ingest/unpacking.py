"""Reads a body as it arrives and unpacks it, never holding more than its caps."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.ingest.problems import Kind, Problem

_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_STEP_BYTES: Final = 256 * 1024


class Coding(StrEnum):
    """How a body is packed."""

    IDENTITY = "identity"
    GZIP = "gzip"


def coding_of(content_encoding: str | None) -> Coding | Problem:
    """What a ``Content-Encoding`` announces; several codings on top of each other are refused."""
    name = (content_encoding or "identity").strip().lower()
    if name == "x-gzip":
        return Coding.GZIP
    try:
        return Coding(name)
    except ValueError:
        return Problem(Kind.CONTENT_ENCODING, "send gzip, or no Content-Encoding")


@dataclass(frozen=True, slots=True)
class Caps:
    """Most bytes of a body as sent, and after unpacking; both inclusive."""

    sent: int
    unpacked: int


async def read_body(
    chunks: AsyncIterator[bytes], coding: Coding, caps: Caps, hold: Callable[[int], bool]
) -> bytes | Problem:
    """The unpacked body.

    Args:
        chunks: The body as it arrives.
        coding: How it is packed.
        caps: What it may measure.
        hold: Asked before so many more bytes are kept; False when there is no room for them.
    """
    unpacker = _Gunzip(caps.unpacked) if coding is Coding.GZIP else _Plain()
    sent = 0
    async for chunk in chunks:
        sent += len(chunk)
        if sent > caps.sent:
            return Problem(Kind.BODY_TOO_LARGE, f"at most {caps.sent} bytes are taken as sent")
        kept = unpacker.size
        if problem := unpacker.feed(chunk):
            return problem
        if not hold(unpacker.size - kept):
            return Problem(Kind.BUFFERS_FULL, "too much is being received", retry_after_seconds=1)
    if sent and (problem := unpacker.incomplete()):
        return problem
    return unpacker.body()


class _Plain:
    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def feed(self, chunk: bytes) -> Problem | None:
        self._parts.append(chunk)
        self.size += len(chunk)
        return None

    def incomplete(self) -> Problem | None:
        return None

    def body(self) -> bytes:
        return b"".join(self._parts)


class _Gunzip(_Plain):
    """One or more gzip members (RFC 1952, section 2.2), unpacked step by step up to a cap."""

    def __init__(self, cap: int) -> None:
        super().__init__()
        self._cap = cap
        self._member = zlib.decompressobj(_GZIP_WINDOW)

    def feed(self, chunk: bytes) -> Problem | None:
        while chunk:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP_WINDOW)
            try:
                part = self._member.decompress(chunk, _STEP_BYTES)
            except zlib.error:
                return Problem(Kind.BAD_GZIP, "damaged, or followed by something else")
            if self.size + len(part) > self._cap:
                return Problem(Kind.UNPACKED_TOO_LARGE, f"at most {self._cap} bytes are taken unpacked")
            super().feed(part)
            chunk = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        return None

    def incomplete(self) -> Problem | None:
        return None if self._member.eof else Problem(Kind.BAD_GZIP, "cut off")
