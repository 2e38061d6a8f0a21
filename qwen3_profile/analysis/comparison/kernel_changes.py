"""Why a part's device time differs: kernels that came, went, ran more often, or took longer.

Of each kernel of a part the difference of its time in a mean pass is of two terms, which add up to
it exactly: (count_new - count_base) x mean_base, and count_new x (mean_new - mean_base).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from qwen3_profile.analysis.comparison.samples import kernel_parts, part_times
from qwen3_profile.analysis.comparison.settings import Member
from qwen3_profile.analysis.part_rows import PartPath
from qwen3_profile.records.process import ReadKernels


@dataclass(frozen=True, slots=True)
class KernelChange:
    """One kernel in one part; counts and times of the mean pass of a side.

    by_count_ns, by_mean_ns: the two terms of the difference.
    """

    name: str
    base_count: Fraction
    new_count: Fraction
    base_ns: Fraction
    new_ns: Fraction

    @property
    def change_ns(self) -> Fraction:
        return self.new_ns - self.base_ns

    @property
    def by_count_ns(self) -> Fraction:
        """Of running more or less often; all of a kernel that only one side has."""
        if not self.base_count or not self.new_count:
            return self.change_ns
        return (self.new_count - self.base_count) * (self.base_ns / self.base_count)

    @property
    def by_mean_ns(self) -> Fraction:
        """Of taking longer or shorter."""
        return self.change_ns - self.by_count_ns

    @property
    def what(self) -> str:
        """In a word: what became of it."""
        if not self.base_count:
            return "appeared"
        if not self.new_count:
            return "vanished"
        return "count" if self.base_count != self.new_count else "mean"


@dataclass(frozen=True, slots=True)
class PartChange:
    """The kernels of one part, of the greatest difference first.

    change_ns: how much longer the part took, as its row in the table says.
    """

    path: PartPath
    change_ns: int
    kernels: tuple[KernelChange, ...]

    @property
    def explained_ns(self) -> int:
        """The sum over the kernels: of mean passes, where the row is of medians."""
        return round(sum(each.change_ns for each in self.kernels))

    @property
    def unexplained_ns(self) -> int:
        return self.change_ns - self.explained_ns


Sums = dict[tuple[PartPath, str], tuple[Fraction, Fraction]]


def mean_kernels(side: Sequence[Member], kernels_of: ReadKernels) -> Sums | None:
    """Of each kernel of each part, count and ns in the mean pass; None where some process shows
    none.
    """
    found = [(group, kernels_of(process, group)) for process, group in side]
    if not all(kernels for _, kernels in found):
        return None
    forwards = (each.times.forward for group, _ in found for each in group)
    known = tuple(dict.fromkeys(path for forward in forwards for path, _ in part_times(forward)))
    events: Counter[tuple[PartPath, str]] = Counter()
    spent_ns: Counter[tuple[PartPath, str]] = Counter()
    every = [each for _, kernels in found for each in kernels]
    for each in every:
        for key, (count, ns) in kernel_parts(each.rows, known).items():
            events[key] += count
            spent_ns[key] += ns
    passes = sum(each.passes for each in every)
    return {key: (Fraction(events[key], passes), Fraction(spent_ns[key], passes)) for key in events}


def kernel_changes(base: Sums, new: Sums) -> dict[PartPath, tuple[KernelChange, ...]]:
    """The kernels of each part that launched any."""
    none = (Fraction(0), Fraction(0))
    found: dict[PartPath, list[KernelChange]] = {}
    for path, name in dict.fromkeys((*base, *new)):
        (base_count, base_ns), (new_count, new_ns) = (
            side.get((path, name), none) for side in (base, new)
        )
        change = KernelChange(name, base_count, new_count, base_ns, new_ns)
        found.setdefault(path, []).append(change)
    return {
        path: tuple(sorted(each, key=lambda one: -abs(one.change_ns)))
        for path, each in found.items()
    }
