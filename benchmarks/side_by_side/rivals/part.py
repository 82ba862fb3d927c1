"""What users do instead, on every built-in generator pipeline: each at its best setting."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import paired, say
from benchmarks.journal import read
from benchmarks.side_by_side.compare import EARLY, far_apart
from benchmarks.side_by_side.rivals.looks import DEADLINE_S, best_number
from benchmarks.side_by_side.rivals.targets import RIVALS, rivals_of, target_of
from benchmarks.side_by_side.stand import NoResultError, Stand
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import GeneratorPipeline

ROUNDS, QUICK_ROUNDS = 9, 2
OURS, AUTOTUNE = "ours", "AUTOTUNE"
# AUTOTUNE gets a minute before it is measured: it must not seem slow for lack of time.
PATIENT = StopRule(warmup_max_s=300.0)
PATIENT_PIPELINES, PATIENT_ROUNDS = ("simple", "image", "jpeg"), 3
PART, WAITED, BESIDE_TORCH = "rivals", "patient", "torch"
# The interpreter that has PyTorch, and what it runs.
TORCH = Path(".venv-torch/bin/python")
PROGRAM = Path(__file__).with_name("torch_rounds.py")
THEIRS, WORKERS = "DataLoader", "workers"
QUICK_NUMBERS = 1


@dataclass(frozen=True)
class Chosen:
    """A rival at its best setting."""

    rival: str
    number: int

    @property
    def words(self) -> str:
        """Its name with the setting."""
        rival = RIVALS[self.rival]
        return f"{rival.name}, {rival.setting}: {self.number}" if rival.setting else rival.name


def pipelines(quick: bool) -> list[str]:
    """The built-in pipelines that are generators."""
    named = [name for name in catalog.names() if name != "keras_sequence"]
    return ["noisy"] if quick else named


def measure(stand: Stand) -> None:
    """Measures what the journal doesn't have yet.

    Raises:
        NoResultError: something is missing; everything else was measured.
    """
    missing = []
    for name in pipelines(stand.quick):
        pipeline = catalog.load(name)
        assert isinstance(pipeline, GeneratorPipeline)
        try:
            _measure(stand, name, pipeline)
        except NoResultError as error:
            say(f"{error}")
            missing.append(str(error))
    if missing:
        raise NoResultError("; ".join(missing))


def _measure(stand: Stand, name: str, pipeline: GeneratorPipeline) -> None:
    size, study = max(pipeline.batch_sizes), f"{stand.journal.path.stem}-{name}"
    ours = stand.recommended(study, catalog.resolve(name), size)
    _rounds(stand, pipeline, ours)
    if name in PATIENT_PIPELINES and not stand.quick:
        _beside_patience(stand, name, ours)
    _beside_torch(stand, name, ours)


def _rounds(stand: Stand, pipeline: GeneratorPipeline, ours: PipelineConfig) -> None:
    """Measures every rival at its best number beside ours and AUTOTUNE."""
    name, size = pipeline.name, ours.batch_size
    own, plain = catalog.resolve(name), PipelineConfig.autotune(size)
    most = QUICK_NUMBERS if stand.quick else None
    best = {each: best_number(stand.bench, name, each, size, most) for each in rivals_of(pipeline)}
    found = [Chosen(rival, number) for rival, number in best.items() if number is not None]
    targets = {OURS: own, AUTOTUNE: own}
    targets |= {one.words: target_of(name, one.rival, one.number) for one in found}
    configs = {OURS: ours, AUTOTUNE: plain} | {one.words: plain for one in found}
    count = QUICK_ROUNDS if stand.quick else ROUNDS
    early = min(EARLY, count)
    rounds = stand.bench.rounds(f"{PART}/{name}", targets, configs, early, DEADLINE_S)
    staying = {
        each: config
        for each, config in configs.items()
        if each == OURS or not far_apart(*paired(rounds, OURS, each))
    }
    stand.bench.rounds(f"{PART}/{name}", targets, staying, count, DEADLINE_S)


def _beside_patience(stand: Stand, name: str, ours: PipelineConfig) -> None:
    """Measures AUTOTUNE after a minute, beside ours."""
    both = [(OURS, ours), (AUTOTUNE, PipelineConfig.autotune(ours.batch_size))]
    for number in range(PATIENT_ROUNDS):
        for each, config in both if number % 2 else reversed(both):
            stop = PATIENT if each == AUTOTUNE else None
            key = f"{number:02d}/{each}"
            stand.bench.rate(f"{WAITED}/{name}", key, catalog.resolve(name), config, stop)


def _beside_torch(stand: Stand, name: str, ours: PipelineConfig) -> None:
    """Measures PyTorch's DataLoader beside ours, if `make bench-torch` made its environment."""
    if stand.journal.find(f"{WORKERS}/{name}", WORKERS) is not None:
        return  # its own file may be gone
    if not TORCH.exists():
        raise NoResultError(
            f"{name}: without PyTorch's DataLoader; make bench-torch installs what it needs"
        )
    rounds = QUICK_ROUNDS if stand.quick else ROUNDS
    path = stand.folder / f"torch-{name}.jsonl"
    program = [str(TORCH), str(PROGRAM), name, ours.model_dump_json(), str(rounds), str(path)]
    # Its fork server finds this project by the variable only.
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[3])}
    done = subprocess.run(program, check=False, env=environment)
    lines = [line for line in read(path) if line["part"] in ("rounds", "best")]
    if done.returncode or not lines:
        raise NoResultError(f"{name}: PyTorch's DataLoader could not be measured")
    for line in lines:
        part = f"{BESIDE_TORCH if line['part'] == 'rounds' else WORKERS}/{name}"
        key = line["key"]
        if stand.journal.find(part, key) is None:
            fields = {field: line[field] for field in line if field not in ("part", "key")}
            stand.journal.add(part, key, **fields)
