"""What NVML said about the GPU during a trial, and which readings mean that it was throttled."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

# The bits of NVML's clock-event mask, named as in `nvidia-smi -q -d PERFORMANCE` and
# `--query-gpu=clocks_event_reasons.NAME`. The values are part of NVML's stable interface.
CLOCK_EVENTS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}
# Events that make a rate depend on the minute in which it was measured: heat, a power supply that
# can't keep up, and a group of GPUs that waits for its hottest member. The others are the normal
# state of a card. It may be idle. Clocks that somebody set, or that a display needs, are equal in
# every round. A busy data-centre card runs under its power cap all day.
THROTTLING = frozenset(
    {
        "hw_slowdown",
        "sync_boost",
        "sw_thermal_slowdown",
        "hw_thermal_slowdown",
        "hw_power_brake_slowdown",
    }
)


def event_names(mask: int) -> frozenset[str]:
    """The names in NVML's mask of clock events; an unknown bit is named by its number."""
    bits = [1 << index for index in range(mask.bit_length()) if mask >> index & 1]
    return frozenset(CLOCK_EVENTS.get(bit, f"reason_{bit:#x}") for bit in bits)


class GpuReadings(BaseModel):
    """What NVML said about the GPU during a trial, including its start-up.

    A value is None, or empty, if the driver doesn't report it.

    Attributes:
        utilisation: mean share of the time, 0 to 1, in which any kernel ran.
        sm_clock_mhz: median clock of the multiprocessors.
        device_used_mib: peak memory in use on the whole device, minus what was in use before the
            trial. It includes what other processes allocated during the trial.
        clock_events: all reasons seen for clocks below their maximum, in NVML's words.
        looks: number of samples.
        problem: why sampling stopped before the trial's end; None if it didn't.
    """

    model_config = ConfigDict(frozen=True)

    utilisation: float | None = None
    sm_clock_mhz: float | None = None
    device_used_mib: float | None = None
    clock_events: list[str] = []
    looks: int = 0
    problem: str | None = None

    @property
    def throttled(self) -> list[str]:
        """The clock events that make a rate incomparable; empty if there were none."""
        return sorted(THROTTLING & set(self.clock_events))
