"""A plain reading of a trace for the mutation campaign: json and loops, no code of the package.

It sums device time by label, and looks whether the file contradicts itself: slow, and simple enough
to be believed.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}
CALLS = {"cuda_runtime", "cuda_driver"}
WAITS = {"cuda_sync"}
ARROWS = {"ac2g", "async_cpu_to_gpu"}
# What Kineto called them in 2021.
_OLD_NAMES = {
    "Kernel": "kernel",
    "Memcpy": "gpu_memcpy",
    "Memset": "gpu_memset",
    "Operator": "cpu_op",
    "Runtime": "cuda_runtime",
}
_FRAMEWORK = re.compile(
    r"ProfilerStep#.*|(nccl|gloo|mpi|ucc|xccl|hccl):.*|c10d::.*|record_param_comms.*|Optimizer\..*"
    r"|## Call CompiledFxGraph .*|Torch-Compiled Region.*|TorchDynamo Cache Lookup"
    r"|enumerate\(DataLoader\).*|PyTorch Profiler.*|DistributedDataParallel\..*"
)
# The project's own labels count whatever their category.
_OURS = re.compile(
    r"prefill|decode|train_step|embed_tokens|causal_mask|rotary_emb|norm|lm_head|sample|loss"
    r"|backward|layer\.\d+(\.[a-z][a-z0-9_.]*)?"
)
_TICK_NS = 1000
_BANDWIDTH = "memory bandwidth (GB/s)"
Event = dict[str, Any]


class PlainReading:
    """The complete events of a text, with integer nanoseconds.

    Raises whatever json and arithmetic raise of a text that is broken.
    """

    def __init__(self, text: str) -> None:
        document = json.loads(text, parse_float=Decimal, parse_constant=_refuse)
        found = document if isinstance(document, list) else document["traceEvents"]
        self.complete = [event for event in found if event.get("ph") == "X"]
        self.arrows = [e for e in found if e.get("cat") in ARROWS and e.get("ph") in ("s", "f")]
        for event in self.complete:
            event["cat"] = _OLD_NAMES.get(event["cat"], event["cat"])
            event["start"], event["length"] = _ns(event["ts"]), _ns(event["dur"])
            event["end"] = event["start"] + event["length"]
            event["place"] = (str(event.get("pid")), str(event.get("tid")))
            event["id"] = (event.get("args") or {}).get("correlation")
        self.device = [event for event in self.complete if event["cat"] in DEVICE]
        self.calls = [event for event in self.complete if event["cat"] in CALLS]
        self.labels = [
            event
            for event in self.complete
            if (event["cat"] == "user_annotation" and not _FRAMEWORK.fullmatch(event["name"]))
            or (event["cat"] == "cpu_op" and _OURS.fullmatch(event["name"]))
        ]

    # --- sums -----------------------------------------------------------------------------------

    def device_ns(self) -> int:
        return sum(event["length"] for event in self.device)

    def label_ns(self) -> dict[str, int]:
        """By label: the time of the device events whose innermost label it is at their launch."""
        launches: dict[object, Event] = {}
        for call in sorted(self.calls, key=lambda e: (e["start"], -e["length"], e["cat"])):
            # Of one start and length the runtime's call is around the driver's, by name last.
            known = launches.get(call["id"])
            if known is None or _is_around(call, known):
                launches[call["id"]] = call
        by_thread: dict[tuple[str, str], list[Event]] = defaultdict(list)
        for label in sorted(self.labels, key=lambda e: (e["start"], -e["length"])):
            by_thread[label["place"]].append(label)
        found: Counter[str] = Counter()
        for event in self.device:
            launch = launches.get(event["id"]) if event["id"] else None
            name = _open_label(by_thread, launch) if launch else None
            if name is not None and event["length"]:
                found[name] += event["length"]
        return dict(found)

    # --- contradictions -------------------------------------------------------------------------

    def contradictions(self) -> Counter[str]:
        """How often the file says two things of one event that cannot both be."""
        return Counter(
            {
                "arrow": self._arrows_astray(),
                "twice": self._doubled(),
                "window": self._outside(),
                "device": self._other_devices(),
                "bandwidth": self._bandwidths(),
                "nothing": self._without_duration(),
                "call": self._calls_outlast(),
            }
        )

    def _arrows_astray(self) -> int:
        linked = CALLS | DEVICE | WAITS
        known = {(e["id"], e["start"], e["place"]) for e in self.complete if e["cat"] in linked}
        return sum(
            (a.get("id"), _ns(a["ts"]), (str(a.get("pid")), str(a.get("tid")))) not in known
            for a in self.arrows
        )

    def _doubled(self) -> int:
        alike = Counter(
            (e["cat"], e["name"], e["place"], e["start"], e["length"], str(e.get("args")))
            for e in (*self.device, *self.calls, *self.labels)
            if e["length"]
        )
        return sum(count - 1 for count in alike.values())

    def _outside(self) -> int:
        windows = [event for event in self.complete if event["cat"] == "Trace"]
        if not windows:
            return 0
        first = min(window["start"] for window in windows) - _TICK_NS
        last = max(window["end"] for window in windows) + _TICK_NS
        labels = sum(not first <= label["start"] <= last for label in self.labels)
        others = (*self.device, *self.calls)
        return labels + sum(e["start"] < first or e["end"] > last for e in others)

    def _other_devices(self) -> int:
        """Where the pid of one event is not its device, and other events have it so."""
        pids: dict[object, Counter[object]] = defaultdict(Counter)
        for event in self.device:
            said = (event.get("args") or {}).get("device")
            if said is not None:
                pids[said][event["pid"]] += 1
        return sum(
            count
            for said, seen in pids.items()
            if len(seen) > 1
            for pid, count in seen.items()
            if pid != said
        )

    def _bandwidths(self) -> int:
        """Copies that are twice as long, or half, as their bytes and bandwidth say."""
        found = 0
        for event in self.device:
            args = event.get("args") or {}
            size, speed = args.get("bytes"), args.get(_BANDWIDTH)
            if isinstance(size, int) and size and isinstance(speed, (int, Decimal)) and speed > 0:
                said = size / float(speed)
                slack = 2 * _TICK_NS
                found += not said / 2 - slack <= event["length"] <= 2 * said + slack
        return found

    def _without_duration(self) -> int:
        kernels = [event for event in self.device if event["cat"] == "kernel"]
        if all(e["start"] % 1000 == 0 and e["length"] % 1000 == 0 for e in kernels):
            return 0
        return sum(event["length"] == 0 for event in kernels)

    def _calls_outlast(self) -> int:
        found = 0
        for call in self.calls:
            around = [
                e
                for e in self.labels
                if e["place"] == call["place"] and e["start"] <= call["start"] < e["end"]
            ]
            inner = min(around, key=lambda e: e["length"], default=None)
            found += inner is not None and call["end"] > inner["end"] + _TICK_NS
        return found


def _is_around(call: Event, known: Event) -> bool:
    same = (call["start"], call["length"]) == (known["start"], known["length"])
    return bool(same and known["cat"] == "cuda_driver" and call["cat"] == "cuda_runtime")


def _open_label(by_thread: dict[tuple[str, str], list[Event]], launch: Event) -> str | None:
    at = launch["start"]
    mine = _innermost(by_thread.get(launch["place"], []), at)
    if mine is not None:
        return mine
    others = [_innermost(labels, at) for labels in by_thread.values()]
    opened = [name for name in others if name is not None]
    return opened[0] if len(opened) == 1 else None


def _innermost(labels: list[Event], at: int) -> str | None:
    """The one that opened last of those that are open; of one start the shorter."""
    for label in reversed(labels):
        if label["start"] <= at < label["end"]:
            return str(label["name"])
    return None


def _ns(us: object) -> int:
    if not isinstance(us, (int, Decimal)) or isinstance(us, bool):
        raise TypeError(f"{us!r} is no time")
    return int((Decimal(us) * 1000).to_integral_value())


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no number")
