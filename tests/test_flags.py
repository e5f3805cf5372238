"""A1111's flags among the words of a command."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import UsageError
from hayate.flags import FLAGS, device_from, take_flags


def test_flags_leave_and_the_rest_stays_in_order():
    flags, rest = take_flags(["a cat", "--xformers", "--steps", "20", "--theme", "dark", "--medvram", "--seed=3"])
    assert rest == ["a cat", "--steps", "20", "--seed=3"]
    assert set(flags.values) == {"--xformers", "--theme", "--medvram"}
    assert flags.value("--theme") == "dark"
    assert flags.notes == ("--theme: the server's; it has no effect on this command",)


def test_words_after_two_dashes_are_text():
    flags, rest = take_flags(["--xformers", "--", "--medvram"])
    assert rest == ["--", "--medvram"]
    assert "--medvram" not in flags


def test_several_words_may_follow_use_cpu():
    flags, rest = take_flags(["--use-cpu", "interrogate", "codeformer", "--steps", "3"])
    assert flags.values["--use-cpu"] == ("interrogate", "codeformer")
    assert rest == ["--steps", "3"]


@pytest.mark.parametrize("name", [name for name, flag in FLAGS.items() if flag.takes])
def test_a_flag_without_its_word_is_an_error(name):
    with pytest.raises(UsageError, match=f"{name} needs a value"):
        take_flags([name])


@given(words=st.lists(st.one_of(st.sampled_from(["--", *FLAGS]), st.text(max_size=5)), max_size=8))
def test_no_word_is_lost_or_invented(words):
    try:
        flags, rest = take_flags(words)
    except UsageError:
        return
    taken = [word for name, values in flags.values.items() for word in (name, *values)]
    assert set(rest) | set(taken) <= set(words) | {word.partition("=")[2] for word in words}
    assert len(rest) + len(taken) <= len(words)
    if "--" in words:
        assert rest[rest.index("--") :] == words[words.index("--") :]


def test_flags_name_a_device_and_may_not_contradict():
    assert device_from(take_flags(["--device-id", "1"])[0], None) == "cuda:1"
    assert device_from(take_flags(["--use-cpu", "all"])[0], None) == "cpu"
    assert device_from(take_flags([])[0], "mps") == "mps"
    with pytest.raises(UsageError, match="contradict"):
        device_from(take_flags(["--use-cpu", "all"])[0], "cuda")
    with pytest.raises(UsageError, match="not a number"):
        device_from(take_flags(["--device-id", "first"])[0], None)
