"""The machine, its software and its clocks, as the run record keeps them."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata

import torch

from qwen3_profile.run_folder.run_json import Environment
from qwen3_profile.version import __version__

_QUERY = "driver_version,clocks.current.sm,clocks.current.memory"
_QUERY_SECONDS = 5.0


def read_environment(device: torch.device) -> Environment:
    """What is known of the machine that `device` is in; each record adds the kernels replaced."""
    is_cuda = device.type == "cuda"
    driver, sm_clock, memory_clock = ask_driver(device)
    return Environment(
        qwen3_profile=__version__,
        python=platform.python_version(),
        torch=str(torch.__version__),
        transformers=_version("transformers"),
        cuda=torch.version.cuda or torch.version.hip or "",
        driver=driver,
        device_name=torch.cuda.get_device_name(device) if is_cuda else device.type,
        device_memory_bytes=torch.cuda.get_device_properties(device).total_memory
        if is_cuda
        else None,
        sm_clock_mhz=sm_clock,
        memory_clock_mhz=memory_clock,
        cpu=cpu_name(),
        cpu_threads=torch.get_num_threads(),
        system=platform.platform(),
        kernels_replaced=(),
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def cpu_name() -> str:
    """The model of the CPU, as its maker calls it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def ask_driver(device: torch.device) -> tuple[str, int | None, int | None]:
    """Driver version and the clocks of this moment in MHz, from the driver's own tool if there.

    CUDA counts only visible devices; the uuid names the same card to both.
    """
    if device.type != "cuda":
        return "", None, None
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    if uuid is not None:
        command.append(f"--id=GPU-{uuid}")
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=True
        )
        driver, sm_clock, memory_clock = answer.stdout.strip().splitlines()[0].split(", ")
        return driver, int(sm_clock), int(memory_clock)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return "", None, None
