"""Chooses which of the confirmed configurations to use, and gives the reason. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from prefetch_tuning.experiments.settings import LEAST_ROUNDS
from prefetch_tuning.experiments.verdict.confirmed import Confirmed
from prefetch_tuning.experiments.verdict.measurements import (
    AS_WRITTEN,
    AUTOTUNE,
    PATIENCE,
    STRUCTURE_AUTOTUNE,
    Reached,
    Round,
    baseline_failures,
    is_baseline,
    shared,
)
from prefetch_tuning.experiments.verdict.ratio import ratio_to

# Memory and the time to the first batch decide only if the saving is larger than this.
WORTH_SAVING = 0.10
LEAST_SAVED_MIB = 8.0
LEAST_FIRST_BATCH_S = 0.1
# What AUTOTUNE on the winner's structure may cost, since it adapts to the machine it runs on.
ADAPTING_COSTS = 0.03


class Recommended(Reached):
    """The configuration to use, with the reason."""

    candidate: str
    reason: str

    @classmethod
    def of(cls, confirmed: Confirmed, reason: str) -> Recommended:
        """Recommends a candidate for this reason."""
        reached = {name: getattr(confirmed, name) for name in Reached.model_fields}
        return cls(candidate=confirmed.candidate, reason=reason, **reached)


class Chooser:
    """Chooses among the candidates that stayed to the end and fit the memory limit."""

    def __init__(
        self,
        candidates: Sequence[Confirmed],
        rounds: Sequence[Round],
        *,
        tolerance: float,
        memory_limit_mib: float | None,
    ) -> None:
        self._rounds = rounds
        self._tolerance = tolerance
        fits = [
            c for c in candidates if memory_limit_mib is None or c.host_peak_mib <= memory_limit_mib
        ]
        stayed = [c for c in fits if c.rounds >= LEAST_ROUNDS and c.same_data]
        tuned = self._worth_reordering([c for c in stayed if not is_baseline(c.candidate)])
        # A candidate that left early may have had only the host's better rounds, so only rounds
        # that measured both count.
        self._tuned = [c for c in tuned if not any(self._is_slower(c, o) for o in tuned)] or tuned
        self._autotune = next((c for c in candidates if c.candidate == AUTOTUNE), None)
        self._autotune_fits = self._autotune in fits
        self._failures = baseline_failures(rounds)
        self._unusable = self._why_not_autotune()

    @property
    def contender(self) -> Confirmed | None:
        """The tuned candidate to compare with AUTOTUNE, one that is proven faster if any is.

        Of these, it is the one whose rate's interval has the highest lower end.
        """
        faster = [] if self._unusable else [c for c in self._tuned if _is_faster(c)]
        return max(faster or self._tuned, key=lambda c: c.ci.low, default=None)

    def choose(self) -> Recommended | None:
        """Makes the recommendation; None if neither AUTOTUNE nor any tuned candidate is usable."""
        best = self.contender
        if best is None:
            if self._unusable or self._autotune is None:
                return None
            return Recommended.of(self._autotune, "no tuned configuration was confirmed")
        near = self._near(best)
        if self._unusable:
            chosen, reason = self._leanest(near, best)
            return Recommended.of(chosen, f"{self._unusable}; {reason}")
        faster = [c for c in near if _is_faster(c)]
        preferred = self._preferred(faster)
        if preferred is not None:
            return preferred
        leader = best if best in faster else max(faster, key=lambda c: c.ci.low)
        return Recommended.of(*self._leanest(faster, leader))

    def _preferred(self, faster: Sequence[Confirmed]) -> Recommended | None:
        """What needs no fixed settings, unless they are faster than it."""
        unchanged = self._unchanged(faster)
        if unchanged is not None:
            reason = "nothing is proven faster than the script as it is written"
            return Recommended.of(unchanged, reason)
        if not faster:
            assert self._autotune is not None
            reason = "no tuned configuration is proven faster than AUTOTUNE"
            return Recommended.of(self._autotune, reason)
        adaptive = self._adaptive(faster)
        if adaptive is None:
            return None
        return Recommended.of(
            adaptive,
            "no fixed setting is proven faster than AUTOTUNE on this structure, and AUTOTUNE "
            "adapts to the machine it runs on",
        )

    def _why_not_autotune(self) -> str | None:
        if self._autotune is None:
            return "AUTOTUNE failed"
        if self._failures >= PATIENCE and self._autotune.rounds < LEAST_ROUNDS:
            return f"AUTOTUNE gave no rate in {self._failures} of {len(self._rounds)} rounds"
        return None if self._autotune_fits else "AUTOTUNE needs more than the memory limit"

    def _worth_reordering(self, tuned: Sequence[Confirmed]) -> list[Confirmed]:
        """Leaves out what changes the elements' order without being proven faster for it."""
        ordered = [c for c in tuned if not c.config.reorder]
        return [
            c
            for c in tuned
            if not c.config.reorder
            or all(ratio_to(*self._rates(c, other)).verdict == "faster" for other in ordered)
        ]

    def _is_slower(self, one: Confirmed, other: Confirmed) -> bool:
        return one != other and ratio_to(*self._rates(one, other)).verdict == "slower"

    def _near(self, best: Confirmed) -> list[Confirmed]:
        """The best candidate and those whose rates cannot be told apart from its rate."""
        return [c for c in self._tuned if c == best or self._is_near(c, best)]

    def _is_near(self, other: Confirmed, best: Confirmed) -> bool:
        if other.examples_per_s < (1.0 - self._tolerance) * best.examples_per_s:
            return False
        return ratio_to(*self._rates(other, best)).verdict == "no significant difference"

    def _unchanged(self, faster: Sequence[Confirmed]) -> Confirmed | None:
        """The script as written, if nothing is proven faster and AUTOTUNE isn't either."""
        found = next((c for c in self._tuned if c.candidate == AS_WRITTEN), None)
        if found is None or (found.ratio and found.ratio.verdict == "slower"):
            return None
        others = [c for c in faster if c != found]
        beaten = any(ratio_to(*self._rates(c, found)).verdict == "faster" for c in others)
        return None if beaten else found

    def _adaptive(self, faster: Sequence[Confirmed]) -> Confirmed | None:
        """AUTOTUNE on the winner's structure, if nothing is proven faster or is so by the median.

        In few or noisy rounds, a candidate that is 9% faster may not be proven so.
        """
        found = next((c for c in self._tuned if c.candidate == STRUCTURE_AUTOTUNE), None)
        if found is None or not _is_faster(found):
            return None
        ratios = [ratio_to(*self._rates(c, found)) for c in faster if c != found]
        beaten = any(r.verdict == "faster" or r.ratio > 1.0 + ADAPTING_COSTS for r in ratios)
        return None if beaten else found

    def _leanest(self, near: Sequence[Confirmed], leader: Confirmed) -> tuple[Confirmed, str]:
        """The leader, unless another saves more memory or time to the first batch than noise."""
        lean = min(near, key=lambda c: c.memory_mib)
        if self._saves(lean, leader, "memory"):
            times = lean.memory_mib / leader.memory_mib
            return lean, f"as fast as the fastest, with {times:.0%} of its memory"
        quick = min(near, key=lambda c: c.first_batch_s)
        saved_s = leader.first_batch_s - quick.first_batch_s
        if saved_s > LEAST_FIRST_BATCH_S and self._saves(quick, leader, "first batch"):
            return quick, f"as fast as the fastest, with its first batch {saved_s:.1f} s earlier"
        return leader, "the fastest confirmed configuration"

    def _saves(self, other: Confirmed, leader: Confirmed, what: str) -> bool:
        """Whether the saving is more than 10% and more than its noise, paired by round."""
        both = [r for r in self._rounds if other.candidate in r and leader.candidate in r]
        if other == leader or not both:
            return False

        def values(name: str) -> list[float]:
            found = [r[name] for r in both]
            if what == "memory":
                return [max(m.memory_mib, 1e-3) for m in found]
            return [max(m.first_batch_s, 1e-3) for m in found]

        own, its = values(other.candidate), values(leader.candidate)
        less, more = statistics.median(own), statistics.median(its)
        if what == "memory" and more - less < LEAST_SAVED_MIB:
            return False
        return 1.0 - less / more > WORTH_SAVING and ratio_to(own, its).verdict == "slower"

    def _rates(self, first: Confirmed, second: Confirmed) -> tuple[list[float], list[float]]:
        return shared(self._rounds, first.candidate, second.candidate)


def _is_faster(candidate: Confirmed) -> bool:
    """Whether it is proven faster than AUTOTUNE."""
    return candidate.ratio is not None and candidate.ratio.verdict == "faster"
