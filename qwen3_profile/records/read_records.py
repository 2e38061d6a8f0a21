"""Reads `timing_records.json` back into the records that were written, as far as it tells them.

Times are per forward pass, as the file has them: a decode that was traced in several steps comes
back as one pass, their mean. What is not in the file, such as calls and idle stretches, is 0 or
empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from qwen3_profile import labels
from qwen3_profile.attribution.attention_kernels import AttentionKernel
from qwen3_profile.attribution.findings import Finding
from qwen3_profile.attribution.idle import IdleTimes
from qwen3_profile.attribution.parts import NO_PART, Part, PartSums, Times
from qwen3_profile.config import COMPILED, EAGER, RunConfig
from qwen3_profile.errors import ProfileError, TraceError
from qwen3_profile.passes.pass_times import PassTimes, Unattributed
from qwen3_profile.records.record import PassWalls, RunFacts, TimingRecord
from qwen3_profile.records.record_json import SCHEMA_VERSION
from qwen3_profile.run_folder.run_json import Environment, ModelFacts
from qwen3_profile.run_folder.sm_clock import SmClock

_NS_PER_S = 1e9
_CUDA, _BACKWARD, _DETAILS = "_cuda", "_bwd", "_details"
_ATTENTION = "attention"
_IDLE = IdleTimes._fields

Entry = Mapping[str, Any]


def read_records(path: Path, text: bytes) -> tuple[TimingRecord, ...]:
    """The records of a file.

    Args:
        path: names the file in errors.
        text: what is in it, unpacked.

    Raises:
        TraceError: it holds something else, or was written by a newer version.
    """
    try:
        entries = msgspec.json.decode(text, type=list[dict[str, Any]])
        newest = max((entry["schema_version"] for entry in entries), default=0)
        if newest > SCHEMA_VERSION:
            newer = f"was written by a newer qwen3_profile (schema {newest})"
            raise TraceError(str(path), newer, "upgrade qwen3_profile")
        return tuple(map(_record, entries))
    except TraceError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TraceError(str(path), f"is not a file of records: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError, ProfileError) as error:
        what = f"holds a record that is not one of ours: {type(error).__name__} {error}"
        raise TraceError(str(path), what, "write it again with the export") from error


def _record(entry: Entry) -> TimingRecord:
    total_ns = _ns(entry["total_time"])
    return TimingRecord(
        id=entry["id"],
        config_index=entry["config_index"],
        run_index=entry["run_index"],
        phase=entry["phase"],
        times=_times(entry),
        findings=tuple(msgspec.convert(entry["findings"], list[Finding])),
        facts=_facts(entry),
        timestamp=entry["timestamp"],
        config=_config(entry),
        total_ns=total_ns,
        profiled_ns=_ns(entry["profiled_time"]),
        phase_source=entry["phase_source"],
        step_times_ns=tuple(round(s * _NS_PER_S) for s in entry.get("step_times", ())),
        walls=_walls(entry, total_ns),
        sm_clock=msgspec.convert(entry.get("sm_clock_mhz", {}), SmClock),
    )


def _ns(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * _NS_PER_S


def _walls(entry: Entry, total_ns: float | None) -> tuple[PassWalls, ...]:
    """One pass that was disturbed as much as those of the record were in the middle."""
    ratios = entry.get("overhead") or {"traced": entry["disturbance"]}
    if not total_ns or not ratios["traced"]:
        return ()
    walls = {f"{kind}_ns": round(total_ns * ratio) for kind, ratio in ratios.items() if ratio}
    return (PassWalls(bare_ns=round(total_ns), **walls),)


def _facts(entry: Entry) -> RunFacts:
    names = {field.name for field in fields(RunFacts)}
    known = {name: value for name, value in entry.items() if name in names}
    known["warnings"] = tuple(entry["warnings"])
    known["lengths"] = tuple((entry["tokens"] or {}).get("lengths", ()))
    for name, kind in (("model", ModelFacts), ("environment", Environment)):
        known[name] = None if entry[name] is None else msgspec.convert(entry[name], kind)
    return RunFacts(**known)


def _config(entry: Entry) -> RunConfig | None:
    """What was asked for; of attention and experts what ran."""
    if entry["batch_size"] is None:
        return None
    same = ("batch_size", "input_len", "dtype", "num_runs", "warmup_runs", "cache", "inputs")
    words = {name: entry[name] for name in (*same, "decode_steps")}
    if entry["execution"] == COMPILED:
        words |= {name: entry[name] for name in ("compile_mode", "compile_scope")}
    return RunConfig(
        **words,
        attn_implementation=entry["attn_implementation"],
        experts_implementation=entry["experts_implementation"],
        execution=entry["execution"] or EAGER,
        backward=entry["phase"] == labels.TRAIN_STEP,
    )


def _times(entry: Entry) -> PassTimes:
    steps = entry["steps"]
    attention = entry["attn_kernel"]
    return PassTimes(
        number=0,
        start_ns=0,
        forward=_forward(entry),
        device_ns=_whole_ns(entry["cuda_total"]),
        device_events=round(entry["device_events"] / steps),
        busy_ns=_whole_ns(entry["cuda_busy"]),
        idle=IdleTimes(*(_whole_ns(entry.get(f"cuda_{name[:-3]}", 0.0)) for name in _IDLE)),
        unattributed=tuple(
            Unattributed(item["reason"], round(item["ns"] / steps), round(item["events"] / steps))
            for item in entry["unattributed"]
        ),
        cross_thread_ns=_whole_ns(entry.get("cross_thread_cuda", 0.0)),
        cross_thread_events=round(entry["cross_thread_events"] / steps),
        attention=None if attention is None else msgspec.convert(attention, AttentionKernel),
        has_clock=entry.get("cpu_source") == "clock",
        has_device=entry.get("idle_source") == "device",
    )


def _whole_ns(seconds: float) -> int:
    return round(seconds * _NS_PER_S)


def _forward(entry: Entry) -> Part:
    """The forward pass with its parts; of a training step its backward is one of them."""
    layers, rest = entry["layer_details"], entry["model_details"]
    forward, backward = _pair(entry, "forward"), _pair(entry, "backward")
    tree = PartSums()
    # An entry has the backward next to the forward, and a tree has it inside.
    total = _sum(forward, backward)
    root = tree.add_row(NO_PART, entry["phase"], (*total, *_pair(rest, labels.OTHER)))
    _add_model(tree, root, layers, rest)
    if "backward" in entry:
        layers, rest = [_backward(layer) for layer in layers], _backward(rest)
        times = (*backward, *_pair(rest, labels.OTHER))
        _add_model(tree, tree.add_row(root, labels.BACKWARD, times), layers, rest)
    return tree.root()


def _backward(entry: Entry) -> dict[str, Any]:
    """What an entry says of the backward, under the names of the forward."""
    found: dict[str, Any] = {}
    for key, value in entry.items():
        name = key.removesuffix(_CUDA)
        if isinstance(value, Mapping):
            found[key] = _backward(value)
        elif name.endswith(_BACKWARD):
            found[name.removesuffix(_BACKWARD) + key[len(name) :]] = value
        elif key == "kind":
            found[key] = value
    return found


def _add_model(tree: PartSums, root: int, layers: Sequence[Entry], rest: Entry) -> None:
    """Puts layers and what lies outside them below a forward pass, in the order of the pass."""
    names = list(_names(rest))
    # Layers run between the parts that come before them and the head behind.
    border = next((at for at, name in enumerate(names) if name in _BEHIND), len(names))
    _add_parts(tree, root, "", rest, names[:border])
    for number, layer in enumerate(layers):
        _add_layer(tree, root, f"layer.{number}", layer)
    _add_parts(tree, root, "", rest, names[border:])


_BEHIND = ("norm", "lm_head", "sample", "loss")
_LAYER_ORDER = (
    "input_layernorm", "attn", "linear_attn", "residual_attn", "post_attention_layernorm", "ffn",
)  # fmt: skip


def _add_layer(tree: PartSums, root: int, name: str, entry: Entry) -> None:
    called = dict(entry)
    if entry.get("kind", _ATTENTION) != _ATTENTION:
        for key in [key for key in called if key.partition("_")[0] == "attn"]:
            block = called.pop(key)
            if entry["kind"] != "none":
                called[key.replace("attn", "linear_attn", 1)] = block
    parts, own = sorted(_names(called), key=_place), _pair(entry, labels.OTHER)
    total = _sum(own, *(_pair(called, part) for part in parts))
    _add_parts(tree, tree.add_row(root, name, (*total, *own)), f"{name}.", called, parts)


def _place(block: str) -> int:
    """Where a part runs in its layer; an entry begins with the blocks."""
    return _LAYER_ORDER.index(block) if block in _LAYER_ORDER else len(_LAYER_ORDER)


def _add_parts(tree: PartSums, above: int, prefix: str, entry: Entry, names: Iterable[str]) -> None:
    for name in names:
        inside = entry.get(f"{name}{_DETAILS}", {})
        total = _pair(entry, name)
        own = _pair(inside, labels.OTHER) if inside else total
        row = tree.add_row(above, f"{prefix}{name}", (*total, *own))
        _add_parts(tree, row, f"{prefix}{name}.", inside, _names(inside))


def _names(entry: Entry) -> Iterator[str]:
    """The parts that an entry has times of, without what of it no part explains."""
    for key in entry:
        is_part = f"{key}{_CUDA}" in entry and key != labels.OTHER
        if is_part and not key.endswith(_BACKWARD):
            yield key


def _pair(entry: Entry, name: str) -> Times:
    """CPU and device time of one forward pass; 0 of what the entry does not have."""
    cpu_ns, device_ns = entry.get(name, 0.0), entry.get(f"{name}{_CUDA}", 0.0)
    return Times(cpu_ns=_whole_ns(cpu_ns), device_ns=_whole_ns(device_ns))


def _sum(*several: Times) -> Times:
    return Times(
        cpu_ns=sum(each.cpu_ns for each in several),
        device_ns=sum(each.device_ns for each in several),
    )
