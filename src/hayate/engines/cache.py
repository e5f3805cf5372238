"""What is kept in memory because it may be asked for again: the least recently used goes first, bounded in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn

Value = TypeVar("Value")


class Shelf:
    """Things that are made once and handed to everybody who asks, from any thread.

    One of them may be in use: it is never given up, however large, for its user holds it anyway. All others together
    with it stay within `limit_bytes`.
    """

    def __init__(self, limit_bytes: int, size_of: Callable[[Any], int]) -> None:
        self.limit_bytes = limit_bytes
        self.found = self.joined = self.made = self.given_up = self.prepared = 0
        """How often a thing was there, waited for, made and given up; how many were made ahead and asked for later."""
        self._size_of = size_of
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._making: dict[Hashable, _Making] = {}
        self._used: Hashable | None = None

    def take(self, key: Hashable, make: Callable[[], Value], *, is_ahead: bool = False) -> Value:
        """The thing called `key`: kept, or waited for while another thread makes it, or made now and kept if it fits.

        `is_ahead` says that nobody needs it yet.
        Raises: what `make` raises; then nothing has changed. Who waited for another thread in vain tries for himself.
        """
        making = None
        while making is None:
            with self._lock:
                if key in self._kept:
                    return self._found(key, is_ahead)
                if (others := self._making.get(key)) is None:
                    making = self._making[key] = _Making(is_ahead=is_ahead)
            if others is not None:
                others.done.wait()
                if others.kept is not None:
                    return self._joined(key, others, is_ahead)
        try:
            value = make()
            making.kept = _Kept(value=value, size_bytes=self._size_of(value), is_ahead=is_ahead)
            with self._lock:
                self.made += 1
                self._keep(key, making.kept)
        finally:
            with self._lock:
                del self._making[key]
            making.done.set()
        return value

    def use(self, key: Hashable, value: object) -> None:
        """Puts a thing that was taken in use, in place of what was."""
        with self._lock:
            self._used = key
            self._keep(key, self._kept.get(key) or _Kept(value=value, size_bytes=self._size_of(value), is_ahead=False))

    def in_use(self) -> tuple[Any, Any] | None:
        """Key and value of what is in use, if it is kept."""
        with self._lock:
            kept = self._kept.get(self._used) if self._used is not None else None
            return None if kept is None else (self._used, kept.value)

    @contextmanager
    def becoming(self, key: Hashable) -> Iterator[None]:
        """What is in use is made into another thing of its size meanwhile; broken off, it is nothing any more."""
        with self._lock:
            kept = self._kept.pop(self._used)
            self._used = None
        yield
        with self._lock:
            self._used = key
            self._keep(key, kept)

    def drop(self, is_stale: Callable[[Any], bool]) -> None:
        """Gives up everything whose key is stale, in use or not."""
        with self._lock:
            for key in [key for key in self._kept if is_stale(key)]:
                self._give_up(key)

    def fits(self, size_bytes: int) -> bool:
        """Whether a thing of this size could be kept, were it alone."""
        return size_bytes <= self.limit_bytes

    def keys(self) -> tuple[Any, ...]:
        """What is kept, the least recently asked for first."""
        with self._lock:
            return tuple(self._kept)

    @property
    def size_bytes(self) -> int:
        with self._lock:
            return self._total()

    def _found(self, key: Hashable, is_ahead: bool) -> Any:
        kept = self._kept[key]
        self._kept.move_to_end(key)
        if not is_ahead:
            self.found += 1
            self.prepared += kept.is_ahead
            kept.is_ahead = False
        return kept.value

    def _joined(self, key: Hashable, making: _Making, is_ahead: bool) -> Any:
        """What another thread has just made: it may have been too large to keep, or be given up already."""
        assert making.kept is not None
        with self._lock:
            if not is_ahead:
                self.joined += 1
                self.prepared += making.is_ahead
                making.kept.is_ahead = False
            self._keep(key, making.kept)
        return making.kept.value

    def _keep(self, key: Hashable, kept: _Kept) -> None:
        """Makes `key` the most recent if it fits beside what is in use, and gives up what is too much then."""
        used = self._kept.get(self._used) if self._used != key else None
        if self._used != key and kept.size_bytes + (used.size_bytes if used else 0) > self.limit_bytes:
            return
        self._kept[key] = kept
        self._kept.move_to_end(key)
        for oldest in list(self._kept):
            if self._total() <= self.limit_bytes:
                break
            if oldest != self._used:
                self._give_up(oldest)

    def _give_up(self, key: Hashable) -> None:
        del self._kept[key]
        self.given_up += 1
        if key == self._used:
            self._used = None

    def _total(self) -> int:
        return sum(kept.size_bytes for kept in self._kept.values())


@dataclass(slots=True, kw_only=True)
class _Kept:
    value: Any
    size_bytes: int
    is_ahead: bool
    """Whether nobody has asked for it yet."""


@dataclass(slots=True, kw_only=True)
class _Making:
    """What a thread is making; `kept` stays None when it fails.

    No error is handed to those who wait: its traceback would hold on to gigabytes until all of them have let go of it.
    """

    is_ahead: bool
    done: threading.Event = field(default_factory=threading.Event)
    kept: _Kept | None = None


def bytes_of(modules: Iterable[nn.Module]) -> int:
    """The memory that holds the tensors of `modules`, each storage counted once.

    Views of a mapped file count like any other: they are resident memory of this process once they have been read.
    A tensor in a layout of oneDNN has no storage to ask; it counts as its numbers.
    """
    sizes: dict[int, int] = {}
    for tensor in _tensors(modules):
        if tensor.is_meta:
            continue
        if tensor.is_mkldnn:
            sizes[id(tensor)] = tensor.nelement() * tensor.element_size()
        else:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


def _tensors(modules: Iterable[nn.Module]) -> Iterator[Tensor]:
    """Every tensor that the modules hold, also those in attributes and lists that are no parameters."""
    waiting: list[Any] = list(modules)
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, nn.Module):
            waiting.extend(vars(each).values())
        elif isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list | tuple):
            waiting.extend(each)
