"""What NVML, the driver's own library, reports about the GPU that training steps run on.

NVML never initialises CUDA, so the study's process can ask it. CUDA itself would hold memory on the
device there, and no trial could be forked any more.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any, Self

from prefetch_tuning.objectives.gpu_readings import event_names
from prefetch_tuning.objectives.machine.process_tree import MIB

# A constant from nvml.h. It isn't read from the module, because a test replaces it.
CLOCK_SM = 1


def first_visible(environment: Mapping[str, str]) -> int | str | None:
    """The first GPU that CUDA shows to a process with this environment.

    CUDA_VISIBLE_DEVICES lists indices or UUIDs; CUDA hides everything after an invalid one.

    Returns:
        An index, a UUID (`GPU-...` or `MIG-...`, possibly shortened), or None if the variable
        hides every GPU.
    """
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return 0
    first = listed.split(",")[0].strip()
    if first.isdecimal():
        return int(first)
    return first if first.startswith(("GPU-", "MIG-")) else None


class Gpu:
    """The first GPU that TensorFlow would see; a context manager, or use `open` and `close`.

    Nothing here raises. The answer is None without the library nvidia-ml-py, a driver or a GPU,
    for every question that the driver doesn't answer, before `open` and after `close`.
    """

    def __init__(self, nvml: Any = None, environment: Mapping[str, str] | None = None) -> None:
        """`nvml` replaces the module `pynvml`, and `environment` replaces `os.environ`."""
        self._nvml = nvml
        self._environment = os.environ if environment is None else environment
        self._handle: Any = None
        self._tried = self._started = False

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> Self:
        """Starts NVML and finds the device; `is_known` says whether there is one.

        A second call does nothing, even if the first one found no device.
        """
        wanted = first_visible(self._environment)
        if wanted is None or self._tried:
            return self
        self._tried = True
        if self._nvml is None:
            try:
                self._nvml = importlib.import_module("pynvml")
            except ImportError:  # the extra `cuda` installs it
                return self
        try:
            self._nvml.nvmlInit()
        except Exception:  # there is no driver, or one that doesn't match the library
            return self
        self._started = True
        self._handle = self._find(wanted)
        return self

    def close(self) -> None:
        """Releases NVML; closing twice does nothing."""
        started, self._handle, self._tried, self._started = self._started, None, False, False
        if started:
            self._ask("nvmlShutdown")

    @property
    def is_known(self) -> bool:
        """Whether NVML knows the device, so it makes sense to ask."""
        return self._handle is not None

    # ---- what does not change

    @property
    def name(self) -> str | None:
        """The name that `nvidia-smi -L` shows."""
        return _text(self._ask_device("nvmlDeviceGetName"))

    @property
    def driver_version(self) -> str | None:
        """Version of the kernel driver, like "570.86.15"."""
        return _text(self._ask("nvmlSystemGetDriverVersion")) if self.is_known else None

    @property
    def cuda_driver_version(self) -> str | None:
        """The newest CUDA that the driver can run, like "12.8"."""
        number = self._ask("nvmlSystemGetCudaDriverVersion") if self.is_known else None
        return None if number is None else f"{number // 1_000}.{number % 1_000 // 10}"

    @property
    def memory_total_mib(self) -> float | None:
        """Memory of the whole device, in MiB."""
        memory = self._ask_device("nvmlDeviceGetMemoryInfo")
        return None if memory is None else float(memory.total) / MIB

    @property
    def max_sm_clock_mhz(self) -> float | None:
        """The highest clock of the multiprocessors, in MHz."""
        return _number(self._ask_device("nvmlDeviceGetMaxClockInfo", CLOCK_SM))

    # ---- what changes from moment to moment

    def memory_used_mib(self) -> float | None:
        """Memory in use on the whole device, by any process, in MiB."""
        memory = self._ask_device("nvmlDeviceGetMemoryInfo")
        return None if memory is None else float(memory.used) / MIB

    def utilisation_percent(self) -> float | None:
        """Share of the driver's last period, 1/6 to 1 s, in which any kernel ran; 0 to 100."""
        rates = self._ask_device("nvmlDeviceGetUtilizationRates")
        return None if rates is None else float(rates.gpu)

    def sm_clock_mhz(self) -> float | None:
        """The current clock of the multiprocessors, in MHz."""
        return _number(self._ask_device("nvmlDeviceGetClockInfo", CLOCK_SM))

    def clock_events(self) -> frozenset[str] | None:
        """Why the clocks are below their maximum now; see `gpu_readings.CLOCK_EVENTS`."""
        mask = self._ask_device("nvmlDeviceGetCurrentClocksEventReasons")
        if mask is None:  # a driver or library older than the function's renaming
            mask = self._ask_device("nvmlDeviceGetCurrentClocksThrottleReasons")
        return None if mask is None else event_names(int(mask))

    def _find(self, wanted: int | str) -> Any:
        if isinstance(wanted, int):
            # NVML counts by PCI bus. CUDA counts the fastest first, so on a host with different
            # GPUs the two agree only with CUDA_DEVICE_ORDER=PCI_BUS_ID.
            return self._ask("nvmlDeviceGetHandleByIndex", wanted)
        found = self._ask("nvmlDeviceGetHandleByUUID", wanted)
        if found is not None:
            return found
        # CUDA accepts the beginning of a UUID, NVML only all of it.
        for index in range(self._ask("nvmlDeviceGetCount") or 0):
            handle = self._ask("nvmlDeviceGetHandleByIndex", index)
            uuid = None if handle is None else _text(self._ask("nvmlDeviceGetUUID", handle))
            if uuid is not None and uuid.startswith(wanted):
                return handle
        return None

    def _ask_device(self, function: str, *arguments: object) -> Any:
        handle = self._handle
        return None if handle is None else self._ask(function, handle, *arguments)

    def _ask(self, function: str, *arguments: object) -> Any:
        """NVML's answer; None if it gives none, for any reason.

        Drivers differ in what they support, virtual and shared GPUs even more, and old libraries
        lack functions. None of that is a reason to end a study.
        """
        try:
            return getattr(self._nvml, function)(*arguments)
        except Exception:
            return None


def _text(answer: str | bytes | None) -> str | None:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else answer


def _number(answer: float | None) -> float | None:
    return None if answer is None else float(answer)
