"""Two sides: what differs between them, a verdict on each row, and the kernels behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qwen3_profile.analysis.comparison.compare import Comparison, ConfigComparison
from qwen3_profile.analysis.comparison.kernel_changes import KernelChange, PartChange
from qwen3_profile.analysis.comparison.rows import WHOLE, Row, Rules
from qwen3_profile.analysis.comparison.settings import Setting, describe_pair
from qwen3_profile.analysis.comparison.statistics import POWER
from qwen3_profile.analysis.kernel_names import readable_names
from qwen3_profile.views.terminal.cells import fit, milliseconds, wrap
from qwen3_profile.views.terminal.screen import SCREEN
from qwen3_profile.views.terminal.table import Column, table
from qwen3_profile.words import said

_SETTINGS = (
    Column("what differs", left=True, least=20),
    Column("BASE", left=True, least=24),
    Column("NEW", left=True, least=24),
)
_KERNELS = (
    Column("what", left=True),
    Column("kernel", left=True, least=30),
    Column("runs", leave_out=2),
    Column("mean us", leave_out=1),
    Column("change"),
)
# Of the columns behind the name: which may be left out.
_LEAVE_OUT = (0, 0, 0, 0, 2, 0, 1)
_STYLES = {
    "slower": "red", "appeared": "red", "faster": "green", "vanished": "green",
}  # fmt: skip
# Of the parts that differ, and of their kernels, the largest are explained.
_MOST_ROWS = 160
_DEEPEST = 8
_LONGEST_NAME = 29
_MOST_PARTS = 5
_MOST_REGRESSIONS = 8
_MOST_KERNELS = 6
_MOST_NAMES = 5
_NS_PER_US = 1e3
_LONG_NS = 1e6

_NO_TEST = {"appeared": "appeared", "vanished": "vanished"}


def render_comparison(comparison: Comparison) -> str:
    """All of it, config by config, and what follows for a build that waits for it."""
    rules = comparison.rules
    blocks = [_config(config, rules) for config in comparison.configs]
    blocks += [wrap(f"only in BASE: {name}") for name in comparison.base_alone]
    blocks += [wrap(f"only in NEW: {name}") for name in comparison.new_alone]
    blocks.append("\n".join(wrap(line) for line in conclusions(comparison)))
    return "\n\n".join(filter(None, blocks))


def conclusions(comparison: Comparison) -> Iterator[str]:
    """The last lines: what is a regression, and what would not have been seen."""
    margin = percent(comparison.rules.margin)
    if comparison.itself:
        yield "both sides are the same processes: nothing was compared"
        return
    regressions = sorted(
        comparison.regressions, key=lambda found: (found[1].path != WHOLE, -found[1].change_ns)
    )
    for config, row in regressions[:_MOST_REGRESSIONS]:
        yield (
            f"regression: {_full_name(config, row)}: {_ratio(row.ratio)} times as long, more than "
            f"{margin} beyond noise"
        )
    if len(regressions) > _MOST_REGRESSIONS:
        yield f"and {len(regressions) - _MOST_REGRESSIONS} more rows"
    undecided = sum(bool(config.undecided) for config in comparison.configs)
    if undecided == len(comparison.configs):
        yield f"nothing was decided, so that no regression of more than {margin} could be found"
    elif not regressions:
        yield f"no regression of more than {margin} was found"
    for config, row in comparison.blind:
        yield _blind(config, row, margin)


def _full_name(config: ConfigComparison, row: Row) -> str:
    above = () if row.path[0] == config.phase else (config.phase,)
    return " / ".join((*above, *row.path))


def _blind(config: ConfigComparison, row: Row, margin: str) -> str:
    what = f"{_full_name(config, row)}: a regression of {margin} would not have been seen"
    if not config.is_same_work:
        return what
    if row.unconfirmed or row.needed is None:
        return f"{what}; {row.unconfirmed}" if row.unconfirmed else what
    enough = f"{what}; {row.needed} processes a side would see it"
    as_here = "if they differ as the passes of a process do here"
    if row.test is not None:
        as_here = "if they differ as processes do here"
    return f"{enough}, {as_here}"


def percent(share: float) -> str:
    """A share in percent, with two digits where it is small."""
    return f"{share:.0%}" if share >= 0.1 else f"{100 * share:.2g}%"


def _config(config: ConfigComparison, rules: Rules) -> str:
    base, new = config.pair.base, config.pair.new
    lines = [
        wrap(describe_pair(config.pair)),
        wrap(f"BASE: {processes(base)}; NEW: {processes(new)}"),
    ]
    blocks = ["\n".join(lines), _settings(config.settings), _table(config, rules)]
    if config.undecided:
        blocks.append(wrap(f"nothing is decided: {config.undecided}"))
    blocks.append("\n".join(wrap(line) for line in clock_lines(config)))
    blocks += _reasons(config)
    return "\n\n".join(filter(None, blocks))


def clock_lines(config: ConfigComparison) -> Iterator[str]:
    """What the clock of a GPU has to say to the verdicts; nothing on a CPU."""
    clocks = config.row_clocks or config.bare_clocks
    if clocks is None:
        if config.is_on_gpu:
            yield (
                "SM clocks are not known of both sides, so that no verdict is confirmed in cycles: "
                "pip install nvidia-ml-py, and measure again"
            )
        return
    base, new = clocks.middles
    only = ""
    if config.on_device and config.row_clocks is None:
        only = " of total_time alone; of the other passes it is not known"
    if config.bare_clocks is None and config.whole is not None:
        only = "; that of the bare passes is not known, and total_time is judged by time alone"
    sides = f"BASE {base:,} MHz, NEW {new:,} MHz"
    yield f"SM clock: {sides}; a verdict has to hold in cycles, too{only}"
    unconfirmed: dict[str, list[str]] = {}
    for row in config.every_row:
        if row.unconfirmed:
            unconfirmed.setdefault(row.unconfirmed, []).append(row.path[-1])
    for why, names in unconfirmed.items():
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        told = ", ".join(fit(name, _LONGEST_NAME) for name in names[:_MOST_NAMES])
        yield (
            f"undecided, for it holds in time and not in cycles: {told}{more}; {why} "
            "(nvidia-smi --lock-gpu-clocks holds them)"
        )


def processes(side: Sequence[object]) -> str:
    """How many they are."""
    return f"{len(side)} process{'' if len(side) == 1 else 'es'}"


def _settings(settings: Sequence[Setting]) -> str:
    if not settings:
        return ""
    return table(_SETTINGS, [(each.name, each.base or "-", each.new or "-") for each in settings])


def shown_rows(config: ConfigComparison) -> list[Row]:
    """The rows of the most time, in their order; traces of other programs have thousands."""
    rows = config.every_row
    order = sorted(range(len(rows)), key=lambda at: -max(rows[at].base_ns, rows[at].new_ns))
    return [rows[at] for at in sorted(order[:_MOST_ROWS])]


def head(rules: Rules, on_device: bool) -> tuple[str, ...]:
    """The columns of a table of rows."""
    of = "cuda" if on_device else "cpu"
    name = {"part": "part, all layers", "layer": "layer", "kernel": "kernel"}[rules.by]
    interval = f"{percent(1 - rules.alpha)} interval"
    return (f"{name} ({of})", "BASE ms", "NEW ms", "change", "ratio", interval, "verdict", "sees")


def cells(row: Row) -> tuple[str, ...]:
    """Times, ratio and verdict of one row, without its name."""
    test = row.test
    return (
        milliseconds(row.base_ns),
        milliseconds(row.new_ns),
        _signed(row.change_ns),
        _ratio(row.ratio),
        "" if test is None else f"{test.low:.3f}..{test.high:.3f}",
        verdict(row),
        "" if row.sees is None else percent(row.sees),
    )


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.3f}" if ratio < 10 else f"{ratio:.4g}"


def verdict(row: Row) -> str:
    """The state of a row; of what is sure and small, that it is small."""
    small = row.state in ("slower", "faster") and row.is_within
    return f"{row.state}, small" if small else row.state


def _signed(ns: float) -> str:
    text = milliseconds(ns)
    return f"+{text}" if ns > 0 else text


def _table(config: ConfigComparison, rules: Rules) -> str:
    name, *others = head(rules, config.on_device)
    columns = [Column(name, left=True, least=24, verbatim=True)]
    for other, leave_out in zip(others, _LEAVE_OUT, strict=True):
        columns.append(Column(other, leave_out=leave_out, styles=_STYLES))
    kernels = (row.path[-1] for row in config.rows if rules.by == "kernel")
    names = readable_names(kernels)
    shown, rows = shown_rows(config), []
    for row in shown:
        depth = 0 if row.path == WHOLE else min(len(row.path) - 1, _DEEPEST)
        rows.append(("  " * depth + (names.get(row.path[-1]) or row.path[-1]), *cells(row)))
    lines = [table(columns, rows)]
    if len(shown) < len(config.every_row):
        lines.append(wrap(f"{len(config.every_row) - len(shown)} rows of less time are left out"))
    return "\n".join([*lines, wrap(meaning(rules))])


def meaning(rules: Rules) -> str:
    """What the columns mean."""
    return (
        "times: geometric means over the processes, of each the median pass; total_time of bare "
        f"passes; same: within {percent(rules.margin)}; sees: the smallest slowdown that would be "
        f"found in {POWER:.0%} of such comparisons; intervals are of each row alone, verdicts "
        "allow for the number of rows"
    )


def parts_explained(config: ConfigComparison) -> list[PartChange]:
    """The parts that differ most; of what was decided, those that surely do."""
    states = {row.path: row.state for row in config.rows}
    sure = ("slower", "faster", "appeared", "vanished")
    differ = [part for part in config.kernels if part.change_ns]
    some = [part for part in differ if config.undecided or states[part.path] in sure]
    return sorted(some, key=lambda part: -abs(part.change_ns))[:_MOST_PARTS]


def _reasons(config: ConfigComparison) -> Iterator[str]:
    parts = parts_explained(config)
    names = readable_names((kernel.name for each in parts for kernel in each.kernels), width=48)
    yield from (_reason(each, names) for each in parts)


def _reason(part: PartChange, names: dict[str, str]) -> str:
    where = " / ".join(part.path)
    lines = [
        fit(said(f"why {_signed(part.change_ns)} ms: {where}"), SCREEN.get().width),
    ]
    shown, rest = part.kernels[:_MOST_KERNELS], part.kernels[_MOST_KERNELS:]
    rows = [(each.what, names[each.name], *kernel_cells(each)) for each in shown]
    others = part.explained_ns - sum(round(each.change_ns) for each in shown)
    if rest and is_shown(others):
        rows.append(("", f"{len(rest)} other kernels", "", "", _signed(others)))
    unexplained = part.unexplained_ns
    if is_shown(unexplained):
        what = "unexplained: medians above, means here"
        rows.append(("", what, "", "", _signed(unexplained)))
    return "\n".join((*lines, table(_KERNELS, rows)))


def is_shown(ns: float) -> bool:
    """Whether a time is not 0.000 in milliseconds, to which it is shown."""
    return float(milliseconds(ns).replace(",", "")) != 0


def _microseconds(ns: float) -> str:
    """To the hundredth; of long kernels to the microsecond, for which there is room."""
    return f"{ns / _NS_PER_US:.{2 if ns < _LONG_NS else 0}f}"


def kernel_cells(change: KernelChange) -> Iterator[str]:
    """How often it ran on both sides, its means, and by how much its time differs."""
    counts = [f"{float(count):.4g}" for count in (change.base_count, change.new_count)]
    yield counts[0] if counts[0] == counts[1] else " > ".join(counts)
    means = [
        _microseconds(float(ns / count)) if count else "-"
        for ns, count in ((change.base_ns, change.base_count), (change.new_ns, change.new_count))
    ]
    yield " > ".join(means)
    yield _signed(round(change.change_ns))
