"""Paragraphs of varying length from the standard library's documentation, tokenised in Python."""

from __future__ import annotations

import importlib
import json
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from prefetch_tuning.pipelines.builtin.support.cache import made_once, shuffled_epochs
from prefetch_tuning.pipelines.source import GeneratorPipeline, PipelineError

FOLDER = "text-v1"  # raise the version when the output of write_corpus changes
FILE = "corpus.json"
VOCABULARY = 8_000  # word ids, including those of the padding and of unknown words
UNKNOWN = 1  # 0 is padded_batch's padding
FIRST_WORD = 2
LONGEST = 64  # tokens per paragraph; the rest is dropped
FEWEST_WORDS = 5  # shorter paragraphs are headings, names and lines of dashes

TOKEN = re.compile(r"\w+|[^\w\s]")
WORD = re.compile(r"[^\W\d_]{2,}")
BLANK_LINES = re.compile(r"\n\s*\n")
# A string in triple quotes, or comments that fill whole lines.
PROSE = re.compile(
    r'"""(.*?)"""|\'\'\'(.*?)\'\'\'|((?:^[ \t]*#[^\n]*\n)+)', re.DOTALL | re.MULTILINE
)
COMMENT_SIGN = re.compile(r"^[ \t]*#+", re.MULTILINE)

# The topics, each as the top-level modules that its paragraphs come from. Each topic has roughly as
# many paragraphs as the others. Modules that only some supported Pythons have are used where they
# exist.
TOPICS = (
    "asyncio concurrent multiprocessing queue sched selectors signal subprocess threading",
    "cgi email ftplib html http imaplib ipaddress mailbox mimetypes nntplib poplib smtplib socket "
    "socketserver ssl telnetlib urllib uuid webbrowser wsgiref xmlrpc",
    "calendar collections copy dataclasses datetime _pydatetime decimal _pydecimal enum fractions "
    "functools graphlib heapq numbers operator random statistics string textwrap types typing "
    "weakref zoneinfo",
    "bz2 configparser csv dbm fileinput filecmp glob gzip json lzma ntpath os pathlib pickle "
    "pickletools plistlib posixpath _pyio shelve shutil sqlite3 tarfile tempfile tomllib xml "
    "zipfile",
    "ast bdb dis doctest importlib inspect logging pdb pkgutil pydoc runpy symtable timeit "
    "tokenize trace traceback unittest warnings zipimport",
)
CLASSES = len(TOPICS) + 1  # the last one is the language reference, which comes with pydoc


class TextPipeline(GeneratorPipeline):
    """Up to 64 token ids per paragraph, padded per batch, and the topic of the paragraph."""

    name = "text"
    element_spec = (tf.TensorSpec((None,), tf.int32), tf.TensorSpec((), tf.int32))
    batch_sizes = (32, 64, 128, 256)

    def __init__(self) -> None:
        self._paragraphs: list[tuple[int, str]] = []
        self._ids: dict[str, int] = {}

    def prepare(self) -> None:
        """Makes the corpus if it doesn't exist yet, and reads it; a second call does nothing.

        Raises:
            PipelineError: the corpus cannot be made or read.
        """
        if self._paragraphs:
            return
        path = made_once(FOLDER, write_corpus) / FILE
        try:
            corpus = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"cannot read {path}: {error}; delete its folder, and it will be made again"
            ) from error
        self._ids = {word: id_ for id_, word in enumerate(corpus["vocabulary"], FIRST_WORD)}
        self._paragraphs = [(label, text) for label, text in corpus["paragraphs"]]

    def generate(
        self, seed: int, shard_index: int = 0, shard_count: int = 1
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Yields word ids of shape (length,), int32, length up to 64, each with its topic.

        The shard at `shard_index` of `shard_count` tokenises only its own paragraphs.
        """
        self.prepare()
        for index in shuffled_epochs(len(self._paragraphs), seed, shard_index, shard_count):
            label, text = self._paragraphs[index]
            yield self.word_ids(text), label

    def word_ids(self, text: str) -> np.ndarray:
        """The ids of the first 64 tokens, int32, from 1 to VOCABULARY - 1."""
        ids = [self._ids.get(token, UNKNOWN) for token in tokens(text)]
        return np.array(ids[:LONGEST], np.int32)

    def build_model(self) -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((None,), dtype="int32"),
                keras.layers.Embedding(VOCABULARY, 64, mask_zero=True),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(CLASSES),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.Adam(0.001), loss=loss, jit_compile=False)
        return model


def tokens(text: str) -> list[str]:
    """The words, numbers and punctuation marks of a text, in lower case."""
    return TOKEN.findall(text.lower())


def write_corpus(folder: Path) -> None:
    """Collects the paragraphs of this Python's standard library, and their most frequent words.

    The corpus stays in the cache, because the next release of Python words some of it differently.

    Raises:
        PipelineError: this Python came without the sources of its library.
    """
    labels: dict[str, int] = {}  # by paragraph; a repeated paragraph keeps its first label
    for label, texts in enumerate([*map(_prose, TOPICS), _reference()]):
        found = [part.strip() for text in texts for part in BLANK_LINES.split(text)]
        for paragraph in found:
            if len(WORD.findall(paragraph)) >= FEWEST_WORDS:
                labels.setdefault(paragraph, label)
    if set(labels.values()) != set(range(CLASSES)):
        raise PipelineError("this Python came without the sources of its library; use another")
    words = Counter(token for paragraph in labels for token in tokens(paragraph))
    corpus = {
        "vocabulary": [word for word, _ in words.most_common(VOCABULARY - FIRST_WORD)],
        "paragraphs": [(label, paragraph) for paragraph, label in labels.items()],
    }
    (folder / FILE).write_text(json.dumps(corpus), "utf-8")


def _prose(modules: str) -> Iterator[str]:
    """Yields the docstrings and comments of modules and packages, without their tests."""
    library = Path(sysconfig.get_path("stdlib"))
    for name in modules.split():
        package = sorted((library / name).rglob("*.py"))
        for path in [library / f"{name}.py", *package]:
            # Debian leaves the tests out, so they are left out everywhere.
            if path.is_file() and not {"test", "tests"} & set(path.relative_to(library).parts):
                for *strings, comments in PROSE.findall(path.read_text("utf-8", "replace")):
                    yield from filter(None, (*strings, COMMENT_SIGN.sub("", comments)))


def _reference() -> Iterator[str]:
    """Yields the language reference's chapters that `help()` shows; none if they are missing."""
    try:
        chapters: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        return
    yield from chapters.values()
