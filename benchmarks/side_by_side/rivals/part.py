"""What users do instead, on every built-in generator pipeline: each at its best setting."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import BRIEF, say
from benchmarks.journal import read
from benchmarks.side_by_side.rivals.targets import RIVALS, rivals_of, target_of
from benchmarks.side_by_side.stand import Stand
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import GeneratorPipeline

ROUNDS, QUICK_ROUNDS = 9, 3
OURS, AUTOTUNE = "ours", "autotune"
# AUTOTUNE gets a minute before it is measured: it must not seem slow for lack of time.
PATIENT = StopRule(warmup_max_s=300.0)
PATIENT_PIPELINES, PATIENT_ROUNDS = ("simple", "image", "jpeg"), 3
PART, LOOKS, WAITED, BESIDE_TORCH = "rivals", "looks", "patient", "torch"
# The interpreter that has PyTorch, and what it runs.
TORCH = Path(".venv-torch/bin/python")
PROGRAM = Path(__file__).with_name("torch_rounds.py")
THEIRS, WORKERS = "DataLoader", "workers"
# A further number is tried while it gains at least this much.
WORTH_TRYING = 1.05


@dataclass(frozen=True)
class Chosen:
    """A rival at its best setting."""

    rival: str
    number: int

    @property
    def words(self) -> str:
        """Its name with the setting."""
        rival = RIVALS[self.rival]
        return f"{rival.name}, {self.number} {rival.setting}" if rival.setting else rival.name


def pipelines(quick: bool) -> list[str]:
    """The built-in pipelines that are generators."""
    named = [name for name in catalog.names() if name != "keras_sequence"]
    return ["noisy"] if quick else named


def measure(stand: Stand) -> None:
    """Measures what the journal doesn't have yet."""
    for name in pipelines(stand.quick):
        pipeline = catalog.load(name)
        assert isinstance(pipeline, GeneratorPipeline)
        size = max(pipeline.batch_sizes)
        ours = stand.recommended(f"{stand.journal.path.stem}-{name}", catalog.resolve(name), size)
        plain = PipelineConfig.autotune(size)
        chosen = [best_of(stand, name, rival, size) for rival in rivals_of(pipeline)]
        found = [one for one in chosen if one is not None]
        targets = {OURS: catalog.resolve(name), AUTOTUNE: catalog.resolve(name)}
        targets |= {one.words: target_of(name, one.rival, one.number) for one in found}
        configs = {OURS: ours, AUTOTUNE: plain} | {one.words: plain for one in found}
        stand.bench.rounds(
            f"{PART}/{name}", targets, configs, QUICK_ROUNDS if stand.quick else ROUNDS
        )
        if name in PATIENT_PIPELINES and not stand.quick:
            for number in range(PATIENT_ROUNDS):
                for each, config in ((OURS, ours), (AUTOTUNE, plain)):
                    stop = PATIENT if each == AUTOTUNE else None
                    key = f"{number:02d}/{each}"
                    stand.bench.rate(f"{WAITED}/{name}", key, targets[each], config, stop)
        _beside_torch(stand, name, ours)


def _beside_torch(stand: Stand, name: str, ours: PipelineConfig) -> None:
    """Measures PyTorch's DataLoader beside ours, if `make bench-torch` made its environment."""
    if not TORCH.exists():
        say(f"{name}: without PyTorch's DataLoader; make bench-torch installs what it needs")
        return
    rounds = QUICK_ROUNDS if stand.quick else ROUNDS
    path = stand.folder / f"torch-{name}.jsonl"
    program = [str(TORCH), str(PROGRAM), name, ours.model_dump_json(), str(rounds), str(path)]
    done = subprocess.run(program, check=False)
    lines = [line for line in read(path) if line["part"] in ("rounds", "best")]
    if done.returncode or not lines:
        say(f"{name}: PyTorch's DataLoader could not be measured")
        return
    for line in lines:
        part = f"{BESIDE_TORCH}/{name}"
        key = line["key"]
        if stand.journal.find(part, key) is None:
            fields = {field: line[field] for field in line if field not in ("part", "key")}
            stand.journal.add(part, key, **fields)


def best_of(stand: Stand, name: str, rival: str, size: int) -> Chosen | None:
    """The rival's best number, from short looks; None if none of them worked."""
    best: tuple[float, int] | None = None
    for number in RIVALS[rival].numbers:
        key = f"{name}/{rival}/{number}"
        target = target_of(name, rival, number)
        rate = stand.bench.rate(LOOKS, key, target, PipelineConfig.autotune(size), BRIEF)
        if rate is None:
            break
        if best is not None and rate < WORTH_TRYING * best[0]:
            break
        best = (rate, number)
    return None if best is None else Chosen(rival, best[1])
