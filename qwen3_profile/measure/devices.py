"""Which device a run uses, and how much memory it has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from qwen3_profile.errors import ConfigError

_FLAG = "--device"
# What computes in a dtype, as torch and as Linux call it, on x86 and on ARM.
_INSTRUCTIONS = {
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "float16": {"avx512_fp16", "amx_fp16", "asimdhp", "fp16_arith"},
}


@dataclass(frozen=True, slots=True)
class ResolvedDevice:
    """The device of a run.

    device: with its index, where its kind has several.
    fallback: one warning line where this is not what the default asks for, else None.
    """

    device: torch.device
    fallback: str | None


def resolve_device(text: str | None) -> ResolvedDevice:
    """The device that the user means, which is there.

    Args:
        text: such as "cuda", "cuda:1" or "cpu"; None where the user left it to us, which means
            CUDA, or else the CPU and a warning.

    Raises:
        ConfigError: no device is called so, or it is not in this machine.
    """
    if text is None:
        if torch.cuda.is_available():
            return ResolvedDevice(torch.device("cuda", torch.cuda.current_device()), None)
        why = f"no CUDA device ({_why_absent('cuda')}): running on the CPU; all CUDA times are 0"
        return ResolvedDevice(torch.device("cpu"), why)
    device = _parse(text)
    there = _devices_of(device.type)
    if not there:
        do = "leave --device out, or give --device cpu, to run on the CPU"
        raise ConfigError(f"{_FLAG} {text}", f"is not there: {_why_absent(device.type)}", do)
    # The CPU is one device; torch itself takes any index for it.
    index = device.index if device.index is not None else _current_index(device.type)
    if index >= len(there):
        raise ConfigError(f"{_FLAG} {text}", "is not there", f"there is {', '.join(there)}")
    return ResolvedDevice(
        torch.device(device.type) if device.type == "cpu" else torch.device(device.type, index),
        None,
    )


def slow_dtype(device: torch.device, dtype: str) -> str | None:
    """One warning line where `device` has no instructions for `dtype` and emulates it."""
    if not is_emulated(device, dtype):
        return None
    return (
        f"this CPU has no {dtype} instructions and emulates them, several times as slow as "
        "--dtype float32"
    )


def is_emulated(device: torch.device, dtype: str) -> bool:
    """Whether `device` has no instructions for `dtype`; not where it does not tell."""
    flags = _cpu_flags() if device.type == "cpu" and dtype != "float32" else frozenset()
    return bool(flags) and not flags & _INSTRUCTIONS[dtype]


def free_memory_bytes(device: torch.device) -> int | None:
    """The memory that `device` has left, in bytes; None where it does not tell."""
    if device.type == "cpu":
        return _free_host_bytes()
    mem_get_info = getattr(torch.get_device_module(device), "mem_get_info", None)
    return int(mem_get_info(device)[0]) if mem_get_info is not None else None


def _parse(text: str) -> torch.device:
    try:
        device = torch.device(text.strip().lower())
    except RuntimeError as error:
        do = "give cuda, cuda:1, cpu or another device that torch knows"
        raise ConfigError(f"{_FLAG} {text}", "is not a torch device", do) from error
    if device.type == "meta":
        raise ConfigError(f"{_FLAG} {text}", "computes nothing, so there is nothing to time")
    return device


def _devices_of(kind: str) -> list[str]:
    """The devices of one kind that are there, in words: ["cuda:0 (NVIDIA H200)", ...]."""
    if kind == "cpu":
        return ["cpu"]
    try:
        module = torch.get_device_module(kind)
        # The module of a backend that this build of torch lacks has no such functions.
        count = module.device_count() if module.is_available() else 0
    except (AttributeError, RuntimeError):
        return []
    name = getattr(module, "get_device_name", lambda index: kind)
    return [f"{kind}:{index} ({name(index)})" for index in range(count)]


def _current_index(kind: str) -> int:
    current = getattr(torch.get_device_module(kind), "current_device", None)
    return int(current()) if current is not None and kind != "cpu" else 0


def _why_absent(kind: str) -> str:
    if kind == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built without CUDA"
    return f"torch {torch.__version__} sees no {kind} device"


def _free_host_bytes() -> int | None:
    """What can be had without swapping: of the machine, its container, or the process's limit."""
    limits = [_available_bytes(), _cgroup_free_bytes(), _address_space_bytes()]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _available_bytes() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _cgroup_free_bytes(root: str = "/sys/fs/cgroup") -> int | None:
    """The limit of the container less what it holds; page cache counts as free."""
    try:
        with open(f"{root}/memory.max", encoding="ascii") as file:
            limit = file.read().strip()
        with open(f"{root}/memory.stat", encoding="ascii") as file:
            stat = dict(line.split() for line in file)
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    return max(0, int(limit) - int(stat.get("anon", 0)) - int(stat.get("kernel", 0)))


def _address_space_bytes() -> int | None:
    """What `ulimit -v` leaves to this process; None where there is no such limit."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return None
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
    except (ImportError, OSError, ValueError):  # another system than Linux
        return None
    return max(0, limit - pages * os.sysconf("SC_PAGE_SIZE"))


def _cpu_flags(path: str = "/proc/cpuinfo") -> frozenset[str]:
    """The instruction sets that the CPU tells of; empty where nobody lists them."""
    # Older releases of torch have no such function; the system is asked as well.
    told: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return frozenset(name for name, is_there in told.items() if is_there is True) | _listed(path)


def _listed(path: str) -> frozenset[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith(("flags", "Features")):
                    return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()
