"""Interns the head of an event, its text from `"ph"` up to the number of `ts`, as its key.

Few events have that text to themselves: it is decoded once, and known by its hash from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from qwen3_profile.trace.fast_digits import Chunk, Int64, Word, Words


class EventHeads:
    """Learns the keys of one file's events.

    Args:
        decode: the key of a head that was not seen before.
    """

    def __init__(self, decode: Callable[[bytes], int]) -> None:
        self._decode = decode
        self._by_text: dict[bytes, int] = {}
        self._hash: Word = np.zeros(1, np.uint64)  # sorted; no head has the hash zero
        self._key: Int64 = np.zeros(1, np.int64)
        # By the highest bits of a hash one of those that begin so.
        self._place = np.zeros(1 << _PLACE_BITS, np.int64)

    def keys(self, chunk: Chunk, start: Int64, end: Int64) -> Int64:
        """The key of each head."""
        short = end - start <= _LONGEST_HASHED
        if short.all():
            return self._by_hash(chunk, start, end)
        key = np.empty(len(start), np.int64)
        key[short] = self._by_hash(chunk, start[short], end[short])
        key[~short] = [self._of_text(head) for head in chunk.cut(start[~short], end[~short])]
        return key

    def _by_hash(self, chunk: Chunk, start: Int64, end: Int64) -> Int64:
        hashes = _hashes(chunk.words, start, end - start)
        at = self._find(hashes)
        new = self._hash[at] != hashes
        if new.any():
            self._learn(chunk, hashes[new], start[new], end[new])
            at = self._find(hashes)
        return self._key[at]

    def _find(self, hashes: Word) -> Int64:
        found: Int64 = self._place[_beginning(hashes)]
        others = np.flatnonzero(self._hash[found] != hashes)
        if len(others):
            found[others] = np.searchsorted(self._hash[1:], hashes[others], side="right")
        return found

    def _learn(self, chunk: Chunk, hashes: Word, start: Int64, end: Int64) -> None:
        hashes, first = np.unique(hashes, return_index=True)
        found = [self._of_text(head) for head in chunk.cut(start[first], end[first])]
        hashes = np.concatenate((self._hash, hashes))
        order = np.argsort(hashes)
        self._hash = hashes[order]
        self._key = np.concatenate((self._key, np.array(found, np.int64)))[order]
        self._place[_beginning(self._hash)] = np.arange(len(self._hash))

    def _of_text(self, head: bytes) -> int:
        known = self._by_text.get(head)
        if known is None:
            known = self._by_text[head] = self._decode(head)
        return known


_PLACE_BITS = 14


def _beginning(hashes: Word) -> Int64:
    return (hashes >> np.uint64(64 - _PLACE_BITS)).view(np.int64)


_WINDOWS = (16, 32, 64, 128)  # words of the heads that are hashed together
_LONGEST_HASHED = 8 * max(_WINDOWS)
_FACTOR = 0x9E3779B97F4A7C15
_POWERS = np.array([pow(_FACTOR, n, 1 << 64) for n in range(1, max(_WINDOWS) + 1)], np.uint64)


def _hashes(words: Words, start: Int64, length: Int64) -> Word:
    """A hash of 64 bits of each head: a polynomial of all its words, and its length."""
    found = length.view(np.uint64) + np.uint64(1)
    shorter = 0
    for count in _WINDOWS:
        mine = np.flatnonzero((length > shorter) & (length <= 8 * count))
        if len(mine):
            text = words.at(start[mine], count).T
            text &= _masks(count).take(length[mine], axis=0)
            found[mine] += text @ _POWERS[:count]
        shorter = 8 * count
    return found


@lru_cache
def _masks(count: int) -> Word:
    """uint64[8 * count + 1, count]: for each length of a text the bits of its words."""
    inside = np.arange(8 * count) < np.arange(8 * count + 1)[:, None]
    return (inside * np.uint8(0xFF)).astype(np.uint8).view("<u8")
