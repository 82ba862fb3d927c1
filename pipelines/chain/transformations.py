"""The transformations from a generator's elements to batches, as they are written in tf.data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# The transformations that make batches of elements, with an argument `batch_size`.
BATCHES = ("batch", "padded_batch")


@dataclass(frozen=True)
class Transformation:
    """One call of a method of `tf.data.Dataset`.

    Attributes:
        name: the method's name.
        arguments: its arguments, by parameter.
        place: the file and line of the call in a script, like "train.py:41"; empty if declared.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""

    def on(self, dataset: Any, **changed: Any) -> Any:
        """The dataset that the call returns, with some arguments changed."""
        return getattr(dataset, self.name)(**{**self.arguments, **changed})


class Chain(Sequence[Transformation]):
    """What happens to a generator's elements, in the order of the calls, as in tf.data.

    The batch size, the map's parallel calls and `prefetch` are left out: they are searched.

        chain = Chain().shuffle(10_000).map(decode).batch(drop_remainder=True).map(augment)

    A chain without `batch` ends with one.
    """

    def __init__(self, transformations: Sequence[Transformation] = ()) -> None:
        self._transformations = tuple(transformations)

    def __getitem__(self, index: Any) -> Any:
        return self._transformations[index]

    def __len__(self) -> int:
        return len(self._transformations)

    def __iter__(self) -> Iterator[Transformation]:
        return iter(self._transformations)

    def map(self, map_func: Callable[..., Any]) -> Chain:
        """Maps each element with TensorFlow ops; after `batch`, each batch."""
        return self._then("map", map_func=map_func)

    def filter(self, predicate: Callable[..., Any]) -> Chain:
        """Keeps the elements for which the predicate is true."""
        return self._then("filter", predicate=predicate)

    def shuffle(self, buffer_size: int, seed: int | None = None) -> Chain:
        """Draws elements at random from a buffer; without a seed, the study's seed decides."""
        return self._then("shuffle", buffer_size=buffer_size, seed=seed)

    def cache(self) -> Chain:
        """Keeps the elements in memory; it is measured after one complete pass."""
        return self._then("cache")

    def repeat(self, count: int | None = None) -> Chain:
        """Repeats the elements, without end by default. Otherwise each epoch starts anew."""
        return self._then("repeat", count=count)

    def take(self, count: int) -> Chain:
        """Keeps the first elements."""
        return self._then("take", count=count)

    def skip(self, count: int) -> Chain:
        """Leaves out the first elements."""
        return self._then("skip", count=count)

    def batch(self, *, drop_remainder: bool = False) -> Chain:
        """Combines elements of one shape into batches."""
        return self._then("batch", drop_remainder=drop_remainder)

    def padded_batch(
        self,
        padded_shapes: Any = None,
        padding_values: Any = None,
        *,
        drop_remainder: bool = False,
    ) -> Chain:
        """Combines elements of different shapes into batches, padded to the largest one."""
        shapes = {"padded_shapes": padded_shapes, "padding_values": padding_values}
        return self._then("padded_batch", **shapes, drop_remainder=drop_remainder)

    def apply(self, transformation_func: Callable[[Any], Any]) -> Chain:
        """Applies a function from dataset to dataset, for whatever has no method here."""
        return self._then("apply", transformation_func=transformation_func)

    def _then(self, name: str, **arguments: Any) -> Chain:
        return Chain([*self._transformations, Transformation(name, arguments)])


def has(transformations: Sequence[Transformation], *names: str) -> bool:
    """Whether one of these transformations is among them."""
    return any(each.name in names for each in transformations)


def number_of_batches(transformations: Sequence[Transformation]) -> int:
    """How many of them make batches of a fixed size."""
    return sum(each.name in BATCHES for each in transformations)
