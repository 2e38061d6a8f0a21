"""What two sides were: which configs belong together, and what differs between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qwen3_profile.config import EAGER
from qwen3_profile.labels import WHOLE_TRACE
from qwen3_profile.records.process import Group, Process
from qwen3_profile.records.quantiles import median
from qwen3_profile.records.record import TimingRecord

Member = tuple[Process, Group]

# What configs that belong together have in common, from all of it to what is left if sides differ
# in what is to be compared.
_KEYS: tuple[tuple[str, ...], ...] = (
    ("phase", "rank", "model", "batch size", "input length", "decode steps", "inputs", "dtype",
     "cache", "attention", "experts", "execution", "compile"),
    ("phase", "rank", "model", "batch size", "input length", "decode steps", "inputs", "dtype",
     "execution"),
    ("phase", "rank", "model", "batch size", "input length"),
    ("phase", "rank", "batch size", "input length"),
    ("phase", "rank"),
    ("phase",),
)  # fmt: skip
# Sides that differ in these did not do the same work, so that a difference is no regression.
_WORK = ("batch size", "input length")
# Overheads that differ by less are the same.
_SAME_OVERHEAD = 0.10


@dataclass(frozen=True, slots=True)
class Setting:
    """A name and, in words, what it was; several where the records of a side differ."""

    name: str
    base: str
    new: str


@dataclass(frozen=True, slots=True)
class Pair:
    """The processes of both sides that measured the same; one group of records of each."""

    base: tuple[Member, ...]
    new: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Pairing:
    """What belongs together, and what has no partner, in words."""

    pairs: tuple[Pair, ...]
    base_alone: tuple[str, ...]
    new_alone: tuple[str, ...]


def pair_configs(base: Sequence[Process], new: Sequence[Process]) -> Pairing:
    """Pairs configs by what they are; those that differ in the fewest settings first."""
    left = [members_of(base), members_of(new)]
    pairs = []
    for names in _KEYS:
        one, other = (_by_key(side, names) for side in left)
        for key in [key for key in one if key in other]:
            if len(one[key]) == len(other[key]) == 1:
                base_side, new_side = left[0].pop(one[key][0]), left[1].pop(other[key][0])
                pairs.append(Pair(tuple(base_side), tuple(new_side)))
    alone = (tuple(describe(each[0][1][0]) for each in side.values()) for side in left)
    order = [id(process) for process in base]
    pairs.sort(key=lambda pair: (order.index(id(pair.base[0][0])), pair.base[0][1][0].config_index))
    return Pairing(tuple(pairs), *alone)


def differences(pair: Pair) -> tuple[Setting, ...]:
    """What differs between the sides, and might explain why their times do."""
    base, new = (_said(side) for side in (pair.base, pair.new))
    names = dict.fromkeys((*base, *new))
    found = (Setting(name, base.get(name, ""), new.get(name, "")) for name in names)
    differ = (each for each in found if each.base != each.new)
    return (*differ, *_clocks(pair), *_overheads(pair))


def different_work(pair: Pair, settings: Sequence[Setting]) -> str:
    """Why a difference says nothing of a regression; empty where it may.

    Args:
        settings: what differs between the sides.
    """
    names = [each.name for each in settings if each.name in _WORK]
    devices = [
        record.facts.device or "" for side in (pair.base, pair.new) for _, (record, *_) in side
    ]
    if len({device.partition(":")[0] for device in devices}) > 1:
        names.append("device")
    return f"BASE and NEW did different work: they differ in {', '.join(names)}" if names else ""


def _clocks(pair: Pair) -> Iterator[Setting]:
    """The SM clock of each kind of pass in the middle, where the sides differ in that."""
    for kind in ("bare", "device", "traced"):
        base, new = (_clock(side, kind) for side in (pair.base, pair.new))
        if base != new:
            yield Setting(f"SM clock, {kind} passes", base, new)


def _clock(side: Sequence[Member], kind: str) -> str:
    found = [record.sm_clock.of(kind) for _, group in side for record in group]
    known = [mhz for mhz in found if mhz is not None]
    return f"{median(known):,.0f} MHz" if known else ""


def _overheads(pair: Pair) -> Iterator[Setting]:
    """How much longer than bare the watched passes took, where the sides differ in that."""
    for kind in ("clock", "device", "traced"):
        base, new = (_overhead(side, kind) for side in (pair.base, pair.new))
        if base and new and abs(new / base - 1) > _SAME_OVERHEAD:
            yield Setting(f"{kind} pass / bare pass", f"{base:.2f}", f"{new:.2f}")


def _overhead(side: Sequence[Member], kind: str) -> float | None:
    found = [each.overhead for _, group in side for each in group]
    ratios = [getattr(each, kind) for each in found if each is not None]
    known = [ratio for ratio in ratios if ratio is not None]
    return median(known) if known else None


def describe_pair(pair: Pair) -> str:
    """The config and phase of both sides; of each by itself where they differ."""
    base, new = (describe(side[0][1][0]) for side in (pair.base, pair.new))
    return base if base == new else f"BASE: {base}; NEW: {new}"


def describe(record: TimingRecord) -> str:
    """A config and phase in words: `decode: batch 1 x 256 tokens, bfloat16, sdpa attention`."""
    config, facts = record.config, record.facts
    if config is None:
        model = "" if facts.model_class is None else f", {facts.model_class}"
        if record.phase == WHOLE_TRACE:
            return f"{facts.trace}{model}"
        return f"{record.phase} in the trace {facts.trace}{model}"
    words = [f"batch {config.batch_size} x {config.input_len} tokens", config.dtype]
    words += [f"{facts.attn_implementation} attention"] if facts.attn_implementation else []
    words += [] if config.cache == "dynamic" else [f"{config.cache} cache"]
    words += [] if facts.execution in (None, EAGER) else [facts.execution.replace("_", " ")]
    model = f", {facts.model.name}" if facts.model is not None else ""
    return f"{record.phase}: {', '.join(words)}{model}"


def members_of(side: Sequence[Process]) -> dict[tuple[str, ...], list[Member]]:
    """The groups of all processes of a side by what they are of."""
    found: dict[tuple[str, ...], list[Member]] = {}
    for process in side:
        for group in process.groups:
            found.setdefault(_key(group[0], _KEYS[0]), []).append((process, group))
    return found


def _by_key(
    side: dict[tuple[str, ...], list[Member]], names: tuple[str, ...]
) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """The configs of a side by some of their settings."""
    found: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for key, members in side.items():
        found.setdefault(_key(members[0][1][0], names), []).append(key)
    return found


def _key(record: TimingRecord, names: tuple[str, ...]) -> tuple[str, ...]:
    settings = settings_of(record)
    return tuple(settings.get(name, "") for name in names)


def _said(side: Sequence[Member]) -> dict[str, str]:
    """The settings of all records of a side, and how much their passes were disturbed."""
    found: dict[str, dict[str, None]] = {}
    records = [record for _, group in side for record in group]
    for record in records:
        for name, value in settings_of(record).items():
            found.setdefault(name, {})[value] = None
    return {name: ", ".join(filter(None, values)) for name, values in found.items()}


def settings_of(record: TimingRecord) -> dict[str, str]:
    """All that is known of how a record was made, in words; without what nobody knows."""
    facts, times = record.facts, record.times
    found: dict[str, object] = {"phase": record.phase, "rank": facts.rank}
    found |= _config_settings(record)
    found |= {
        "execution": facts.execution,
        "compile": " ".join(filter(None, (facts.compile_mode, facts.compile_scope))),
        "attention": facts.attn_implementation,
        "attention kernel": times.attention.name if times.attention is not None else None,
        "experts": facts.experts_implementation,
        "device": facts.device,
        "host times": f"of the {record.cpu_source} pass",
        "device times": f"of the {record.idle_source} pass",
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "")} | (
        _machine(record)
    )


def _config_settings(record: TimingRecord) -> dict[str, object]:
    config, model = record.config, record.facts.model
    found: dict[str, object] = {"model": record.facts.model_class}
    if model is not None:
        found["model"] = f"{model.name}, {model.num_layers} layers"
        found["width"] = f"hidden size {model.hidden_size}, {model.parameters:,} parameters"
        found["weights"] = f"{model.weights} ({model.weights_source})"
        found["packed weights"] = str(model.packed) if model.packed is not None else None
    if config is not None:
        found |= {
            "batch size": config.batch_size,
            "input length": config.input_len,
            "decode steps": config.decode_steps,
            "inputs": config.inputs,
            "dtype": config.dtype,
            "cache": config.cache,
        }
    return found


def _machine(record: TimingRecord) -> dict[str, str]:
    environment = record.facts.environment
    if environment is None:
        return {}
    on_device = not (record.facts.device or "").startswith("cpu")
    found = {
        "GPU": environment.device_name if on_device else "",
        "driver": environment.driver,
        "CUDA": environment.cuda,
        "SM clock at the start": _mhz(environment.sm_clock_mhz),
        "memory clock at the start": _mhz(environment.memory_clock_mhz),
        "CPU": environment.cpu,
        "CPU threads": str(environment.cpu_threads),
        "torch": environment.torch,
        "transformers": environment.transformers,
        "python": environment.python,
        "qwen3_profile": environment.qwen3_profile,
        "system": environment.system,
        "replaced kernels": ", ".join(environment.kernels_replaced),
    }
    return {name: value for name, value in found.items() if value}


def _mhz(clock: int | None) -> str:
    return "" if clock is None else f"{clock} MHz"
