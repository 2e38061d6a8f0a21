"""The energy of one pass of a phase, and of one token, from what a loop of such passes took."""

from __future__ import annotations

from dataclasses import dataclass

from qwen3_profile.attribution.findings import Finding, check_energy
from qwen3_profile.config import RunConfig
from qwen3_profile.run_folder.energy import Energy
from qwen3_profile.run_folder.run_json import ConfigResult

_MJ_PER_J, _NS_PER_S, _MW_PER_W = 1e3, 1e9, 1e3


@dataclass(frozen=True, slots=True)
class PassEnergy:
    """Means over all passes of the loop.

    joules: of one pass; of a decode, of one step. tokens: of the pass, as `tokens_per_second`
        counts them.
    joules_above_idle: less what the idle device would have taken in the time.
    power_w, idle_power_w: in the loop, and just before it; power_limit_w: what the card may draw.
    passes, seconds: of the loop. update_seconds: from one move of the counter to the next;
        resolution: that as a share of the loop, which is how far `joules` can be off by it.
    throttled, others: as of a `GpuState`, after the loop.
    """

    joules: float
    joules_per_token: float
    joules_above_idle: float
    power_w: float
    idle_power_w: float
    power_limit_w: float | None
    tokens: int
    passes: int
    seconds: float
    update_seconds: float
    resolution: float
    throttled: tuple[str, ...]
    others: int | None


def config_energy(result: ConfigResult) -> tuple[PassEnergy | None, tuple[Finding, ...]]:
    """The energy of a pass of a saved config; or why it was not measured, if it was asked for."""
    if result.energy is None:
        return None, check_energy(result.no_energy)
    config = result.config
    lengths = result.lengths or (config.input_len,) * config.batch_size
    return pass_energy(result.energy, tokens_of(result.phase, config, lengths)), ()


def tokens_of(phase: str, config: RunConfig, lengths: tuple[int, ...]) -> int:
    """Real tokens of the input; of a decode step, those that it chooses."""
    return config.batch_size if phase == "decode" else sum(lengths)


def pass_energy(energy: Energy, tokens: int) -> PassEnergy:
    """The figures of one pass."""
    seconds = energy.wall_ns / _NS_PER_S
    joules = energy.energy_mj / _MJ_PER_J / energy.passes
    idle_power_w = energy.idle_mj / _MJ_PER_J / (energy.idle_ns / _NS_PER_S)
    limit = energy.power_limit_mw
    return PassEnergy(
        joules=joules,
        joules_per_token=joules / tokens,
        joules_above_idle=joules - idle_power_w * seconds / energy.passes,
        power_w=energy.energy_mj / _MJ_PER_J / seconds,
        idle_power_w=idle_power_w,
        power_limit_w=None if limit is None else limit / _MW_PER_W,
        tokens=tokens,
        passes=energy.passes,
        seconds=seconds,
        update_seconds=energy.update_ns / _NS_PER_S,
        resolution=energy.update_ns / energy.wall_ns,
        throttled=energy.throttled,
        others=energy.others,
    )
