"""Names of kernels in few characters: the function, the functor that it applies, and no more.

    vectorized_elementwise_kernel<MulFunctor>
    elementwise_kernel<direct_copy_kernel_cuda, BFloat16>

Templates and their arguments make thousands of characters, of which the beginning is the same for
most. Of several kernels that would have one short name, each is told by what sets it apart.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import count

# After so many words that set names apart, they are numbered.
_MOST_WORDS = 6
_ANONYMOUS = re.compile(r"\(anonymous namespace\)::|<unnamed>::")
_RETURNS = re.compile(r"^(void|std::enable_if<[^>]*>::type|__global__|static) +")
# Work that a function is given, whatever it is called.
_FUNCTOR = re.compile(
    r"\w*[Ff]unctor\w*|\w*Ops?|\w+_impl(_\w+)?|\w+_cuda|\w*_kernel\w*|\w*[Kk]ernel|\w*gemm\w*"
    r"|cutlass_\w+|divides|plus|multiplies|minus"
)
# What only hands the work on, or describes its data.
_WRAPPER = re.compile(
    r"(Binary|AUnary|BUnary|Unary)Functor|ReduceOp|gpu_kernel_impl\w*|gpu_index_kernel|func_wrapper_t"
    r"|\w*(_traits|Traits|Params|Policy|Metadata)"
)
# Functions whose name says nothing without the place that they stand in.
_BARE = re.compile(r"[Kk]ernel\d?|device_kernel|run|kernel_impl")
_FUNCTION = re.compile(r"[\w:~]+")
_WORD = re.compile(r"[A-Za-z_]\w*|\d+")
_PLACE = re.compile(r"\b\w+::")
_TYPE = re.compile(
    r"float|double|half|__half|Half|BFloat16|__nv_bfloat16|__hip_bfloat16|bfloat16_t|half_t|bool|int"
    r"|long|short|char|complex|Float8\w*|u?int\d+_t|"
)
# What stands in the names of many kernels and says nothing of any.
_NOISE = re.compile(
    r"char|const|void|unsigned|operator|lambda|TensorIterator(Base)?|Array|array|OffsetCalculator|\d+ul?"
)
_PIECE = re.compile(r"[A-Za-z0-9]+")
_MEMORY = re.compile(r"Mem(cpy|set)\b")


def readable_names(names: Iterable[str], width: int = 60) -> dict[str, str]:
    """A short name of each, in at most `width` characters, and of no two the same."""
    distinct = sorted(set(names))
    apart: dict[str, tuple[str, ...]] = dict.fromkeys(distinct, ())
    for _ in range(_MOST_WORDS):
        for same in _clashes(distinct, apart, width):
            for name, word in zip(same, _differing(same, apart[same[0]]), strict=True):
                apart[name] = (*apart[name], word)
    numbers = count(1)
    for same in _clashes(distinct, apart, width):
        for name in same:
            apart[name] = (*apart[name], f"#{next(numbers)}")
    return {name: _fitted(name, apart[name], width) for name in distinct}


def _clashes(
    names: Sequence[str], apart: dict[str, tuple[str, ...]], width: int
) -> list[list[str]]:
    """The names that are still called the same, in groups."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[_fitted(name, apart[name], width)].append(name)
    return [same for same in found.values() if len(same) > 1]


def _differing(same: Sequence[str], known: Sequence[str]) -> list[str]:
    """The first word, of each name, in which the names differ; rather a type than a number."""
    words = [_words(name) for name in same]
    places = range(max(map(len, words)))
    columns = [[each[at] if at < len(each) else "" for each in words] for at in places]
    several = [column for column in columns if len(set(column)) > 1]
    if not several:
        return [""] * len(same)
    return min(several, key=_how_dull)


def _how_dull(column: Sequence[str]) -> int:
    """How little these words tell of a kernel: types tell most, what is in many names least."""
    if all(_TYPE.fullmatch(word) for word in column):
        return 0
    if any(word.isdigit() for word in column):
        return 2
    return 3 if any(_NOISE.fullmatch(word) for word in column) else 1


def _fitted(name: str, apart: Sequence[str], width: int) -> str:
    """The short name with the words that set it apart, without its middle where it is too long."""
    function, functor = _parts(name)
    inside = [word for word in dict.fromkeys((functor, *apart)) if word and word != function]
    tail = f"<{', '.join(inside)}>" if inside else ""
    text = f"{function}{tail}"
    if len(text) <= width:
        return text
    # What sets it apart stands at the end and is kept as far as there is room.
    end = min(max(len(tail), (width - 3) // 2), width - 3 - min(len(function), width // 4))
    return f"{text[: width - 3 - end]}...{text[len(text) - end :]}"


@lru_cache(maxsize=65536)
def _parts(name: str) -> tuple[str, str]:
    """The function and what it applies, which may be empty."""
    if _MEMORY.match(name):
        return name, ""
    if name.startswith("_ZN"):
        return _demangled(name) or name, ""
    plain = _RETURNS.sub("", _ANONYMOUS.sub("", name))
    begin = re.search(r"[<(]", plain)
    if begin is None or not _FUNCTION.fullmatch(plain[: begin.start()]) or plain[-1] not in ">)":
        return plain, ""
    path = plain[: begin.start()].split("::")
    kept = 2 if _BARE.fullmatch(path[-1]) else 1
    function = "::".join(path[-kept:])
    inside = plain[begin.start() : _closing(plain, begin.start())] if begin[0] == "<" else ""
    return function, _functor(inside)


def _functor(arguments: str) -> str:
    found: list[str] = _WORD.findall(arguments)
    words = [word for word in found if _FUNCTOR.fullmatch(word)]
    return next((word for word in words if not _WRAPPER.fullmatch(word)), (words or [""])[0])


def _closing(text: str, begin: int) -> int:
    """Where the bracket that opens at `begin` is closed."""
    depth = 0
    for at in range(begin, len(text)):
        depth += {"<": 1, ">": -1}.get(text[at], 0)
        if not depth:
            return at
    return len(text)


@lru_cache(maxsize=65536)
def _words(name: str) -> tuple[str, ...]:
    if not re.search(r"[<(:]", name):
        return tuple(_PIECE.findall(name))
    return tuple(_WORD.findall(_PLACE.sub("", _ANONYMOUS.sub("", name))))


def _demangled(name: str) -> str:
    """The last two words of the nested name of `_ZN7cutlass13device_kernelI...`."""
    words: list[str] = []
    rest = re.sub(r"^_ZNK?", "", name)
    while (match := re.match(r"\d+", rest)) and int(match[0]) <= len(rest) - match.end():
        end = match.end() + int(match[0])
        words.append(rest[match.end() : end])
        rest = rest[end:]
    return "::".join(words[-2:])
