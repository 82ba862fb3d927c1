"""A stand-in for the module `pynvml`, with one or more GPUs and functions that can be refused."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

MIB = 2**20


class NotSupported(Exception):
    """Stands in for `pynvml.NVMLError_NotSupported`."""


class FakeNvml:
    """Answers as an H100 does; `refused` names functions that the driver doesn't support.

    `masks`, `used_mib`, `percents` and `clocks_mhz` have one value per call; the last one repeats.
    `on_look` is called with the number of each call that asks for the clock events.
    """

    def __init__(self, uuids: tuple[str, ...] = ("GPU-aaaa-1",), refused: tuple[str, ...] = ()):
        self.uuids = uuids
        self.refused = refused
        self.masks = [0]
        self.used_mib = [600.0]
        self.percents = [50]
        self.clocks_mhz = [1_980]
        self.asked: list[str] = []
        self.open = 0
        self.on_look: Callable[[int], None] = lambda number: None

    def __getattribute__(self, name: str) -> object:
        if name.startswith("nvml"):
            self.asked.append(name)
            if name in self.refused:
                raise NotSupported("Not Supported")
        return super().__getattribute__(name)

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return self.uuids[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid not in self.uuids:
            raise NotSupported("Not Found")
        return uuid

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetName(self, handle: str) -> bytes:
        return f"NVIDIA H100 {handle}".encode()

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.86.15"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 12_080

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(total=81_559 * MIB, used=_next(self.used_mib) * MIB)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=_next(self.percents), memory=7)

    def nvmlDeviceGetClockInfo(self, handle: str, clock: int) -> int:
        assert clock == 1  # NVML_CLOCK_SM
        return int(_next(self.clocks_mhz))

    def nvmlDeviceGetMaxClockInfo(self, handle: str, clock: int) -> int:
        return 1_980

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        self.on_look(self.asked.count("nvmlDeviceGetCurrentClocksEventReasons"))
        return int(_next(self.masks))

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return int(_next(self.masks))


def _next(values: list[float] | list[int]) -> float:
    return values.pop(0) if len(values) > 1 else values[0]
