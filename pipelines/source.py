"""What a person brings: a generator, an optional map, a model, and the batch sizes to search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the process that runs a study reads this module without TensorFlow
    import keras

# The members an object must have to be tuned; `transform` may be left out.
REQUIRED_MEMBERS = ("name", "element_spec", "generate", "build_model", "batch_sizes")


class PipelineError(ValueError):
    """A pipeline cannot be used as it is; the message says what is wrong and what to do."""


class GeneratorPipeline(ABC):
    """A Python generator of training examples and the model it feeds.

    Attributes:
        name: what it is called on the command line, in studies and in MLflow.
        element_spec: nested `tf.TypeSpec` of one `(features, label)` element, unbatched. Elements
            with unknown dimensions are batched with `padded_batch`.
        batch_sizes: the batch sizes worth searching, in examples.
        skipped_elements: faulty elements that `generate` left out so far; logged with each trial.
    """

    name: str
    element_spec: Any
    batch_sizes: Sequence[int]
    skipped_elements: int = 0

    @abstractmethod
    def generate(self, seed: int) -> Iterator[Any]:
        """Yields plain Python or NumPy elements, finite or endless.

        The same seed must give the same elements: reruns are checked against a digest of them.
        A finite generator is started again when it ends; the restarts are logged.
        """

    def transform(self, *element: Any) -> Any:
        """Maps one element in TensorFlow ops; `(features, label)` in, the same structure out.

        Identity by default, which also takes `map_parallelism` out of the search.
        """
        return element

    @abstractmethod
    def build_model(self) -> keras.Model:
        """Returns a fresh Keras model, compiled with an optimizer and a loss."""


def has_transform(pipeline: object) -> bool:
    """Whether the pipeline brings a map of its own, so that the map is worth running at all."""
    transform = getattr(type(pipeline), "transform", None)
    return transform is not None and transform is not GeneratorPipeline.transform


class SourceMonitor:
    """Starts the generator for tf.data and remembers what became of it.

    Attributes:
        starts: how often the generator was started; more than once means it was finite.
        error: the exception that the generator raised, which TensorFlow would only quote as text.
    """

    def __init__(self, pipeline: GeneratorPipeline, seed: int) -> None:
        self._pipeline = pipeline
        self._seed = seed
        self.starts = 0
        self.error: Exception | None = None

    def __call__(self) -> Iterator[Any]:
        """One run through the generator. `yield from` adds no Python work for each element."""
        self.starts += 1
        try:
            yield from self._pipeline.generate(self._seed)
        except Exception as error:
            self.error = error
            raise
