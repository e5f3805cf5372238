"""Events and waiting: nobody misses the end, nobody holds anybody up, and nobody polls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

import pytest

from hayate.errors import ShuttingDown, UnknownJob
from hayate.jobs.events import MOST_UNREAD, REMEMBERED, Events
from hayate.jobs.records import Event, JobRecord, State
from hayate.jobs.waiting import Waiting

Value = TypeVar("Value")
JOB = JobRecord(
    id="a",
    kind="generate",
    body={},
    priority=0,
    key=None,
    client="",
    state=State.QUEUED,
    attempt=0,
    created_s=0,
    started_s=None,
    ended_s=None,
    result=None,
    failure=None,
)
DONE = replace(JOB, state=State.DONE)


async def soon(work: Awaitable[Value]) -> Value:
    return await asyncio.wait_for(work, 5)


async def listened(
    events: Events, job: str | None = None, after: int | None = None, missed: Event | None = None
) -> list[Event]:
    return [event async for event in events.read(job, after, lambda: missed)]


async def joined(events: Events, count: int = 1) -> None:
    while len(events._readers) < count:
        await asyncio.sleep(0)


def test_a_jobs_events_come_in_order_from_any_thread_and_end_with_its_last() -> None:
    async def main() -> None:
        events = Events()
        mine = asyncio.create_task(listened(events, "a"))
        everything = asyncio.create_task(listened(events))
        await joined(events, 2)

        def publish() -> None:
            for number in range(200):
                events.publish("b" if number % 2 else "a", "progress", {"n": number})
            events.publish("a", "done", {})

        thread = threading.Thread(target=publish)
        thread.start()
        found = await soon(mine)
        thread.join()
        assert [event.data.get("n") for event in found] == [*range(0, 200, 2), None]
        assert [event.number for event in found] == sorted(event.number for event in found)
        events.close()
        assert [event.number for event in await soon(everything)] == list(range(1, 202))

    asyncio.run(main())


def test_who_comes_back_is_told_what_came_meanwhile() -> None:
    async def main() -> None:
        events = Events()
        for kind in ("queued", "started", "done"):
            events.publish("a", kind, {})
        assert [event.kind for event in await soon(listened(events, "a", after=1))] == ["started", "done"]
        assert events._readers == set()

    asyncio.run(main())


def test_who_comes_after_the_end_is_told_it_all_the_same() -> None:
    async def main() -> None:
        events = Events()
        events.publish("a", "done", {})
        for number in range(REMEMBERED):
            events.publish("b", "progress", {"n": number})
        end = Event(number=7, job="a", kind="done", data={})
        assert await soon(listened(events, "a", after=0, missed=end)) == [end]

    asyncio.run(main())


def test_a_reader_that_sleeps_costs_no_more_than_its_share_and_gets_the_end() -> None:
    async def main() -> None:
        events = Events()
        reading = events.read("a", None)
        first = asyncio.ensure_future(anext(reading))
        await joined(events)
        for number in range(5 * MOST_UNREAD):
            events.publish("a", "progress", {"n": number})
        events.publish("a", "done", {})
        found = [await soon(first), *[event async for event in reading]]
        assert len(found) == MOST_UNREAD
        assert found[-1].kind == "done"

    asyncio.run(main())


def test_the_first_reader_and_the_last_are_told_of() -> None:
    async def main() -> None:
        told: list[bool] = []
        events = Events(told.append)
        tasks = [asyncio.create_task(listened(events)) for _ in range(3)]
        await joined(events, 3)
        assert told == [True]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert told == [True, False]

    asyncio.run(main())


def test_closing_ends_all_streams_also_those_to_come() -> None:
    async def main() -> None:
        events = Events()
        tasks = [asyncio.create_task(listened(events)) for _ in range(3)]
        await joined(events, 3)
        events.close()
        assert await soon(asyncio.gather(*tasks)) == [[], [], []]
        assert await soon(listened(events)) == []

    asyncio.run(main())


def test_two_hundred_wait_and_one_word_wakes_them() -> None:
    async def main() -> None:
        waiting, looks = Waiting(), 0

        def look() -> JobRecord:
            nonlocal looks
            looks += 1
            return JOB

        tasks = [asyncio.create_task(waiting.wait("a", look)) for _ in range(200)]
        other = asyncio.create_task(waiting.wait("b", look))
        while looks < 201:
            await asyncio.sleep(0)
        await asyncio.sleep(0.02)
        assert looks == 201  # nobody asks again
        thread = threading.Thread(target=waiting.ended, args=(DONE,))
        thread.start()
        assert await soon(asyncio.gather(*tasks)) == [DONE] * 200
        thread.join()
        assert not other.done()
        waiting.give_up(ShuttingDown("it ends"))
        with pytest.raises(ShuttingDown):
            await soon(other)
        assert waiting._futures == {}

    asyncio.run(main())


def test_what_has_ended_and_what_is_unknown_is_not_waited_for() -> None:
    async def main() -> None:
        waiting = Waiting()

        def unknown() -> JobRecord:
            raise UnknownJob("there is no job 'x'")

        assert await soon(waiting.wait("a", lambda: DONE)) == DONE
        with pytest.raises(UnknownJob):
            await soon(waiting.wait("x", unknown))
        assert waiting._futures == {}

    asyncio.run(main())


def test_an_end_between_looking_and_waiting_is_not_missed() -> None:
    async def main() -> None:
        waiting = Waiting()

        def look() -> JobRecord:
            waiting.ended(DONE)  # just now, in another thread
            return JOB

        assert await soon(waiting.wait("a", look)) == DONE

    asyncio.run(main())


def test_a_caller_who_goes_leaves_nothing_behind() -> None:
    async def main() -> None:
        waiting = Waiting()
        task = asyncio.create_task(waiting.wait("a", lambda: JOB))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert waiting._futures == {}
        waiting.ended(DONE)

    asyncio.run(main())
