"""The base of the metrics: a state of arrays that adds up, and that is stored in a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from zoo.errors import DataError


class Metric(ABC):
    """A metric whose state is a few arrays: `update` adds an image, `merge` adds a state, `compute` is pure.

    Two metrics are equal when their settings and every array of their state are equal, bit for bit.
    """

    setting_names: ClassVar[tuple[str, ...]]
    """Names of the constructor's arguments, which are attributes too."""

    def __init__(self, num_classes: int, ignore_label: int) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, found {num_classes}")
        self.num_classes = int(num_classes)
        self.ignore_label = int(ignore_label)

    @abstractmethod
    def _state(self) -> dict[str, np.ndarray]:
        """Returns the state's arrays by name."""

    def _set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Replaces the state; `state` has exactly the names of `_state`, which here are of fixed shapes."""
        for name, array in self._state().items():
            self._check_shape(name, state[name], array.shape)
            array[...] = state[name]

    def _add(self, other: Any) -> None:
        """Adds the state of `other`, which has the same type and settings; here, array by array."""
        theirs = other._state()
        for name, array in self._state().items():
            array += theirs[name]

    def _settings(self) -> dict[str, np.ndarray]:
        settings = {name: getattr(self, name) for name in self.setting_names}
        return {
            name: np.asarray(value, np.float64 if isinstance(value, float) else np.int64)
            for name, value in settings.items()
        }

    def merge(self, other: Self) -> None:
        """Adds the state of `other`, as if its images had been given to `update` after this metric's own.

        Raises:
            ValueError: `other` is another metric, or has other settings.
        """
        if type(other) is not type(self):
            raise ValueError(f"cannot merge {type(other).__name__} into {type(self).__name__}")
        for name, mine in self._settings().items():
            theirs = np.asarray(getattr(other, name))
            if not np.array_equal(mine, theirs):
                raise ValueError(
                    f"cannot merge {type(self).__name__} of different {name}: "
                    f"expected {mine.tolist()}, found {theirs.tolist()}"
                )
        self._add(other)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns settings and state as named arrays, ready for `np.savez`; changes to them stay outside."""
        return {**self._settings(), **{name: array.copy() for name, array in self._state().items()}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Returns the metric that `to_arrays` described; `arrays` may hold other names too.

        Raises:
            DataError: an array is missing, or has another shape or dtype than this metric's state, or a
                setting cannot be.
        """
        of = cls.__name__
        settings = {name: stored_array(arrays, name, of).tolist() for name in cls.setting_names}
        try:
            metric = cls(**settings)
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            raise DataError(
                f"{of} record: expected settings of a metric, found "
                f"{', '.join(f'{name} {value}' for name, value in settings.items())}; "
                "delete the record and evaluate again"
            ) from error
        state: dict[str, np.ndarray] = {}
        for name, empty in metric._state().items():
            found = stored_array(arrays, name, of)
            if found.dtype != empty.dtype or found.ndim != empty.ndim:
                raise DataError(
                    f"{of} record, array {name!r}: expected {empty.ndim}-D {empty.dtype}, "
                    f"found {found.ndim}-D {found.dtype}; delete the record and evaluate again"
                )
            state[name] = found.copy()
        metric._set_state(state)
        return metric

    @classmethod
    def _check_shape(cls, name: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
        if array.shape != expected:
            raise DataError(
                f"{cls.__name__} record, array {name!r}: expected shape {expected}, found {array.shape}; "
                "delete the record and evaluate again"
            )

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = self.to_arrays(), other.to_arrays()
        return mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name]) for name in mine)

    __hash__ = None  # type: ignore[assignment]


def stored_array(arrays: Mapping[str, np.ndarray], name: str, of: str) -> np.ndarray:
    """Returns the array called `name` of a record; raises DataError where there is none."""
    if name not in arrays:
        raise DataError(
            f"{of} record: expected an array {name!r}, found {', '.join(sorted(arrays)) or 'none'}; "
            "delete the record and evaluate again"
        )
    return np.asarray(arrays[name])


def check_segment_classes(
    labels: np.ndarray, classes: np.ndarray, num_classes: int, ignore_label: int, of: str
) -> None:
    """Raises DataError where a segment's class is neither one of `num_classes` nor `ignore_label`."""
    wrong = ((classes < 0) | (classes >= num_classes)) & (classes != ignore_label)
    if wrong.any():
        raise DataError(
            f"{of} panoptic map, label {int(labels[wrong][0])}: expected a class of 0..{num_classes - 1} or "
            f"{ignore_label} (ignore), found class {int(classes[wrong][0])}; convert the labels to train ids "
            "and check the label divisor"
        )
