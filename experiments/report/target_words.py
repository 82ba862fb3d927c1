"""Says whether a study found settings that keep the accelerator busy, and at what cost. Pure."""

from __future__ import annotations

from prefetch_tuning.experiments.report.text import (
    factor,
    memory,
    mib,
    rate,
    settings,
    share,
    share_with_interval,
)
from prefetch_tuning.experiments.storage.results import StudyRecord, StudyResult
from prefetch_tuning.experiments.verdict.confirmed import Confirmed
from prefetch_tuning.experiments.verdict.limit import Limit
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE
from prefetch_tuning.experiments.verdict.recommendation import LEAST_SAVED_MIB
from prefetch_tuning.objectives.utilisation import Utilisation
from prefetch_tuning.pipelines.accelerators import ACCELERATORS
from prefetch_tuning.pipelines.target import Target


def is_judged(result: StudyResult) -> bool:
    """Whether a confirmation judged the study's candidates by a target."""
    return result.target is not None and result.recommended is not None


def reaches(result: StudyResult) -> bool:
    """Whether the recommended configuration reaches the target, by its whole interval."""
    chosen = _recommended(result)
    return chosen is not None and bool(chosen.reaches)


def verdict(record: StudyRecord) -> str:
    """The verdict in a sentence or two."""
    result = record.result
    chosen = _recommended(result)
    assert chosen is not None
    fed = fed_step(record)
    use = _use(chosen, record)
    if chosen.reaches:
        found = f"{_busy(chosen)} with {use}, {_cost(chosen, result)}{_beside(result)}"
        return f"{record.info.name}: feeds {fed}: {found}."
    target = share(result.target or 0.0)
    most = share_with_interval(chosen.utilisation) if chosen.utilisation else "an unknown share"
    found = f"{most} with {use}{_beside(result)}"
    if is_open(chosen, result):
        return f"{record.info.name}: not proven to keep {fed} {target} busy: {found}."
    words = f"{record.info.name}: cannot keep {fed} {target} busy: at most {found}"
    missing = what_it_takes(result)
    return f"{words}. {missing}." if missing else f"{words}."


def facts(record: StudyRecord) -> list[tuple[str, str]]:
    """Utilisation and cores, as pairs of a term and its text; empty for other objectives."""
    result = record.result
    chosen = _recommended(result)
    if not is_judged(result) or chosen is None or result.limit is None:
        return []
    full, used = cores_to_feed(chosen, result), cores_busy(chosen)
    cores = f"{full:.2f} to feed the step fully; {used:.2f} of {result.limit.cores:g} in use"
    busy = share_with_interval(chosen.utilisation) if chosen.utilisation else "unknown"
    return [("Busy", busy), ("Cores", cores)]


def what_it_takes(result: StudyResult) -> str:
    """What the machine or the pipeline lacks to reach the target; empty without a limit."""
    limit = result.limit
    if limit is None or result.target is None:
        return ""
    wanted = result.target * limit.terms.step
    lacks = []
    if limit.terms.cpu < wanted:
        needed = limit.cores * wanted / limit.terms.cpu
        lacks.append(f"{needed:.1f} cores like these (there are {limit.cores:g})")
    if limit.terms.generator is not None and limit.terms.generator < wanted:
        lacks.append(_faster_generator(limit, wanted))
    if lacks:
        target = share(result.target)
        return f"Keeping it {target} busy takes {' and '.join(lacks)}"
    return (
        f"Cores and generator allow {factor(limit.before_step / limit.terms.step)} the step's "
        "rate, so a longer search (--trials) may find settings that reach it"
    )


def fed_step(record: StudyRecord) -> str:
    """What consumes the batches, in words."""
    step = Target.parse(record.info.target).step
    if step is None:
        return "the training step"
    known = ACCELERATORS.get(step.accelerator or "")
    if known is not None:
        return f"an {known.chip} training {known.model} (emulated)"
    if step.accelerator is not None:
        return f"the step of {step.accelerator.replace('run-', 'run ')} (emulated)"
    return f"a step of {step} (emulated)"


def cores_busy(found: Confirmed) -> float:
    """Cores that a candidate kept busy at its own rate."""
    return found.cpu_s_per_example * found.examples_per_s


def cores_to_feed(found: Confirmed, result: StudyResult) -> float:
    """Cores that a candidate would keep busy if the step never waited."""
    step = result.limit.terms.step if result.limit else found.examples_per_s
    return found.cpu_s_per_example * step


def _faster_generator(limit: Limit, wanted: float) -> str:
    made = limit.terms.generator or 0.0
    return (
        f"a generator {wanted / made:.1f}x as fast (it makes at most {rate(made)} examples/s in "
        f"{limit.processes_in_words}; {rate(wanted)} are needed)"
    )


def _beside(result: StudyResult) -> str:
    """How AUTOTUNE compares with what is recommended."""
    chosen, autotune = _recommended(result), result.baselines.get(AUTOTUNE)
    if chosen is None or autotune is None or chosen.candidate == AUTOTUNE:
        return ""
    if not autotune.reaches:
        found = autotune.utilisation
        return f"; AUTOTUNE keeps it {share(found.share)} busy" if found else ""
    cores = cores_to_feed(autotune, result) - cores_to_feed(chosen, result)
    mebibytes = autotune.host_peak_mib - chosen.host_peak_mib
    saved = []
    if cores > Utilisation.negligible:
        saved.append(f"{cores:.2f} cores")
    if mebibytes > LEAST_SAVED_MIB:
        saved.append(f"{mib(mebibytes)} MiB")
    if not saved:
        return "; AUTOTUNE also reaches the target, at about the same cost"
    return f"; AUTOTUNE also reaches the target, but takes {' and '.join(saved)} more"


def _cost(found: Confirmed, result: StudyResult) -> str:
    return f"{_cores(found, result)}, {memory(found.host_peak_mib, found.device_peak_mib)}"


def _cores(found: Confirmed, result: StudyResult) -> str:
    return f"{cores_to_feed(found, result):.2f} cores"


def _busy(found: Confirmed) -> str:
    if found.utilisation is None:
        return "busy for an unknown share of the time"
    interval = share_with_interval(found.utilisation)
    first, _, rest = interval.partition(" ")
    return f"{first} busy {rest}".rstrip()


def _use(found: Confirmed, record: StudyRecord) -> str:
    return "AUTOTUNE" if found.candidate == AUTOTUNE else settings(found.config, record.info)


def is_open(found: Confirmed, result: StudyResult) -> bool:
    """Whether its interval contains the target."""
    return found.utilisation is not None and found.utilisation.ci.high >= (result.target or 0.0)


def _recommended(result: StudyResult) -> Confirmed | None:
    chosen = result.recommended
    return next(
        (c for c in result.confirmation if chosen and c.candidate == chosen.candidate), None
    )
