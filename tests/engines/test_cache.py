"""The shelf: bounded in bytes, made once for all threads, given up at once, and honest in its counts."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hayate.engines.cache import Shelf, bytes_of
from hayate.errors import BrokenFile

WAIT_S = 20.0


class Thing:
    """Something of a size."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes


def shelf(limit_bytes: int) -> Shelf:
    return Shelf(limit_bytes, lambda thing: thing.size_bytes)


SIZES = {"a": 1, "b": 2, "c": 3, "d": 5, "e": 8}
ACTIONS = st.lists(st.tuples(st.sampled_from(["take", "use"]), st.sampled_from(sorted(SIZES))), max_size=30)


@given(ACTIONS, st.integers(0, 12))
def test_against_a_plain_list(actions: list[tuple[str, str]], limit_bytes: int) -> None:
    """The rules written once more, slowly: a list from old to new, and the name of the one in use."""
    tested, old_to_new, used = shelf(limit_bytes), [], None

    def keep(name: str) -> None:
        if name not in old_to_new and name != used and SIZES[name] + SIZES.get(used, 0) > limit_bytes:
            return
        old_to_new[:] = [*(each for each in old_to_new if each != name), name]
        for old in [each for each in old_to_new if each != used]:
            if sum(SIZES[each] for each in old_to_new) > limit_bytes:
                old_to_new.remove(old)

    for action, name in actions:
        taken = tested.take(name, lambda name=name: Thing(SIZES[name]))
        assert taken.size_bytes == SIZES[name]
        keep(name)
        if action == "use":
            tested.use(name, taken)
            used = name
            keep(name)
        assert list(tested.keys()) == old_to_new
        assert tested.size_bytes <= max(limit_bytes, SIZES.get(used, 0))
    assert tested.made + tested.found == len(actions)


def test_what_is_given_up_is_freed_at_once_without_the_garbage_collector() -> None:
    tested = shelf(10)
    gone = weakref.ref(tested.take("a", lambda: Thing(6)))
    gc.disable()
    try:
        tested.take("b", lambda: Thing(6))
        assert gone() is None
        tested.drop(lambda key: key == "b")
        assert tested.size_bytes == 0
    finally:
        gc.enable()


def test_a_failure_changes_nothing_and_leaves_no_knot_behind() -> None:
    tested = shelf(10)
    kept = tested.take("a", lambda: Thing(6))
    halves: list[weakref.ref] = []

    def fail() -> Thing:
        half = Thing(6)
        halves.append(weakref.ref(half))
        raise BrokenFile("half a file")

    gc.disable()
    try:
        with pytest.raises(BrokenFile):
            tested.take("b", fail)
        assert halves[0]() is None
    finally:
        gc.enable()
    assert tested.take("a", lambda: Thing(0)) is kept
    assert tested.take("b", lambda: Thing(4)).size_bytes == 4  # nobody waits for what has failed


def take_while_it_is_made(tested: Shelf, make) -> tuple[list, list]:
    """Takes "x" in one thread ahead, and in this one while the first is still at it; both makers count themselves."""
    begun, may_end = threading.Event(), threading.Event()
    made: list[object] = []

    def slowly() -> object:
        made.append("ahead")
        begun.set()
        assert may_end.wait(WAIT_S)
        return make()

    def ahead() -> None:
        try:
            tested.take("x", slowly, is_ahead=True)
        except BrokenFile:
            made.append("failed")

    def here() -> object:
        made.append("here")
        return Thing(1)

    thread = threading.Thread(target=ahead)
    thread.start()
    assert begun.wait(WAIT_S)
    threading.Timer(0.05, may_end.set).start()
    taken = tested.take("x", here)
    thread.join(WAIT_S)
    return made, [taken]


@pytest.mark.parametrize("size_bytes", [5, 500])
def test_what_is_being_made_is_joined_even_if_it_is_too_large_to_keep(size_bytes: int) -> None:
    tested = shelf(10)
    made, (taken,) = take_while_it_is_made(tested, lambda: Thing(size_bytes))
    assert made == ["ahead"]
    assert taken.size_bytes == size_bytes
    assert (tested.made, tested.joined + tested.found, tested.prepared) == (1, 1, 1)
    assert tested.keys() == (("x",) if size_bytes <= 10 else ())


def test_who_waited_in_vain_tries_for_himself() -> None:
    def fail() -> Thing:
        raise BrokenFile("half a file")

    made, (taken,) = take_while_it_is_made(shelf(10), fail)
    assert sorted(made) == ["ahead", "failed", "here"]
    assert taken.size_bytes == 1


def test_many_threads_make_everything_once() -> None:
    tested, made, lock = shelf(1000), [], threading.Lock()
    barrier = threading.Barrier(8)

    def make(name: int) -> Thing:
        with lock:
            made.append(name)
        return Thing(1)

    def work() -> None:
        barrier.wait(WAIT_S)
        for name in range(50):
            tested.take(name, lambda name=name: make(name))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(made) == list(range(50))
    assert tested.made == 50
    assert tested.found + tested.joined == 7 * 50


def test_bytes_are_counted_by_storage_wherever_a_module_keeps_its_tensors() -> None:
    module = nn.Linear(4, 8)  # 4·8 + 8 numbers
    assert bytes_of([module]) == 4 * 40
    module.twin = module.weight.detach().view(-1)[3:]  # a view
    assert bytes_of([module, module]) == 4 * 40
    module.phases = [torch.zeros(16), {"deep": (torch.zeros(4, dtype=torch.float16),)}]
    assert bytes_of([module]) == 4 * 40 + 64 + 8
    module.shape_alone = torch.empty(1000, device="meta")
    assert bytes_of([module]) == 4 * 40 + 64 + 8


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN in this build")
def test_weights_in_a_layout_of_onednn_are_counted() -> None:
    module = nn.Module()
    module.weight = torch.zeros(8, 16).to_mkldnn()
    assert bytes_of([module]) == 4 * 8 * 16
