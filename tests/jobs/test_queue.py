"""The queue beside a plain model of it: whatever is done in whatever order, each job ends once, and none is lost."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from hayate.errors import KeyReused, QueueFull, UnknownJob, UsageError
from hayate.jobs.accepted import new_id
from hayate.jobs.queue import Queue
from hayate.jobs.records import Failure, JobRecord, NewJob, Picture, Result, State

ENDS = (State.DONE, State.FAILED, State.CANCELLED)


def job(number: int = 0, **more: object) -> NewJob:
    return NewJob(**{"kind": "generate", "body": {"number": number}, **more})  # pyright: ignore[reportArgumentType]


def picture(seed: int) -> Picture:
    return Picture(
        path=f"/out/{seed}.png", seed=seed, subseed=0, infotext="x", width_px=64, height_px=64, is_saved=True
    )


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path, most_waiting=5)


@dataclass
class Expected:
    """A job as the model knows it."""

    id: str
    order: int
    priority: int
    state: State = State.QUEUED
    attempt: int = 0
    is_cancel_asked: bool = False


class QueueBesideModel(RuleBasedStateMachine):
    """Every operation on both, also a crash of the process between any two."""

    ids = Bundle("ids")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.queue = Queue(Path(self.folder.name))
        self.known: dict[str, Expected] = {}
        self.ended: dict[str, State] = {}
        self.count = 0

    def teardown(self) -> None:
        self.queue.close()
        self.folder.cleanup()

    @rule(target=ids, priority=st.integers(-1, 1))
    def add(self, priority: int) -> str:
        found, is_new = self.queue.add(job(self.count, priority=priority))
        assert is_new
        self.known[found.id] = Expected(found.id, self.count, priority)
        self.count += 1
        return found.id

    @rule()
    def claim(self) -> None:
        waiting = [each for each in self.known.values() if each.state is State.QUEUED]
        wanted = min(waiting, key=lambda each: (-each.priority, each.order), default=None)
        found = self.queue.claim()
        assert (found and found.id) == (wanted and wanted.id)
        if wanted is not None:
            wanted.state, wanted.attempt = State.RUNNING, wanted.attempt + 1

    @rule(id_=ids, state=st.sampled_from(ENDS))
    def finish(self, id_: str, state: State) -> None:
        found = self.queue.finish(id_, state, result=Result(pictures=(picture(1), picture(2))))
        if self.known[id_].state is State.RUNNING:
            self.end(id_, state)
        assert found.state is self.known[id_].state

    @rule(id_=ids)
    def cancel(self, id_: str) -> None:
        expected = self.known[id_]
        found, has_ended = self.queue.cancel(id_)
        assert has_ended == (expected.state is State.QUEUED)
        if expected.state is State.QUEUED:
            self.end(id_, State.CANCELLED)
        expected.is_cancel_asked |= expected.state is State.RUNNING
        assert (found.state, found.is_cancel_asked) == (expected.state, expected.is_cancel_asked)

    @rule(id_=ids)
    def worker_ends(self, id_: str) -> None:
        if self.known[id_].state is State.RUNNING:
            self.crash(self.known[id_])
        assert self.queue.crashed(id_, "SIGKILL").state is self.known[id_].state

    @rule(id_=ids)
    def put_back(self, id_: str) -> None:
        expected = self.known[id_]
        if expected.state is State.RUNNING:
            expected.attempt -= 1
            if expected.is_cancel_asked:
                self.end(id_, State.CANCELLED)
            else:
                expected.state = State.QUEUED
        assert self.queue.put_back(id_).state is expected.state

    @rule()
    def server_ends(self) -> None:
        running = [each for each in self.known.values() if each.state is State.RUNNING]
        self.queue.close()
        self.queue = Queue(Path(self.folder.name))
        recovered = self.queue.recover()
        assert {each.id for each in recovered} == {each.id for each in running}
        for each in running:
            self.crash(each)

    @rule(target=ids, id_=consumes(ids))
    def delete(self, id_: str) -> object:
        if self.known[id_].state in ENDS:
            self.queue.delete(id_)
            del self.known[id_]
            with pytest.raises(UnknownJob):
                self.queue.job(id_)
            return multiple()
        with pytest.raises(UsageError, match="has not ended"):
            self.queue.delete(id_)
        return id_

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        found = {each.id: each for each in self.queue.jobs(limit=1000)}
        assert {id_: each.state for id_, each in found.items()} == {id_: each.state for id_, each in self.known.items()}
        assert all(found[each.id].attempt == each.attempt for each in self.known.values())
        assert all(each.attempt <= 2 for each in self.known.values())
        waiting = [each for each in self.known.values() if each.state is State.QUEUED]
        waiting.sort(key=lambda each: (-each.priority, each.order))
        assert [each.id for each in self.queue.queued()] == [each.id for each in waiting]

    @invariant()
    def pictures_are_those_of_jobs_that_have_a_result(self) -> None:
        found = self.queue.jobs(limit=1000)
        counted = sum(len(each.result.pictures) for each in found if each.result is not None)
        assert counted == len(self.queue.pictures(limit=1000))

    def crash(self, expected: Expected) -> None:
        if expected.is_cancel_asked:
            self.end(expected.id, State.CANCELLED)
        elif expected.attempt < 2:
            expected.state = State.QUEUED
        else:
            self.end(expected.id, State.FAILED)

    def end(self, id_: str, state: State) -> None:
        assert id_ not in self.ended, "a job ended twice"
        self.ended[id_] = state
        self.known[id_].state = state


TestQueueBesideModel = QueueBesideModel.TestCase
TestQueueBesideModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_the_same_key_and_body_are_the_same_job(queue: Queue) -> None:
    first, is_new = queue.add(job(1, key="mine"))
    again, is_new_again = queue.add(job(1, key="mine", client="another"))
    assert (is_new, is_new_again, again.id) == (True, False, first.id)
    assert queue.known(job(1, key="mine")) == first
    assert queue.known(job(1)) is None
    with pytest.raises(KeyReused, match="'mine' belongs to another job"):
        queue.add(job(2, key="mine"))
    with pytest.raises(KeyReused):
        queue.known(job(2, key="mine"))
    with pytest.raises(KeyReused):
        queue.add(job(1, kind="upscale", key="mine"))


def test_a_key_outlives_its_jobs_end_and_not_its_deletion(queue: Queue) -> None:
    first, _ = queue.add(job(1, key="mine"))
    queue.claim()
    queue.finish(first.id, State.DONE)
    assert queue.add(job(1, key="mine"))[0].state is State.DONE
    queue.delete(first.id)
    assert queue.add(job(2, key="mine"))[1]


def test_more_than_may_wait_are_refused_and_none_of_those_before_is_lost(queue: Queue) -> None:
    accepted = [queue.add(job(number))[0].id for number in range(5)]
    with pytest.raises(QueueFull):
        queue.add(job(5))
    queue.claim()  # one that runs does not wait
    accepted.append(queue.add(job(6))[0].id)
    assert sorted(each.id for each in queue.jobs()) == sorted(accepted)


def test_what_has_ended_can_not_be_changed_even_by_hand(queue: Queue, tmp_path: Path) -> None:
    found, _ = queue.add(job())
    queue.claim()
    queue.finish(found.id, State.DONE)
    import sqlite3

    with sqlite3.connect(tmp_path / "jobs.sqlite3") as other, pytest.raises(sqlite3.IntegrityError):
        other.execute("UPDATE jobs SET state = 'queued'")


def test_the_result_comes_back_as_it_was_given(queue: Queue, tmp_path: Path) -> None:
    result = Result(pictures=(picture(3), picture(4)), grid="/g.png", notes=("a", "b"), facts={"x": [1, {"y": None}]})
    found, _ = queue.add(job(1, priority=2, client="page"), inputs=("b.png", "a.png"))
    queue.claim()
    ended = queue.finish(found.id, State.DONE, result=result)
    assert ended.result == result
    queue.close()
    again = Queue(tmp_path).job(found.id)
    assert again == ended
    assert again.created_s <= (again.started_s or 0) <= (again.ended_s or 0)


def test_a_job_that_crashed_twice_says_so_and_why(queue: Queue) -> None:
    found, _ = queue.add(job())
    for _ in range(2):
        assert queue.claim() is not None
        ended = queue.crashed(found.id, "the worker was ended by SIGKILL")
    assert ended.state is State.FAILED
    assert ended.failure == Failure(
        type="Crashed", message="crashed twice", hint="the worker was ended by SIGKILL", status=500
    )


def test_pages_of_the_history_are_whole_and_meet(queue: Queue) -> None:
    ids = []
    for number in range(12):
        found, _ = queue.add(job(number, kind="upscale" if number % 3 == 0 else "generate"))
        queue.claim()
        queue.finish(found.id, State.FAILED if number % 2 else State.DONE, result=Result(pictures=(picture(number),)))
        ids.append(found.id)
    pages, before = [], ""
    while page := queue.jobs(before=before, limit=5):
        pages.extend(page)
        before = page[-1].id
    assert [each.id for each in pages] == ids[::-1]
    assert [each.id for each in queue.jobs(states=[State.DONE], kinds=["upscale"])] == [ids[6], ids[0]]
    seeds, last = [], None
    while found := queue.pictures(before=last, limit=5):
        seeds.extend(each.picture.seed for each in found)
        last = found[-1].number
    assert seeds == list(range(12))[::-1]
    with pytest.raises(UnknownJob):
        queue.jobs(before="nothing")


def test_forgetting_leaves_what_has_not_ended(queue: Queue) -> None:
    done = []
    for number in range(4):
        found, _ = queue.add(job(number))
        queue.claim()
        done.append(queue.finish(found.id, State.DONE).id)
    waiting, _ = queue.add(job(9))
    assert set(queue.forget(before_s=0, most=2)) == set(done[:2])
    assert {each.id for each in queue.jobs()} == {*done[2:], waiting.id}
    assert set(queue.forget(before_s=2**40, most=100)) == set(done[2:])
    assert [each.id for each in queue.jobs()] == [waiting.id]


def test_inputs_are_in_use_until_some_time_after_the_end(queue: Queue) -> None:
    first, _ = queue.add(job(1), inputs=("a.png", "b.png"))
    queue.add(job(2), inputs=("b.png", "c.png"))
    assert queue.inputs_in_use(ended_after_s=2**40) == {"a.png", "b.png", "c.png"}
    queue.claim()
    queue.finish(first.id, State.DONE)
    assert queue.inputs_in_use(ended_after_s=2**40) == {"b.png", "c.png"}
    assert queue.inputs_in_use(ended_after_s=0) == {"a.png", "b.png", "c.png"}


@pytest.mark.parametrize(
    "new",
    [
        job(body={"x": float("nan")}),
        job(body={"x": object()}),
        job(key=""),
        job(key="k" * 300),
        job(priority=2**40),
        job(body={"x": "y" * 5_000_000}),
    ],
)
def test_what_can_not_be_kept_is_refused(queue: Queue, new: NewJob) -> None:
    with pytest.raises(UsageError):
        queue.add(new)
    assert queue.jobs() == ()


def test_threads_that_claim_get_each_job_once(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    ids = {queue.add(job(number))[0].id for number in range(60)}
    claimed: list[JobRecord] = []

    def work() -> None:
        while (found := queue.claim()) is not None:
            claimed.append(found)
            queue.finish(found.id, State.DONE)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 60
    assert {each.id for each in claimed} == ids


def test_ids_sort_by_time_and_are_of_plain_letters() -> None:
    import time

    first = new_id()
    time.sleep(0.003)
    second = new_id()
    assert first < second
    assert len(first) == 26
    assert first.isalnum()
    assert first.isupper()
