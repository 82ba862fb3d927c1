"""What was read of the GPU beside a trial, and which of it means that the GPU was held back."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

# The bits of NVML's clock-event mask, under the names that `nvidia-smi -q -d PERFORMANCE` and
# `--query-gpu=clocks_event_reasons.NAME` use. The values are part of NVML's stable interface.
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
# Events that make a rate a matter of the minute in which it was measured: heat, a power supply
# that gives in, and a group of GPUs that waits for its hottest member. The others are the normal
# state of a card: idle; clocks that somebody set, or that a display needs, which are the same in
# every round; and the power cap, under which a busy data-centre card runs all day.
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
    """The words for NVML's mask of clock events; a bit that is not known here gets its number."""
    bits = [1 << index for index in range(mask.bit_length()) if mask >> index & 1]
    return frozenset(CLOCK_EVENTS.get(bit, f"reason_{bit:#x}") for bit in bits)


class GpuReadings(BaseModel):
    """What NVML said of the GPU while a trial ran, its start-up included.

    Each is None, or empty, where the driver does not tell.

    Attributes:
        utilisation: mean share, 0 to 1, of the time in which any kernel ran.
        sm_clock_mhz: median clock of the multiprocessors.
        device_used_mib: most memory in use on the whole device, over what was in use before the
            trial; what other processes take in the meantime is in it.
        clock_events: why the clocks were below their maximum at any look, in NVML's words.
        looks: how often it looked.
        problem: why it stopped looking before the trial's end; None where it didn't.
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
        """The clock events that make a rate not comparable; empty where there was none."""
        return sorted(THROTTLING & set(self.clock_events))
