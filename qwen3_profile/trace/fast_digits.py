"""Decimal text to integers: eight digits at a time, for all events of a chunk at once.

Eight characters are one little-endian word of 64 bits, the first of them in its lowest byte:

    "4762833513192.296"      word ending with it:    "3192.296"   without its dot: "03192296"
                             the word before:        "76283351"
                             the one before that:    "       4"   filled up:       "00000004"
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]
Word = npt.NDArray[np.uint64]

_u64 = np.uint64
_ZEROS = _u64(0x3030303030303030)
_BELOW_TEN = _u64(0x7676767676767676)
# The bytes of a word of which only the last n characters are of the number.
_DIGITS = ~np.array([(1 << (8 * (8 - n))) - 1 for n in range(9)], np.uint64)
_LAST_THREE = _u64(0xFFFFFF0000000000)
_FIRST_FOUR = _u64(0x00000000FFFFFFFF)
_SPACES = _u64(0x2020202020202020)
_ONES = _u64(0x0101010101010101)
_HIGHEST = _u64(0x8080808080808080)
_MOST_WORDS = 3  # of a number
_LONGEST = 16  # digits in front of the dot; more of them are no time
_LATEST = _u64(2**62)
# The least time of so many digits in front of the dot.
_LEAST_NS = np.array([0, *(1000 * 10**n for n in range(_LONGEST))], np.uint64)


class Words:
    """The words of a text, from any byte on. Positions may be near its ends, if it has margins."""

    __slots__ = ("_data",)

    def __init__(self, data: bytearray) -> None:
        self._data = data

    def at(self, position: Int64, count: int = 1) -> Word:
        """`count` words from each position on: uint64[count, n].

        To fetch a window of many words takes hardly longer than to fetch one.
        """
        size = 8 * count
        windows: npt.NDArray[np.void] = np.ndarray(
            (len(self._data) - size + 1,), f"V{size}", buffer=self._data, strides=(1,)
        )
        return windows[position].view("<u8").reshape(-1, count).T

    def are(self, position: Int64, text: str) -> Bool:
        """Whether `text` stands at each position."""
        return _are(self.at(position, len(_words_of(text)[0])), text)


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Whole events: `data[begin:end]`."""

    data: bytearray
    words: Words
    begin: int
    end: int

    def cut(self, start: Int64, end: Int64) -> list[bytes]:
        data = self.data
        return [bytes(data[a:b]) for a, b in zip(start.tolist(), end.tolist(), strict=True)]

    def places_of(self, character: str) -> Int64:
        """Where a character stands that stands in few of the words of eight bytes."""
        count = -(-(self.end - self.begin) // 8) * 8
        text = np.frombuffer(self.data, np.uint8, count, self.begin)
        hits = (text == ord(character)).view(np.uint64)
        at = np.flatnonzero(hits != 0)
        hits, found = hits[at], []
        while len(at):
            lowest = hits & -hits
            found.append(8 * at + (lowest * _BYTE_OF >> _u64(56)).view(np.int64))
            hits ^= lowest
            at, hits = at[hits != 0], hits[hits != 0]
        places = np.concatenate([np.empty(0, np.int64), *found]) + self.begin
        if len(found) > 1:
            places.sort()
        return places[: np.searchsorted(places, self.end)]


# The word 1 << 8 * n, multiplied by it, has n in its highest byte.
_BYTE_OF = _u64(0x0001020304050607)


def _are(words: Word, text: str) -> Bool:
    """Whether each column of words, uint64[count, n], begins with `text`."""
    found = np.ones(words.shape[1], bool)
    for got, want, where in zip(words, *_words_of(text), strict=True):
        found &= (got & where) == want
    return found


def word_of(text: str) -> np.uint64:
    """Eight characters as a word."""
    word: np.uint64 = np.frombuffer(text.encode("ascii"), "<u8")[0]
    return word


@lru_cache
def _words_of(text: str) -> tuple[Word, Word]:
    """The words of `text`, the last filled up with nothing, and the bits in them that count."""
    filled = text.encode("ascii").ljust(-(-len(text) // 8) * 8, b"\0")
    mask = (b"\xff" * len(text)).ljust(len(filled), b"\0")
    return np.frombuffer(filled, "<u8"), np.frombuffer(mask, "<u8")


def read_times(words: Words, end: Int64, behind: str) -> tuple[Int64, Int64, Bool, Bool]:
    """Microseconds with three decimals or none that end there, each behind a space.

    Args:
        behind: what is to stand behind them.

    Returns:
        Where each begins, its ns, which of them are such, and behind which that stands.
    """
    around = words.at(end - 8 * _MOST_WORDS, _MOST_WORDS + len(_words_of(behind)[0]))
    last, *before = np.ascontiguousarray(around[:_MOST_WORDS][::-1])
    length = _length_behind_space((last, *before))
    has_dot = ((last >> _u64(32)) & _u64(0xFF) == _u64(ord("."))) & (length > 4)
    # Without the dot the word has seven digits: three decimals, and four in front of them.
    joined = ((last & _FIRST_FOUR) << _u64(8)) | (last & _LAST_THREE)
    if not has_dot.all():
        joined = np.where(has_dot, joined, last)
    value, good = _read_word(joined, _most_eight(length) - has_dot)
    longest = int(length.max(initial=0))
    for number, text in enumerate(before, 1):
        if longest > 8 * number:
            more, also = _read_word(text, _most_eight(length - 8 * number))
            more *= _u64(10 ** (8 * number - 1))
            value += more if has_dot.all() else np.where(has_dot, more, more * _u64(10))
            good &= also
    if not has_dot.all():
        value = np.where(has_dot, value, value * _u64(1000))
    in_front = length - 4 * has_dot
    good &= (in_front > 0) & (in_front <= _LONGEST)
    # JSON has no number that begins with a zero, but for the zero itself.
    in_front[~good] = 1
    good &= (value <= _LATEST) & ((value >= _LEAST_NS[in_front]) | (in_front == 1))
    return end - length, value.view(np.int64), good, _are(around[_MOST_WORDS:], behind)


def _length_behind_space(before: tuple[Word, ...]) -> Int64:
    """How many characters stand behind the last space of the words, the last of which is first."""
    length: Int64 = np.full(len(before[0]), 8 * len(before))
    left = np.ones(len(length), bool)
    for number, text in enumerate(before):
        space = _last_space(text)
        found = left & (space >= 0)
        length[found] = (8 * number + 7 - space)[found]
        left &= space < 0
        if not left.any():
            break
    return length


def _last_space(text: Word) -> Int64:
    """The number of the last byte of each word that is a space, or one below 0."""
    other = text ^ _SPACES
    # Right for the first space of a word, and for what comes behind it if that is no "!".
    spaces = (other - _ONES) & ~other & _HIGHEST
    # The exponent of a float is the number of its highest bit.
    return ((spaces.astype(np.float64).view(np.int64) >> 52) - 1023) >> 3


def read_integers(words: Words, start: Int64, end: Int64) -> tuple[Int64, Bool]:
    """Integers of up to sixteen digits; and which of them are such."""
    length = end - start
    first, last = words.at(end - 16, 2)
    value, good = _read_word(last, _most_eight(length))
    more, also = _read_word(first, _most_eight(length - 8))
    good &= also & (length > 0) & (length <= _LONGEST)
    good &= (words.at(start)[0] & _u64(0xFF) != _u64(ord("0"))) | (length == 1)
    return (value + more * _u64(10**8)).view(np.int64), good


def _most_eight(count: Int64) -> Int64:
    """From 0 to 8; `clip` takes ten times as long to begin."""
    return np.minimum(np.maximum(count, 0), 8)


def _read_word(text: Word, count: Int64) -> tuple[Word, Bool]:
    """The number that the last `count` characters of each word are; and whether they are digits."""
    text = (text ^ _ZEROS) & _DIGITS[count]
    # What is no digit is 10 at least now.
    good = (((text + _BELOW_TEN) | text) & _HIGHEST) == 0
    # Neighbours join to numbers of two digits, these to numbers of four, and these to one of eight.
    text = (text * _u64(10) + (text >> _u64(8))) & _u64(0x00FF00FF00FF00FF)
    text = (text * _u64(100) + (text >> _u64(16))) & _u64(0x0000FFFF0000FFFF)
    return (text * _u64(10000) + (text >> _u64(32))) & _u64(0xFFFFFFFF), good
