"""Extensions are imported when they are wanted, within their time; whatever they do, the process goes on."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hayate.errors import UnknownName, UsageError
from hayate.extensions.current import current, in_use, origins_left_out
from hayate.extensions.discovery import Origin
from hayate.extensions.listing import rows_of
from hayate.extensions.session import Session
from hayate.extensions.standing import Crashed
from hayate.extensions.state import StateFile
from tests.extensions.folders import session_in, write_extension

PROMPTS = {"prompts": {"it": "act"}}


def loaded(session: Session, name: str) -> object:
    [hook] = [hook for hook in session.hooks("prompts") if hook.owner.name == name]
    return session.load(hook)


BAD = {
    "raises": ("raise ValueError('no luck')", "its import failed: ValueError: no luck (work.py line 1)"),
    "ends the program": ("import sys; sys.exit(3)", "its import failed: SystemExit: 3"),
    "is not Python": ("def act(:", "its import failed: SyntaxError"),
    "lacks a package": ("import a_package_that_is_not_here", "ModuleNotFoundError: No module named 'a_package"),
    "lacks its object": ("x = 1", "has no act"),
}


@pytest.mark.parametrize(("code", "problem"), BAD.values(), ids=BAD.keys())
def test_one_that_can_not_be_imported_is_named(tmp_path: Path, code: str, problem: str) -> None:
    write_extension(tmp_path, "bad", code, PROMPTS)
    write_extension(tmp_path, "good", "act = 5", PROMPTS)
    with session_in(tmp_path, tmp_path / "data") as session:
        with pytest.raises(Crashed) as caught:
            loaded(session, "bad")
        assert problem in caught.value.problem
        assert loaded(session, "good") == 5
        assert [hook.owner.name for hook in session.hooks("prompts")] == ["good"]
        assert problem in session.problems()["bad"]
    assert problem in StateFile(tmp_path / "data").last_times()["bad"].problem


def test_one_that_hangs_is_given_up_and_named(tmp_path: Path) -> None:
    """It sleeps longer than this file of tests may take."""
    write_extension(tmp_path, "hangs", "import time; time.sleep(20); act = 1", PROMPTS)
    with session_in(tmp_path, tmp_path / "data", limit_s=0.2) as session:
        with pytest.raises(Crashed, match=r"longer than 0\.2 s"):
            loaded(session, "hangs")
        assert session.hooks("prompts") == ()
        session.refresh()
        assert session.problems() == {}, "it is off, as if the user had said so"
    with session_in(tmp_path, tmp_path / "data", limit_s=0.2) as again:
        assert again.hooks("prompts") == (), "the next start does not wait for it"
    [row] = [row for row in rows_of(again)[0] if row.name == "hangs"]
    assert row.state == "off"
    assert row.problem.endswith("longer than 0.2 s, so it is switched off now")


def test_one_that_failed_is_tried_again_when_it_was_off_and_on(tmp_path: Path) -> None:
    place = write_extension(tmp_path, "odd", "raise ValueError('no luck')", PROMPTS)
    with session_in(tmp_path, tmp_path / "data") as session:
        with pytest.raises(Crashed, match="no luck"):
            loaded(session, "odd")
        (place / "work.py").write_text("act = 'mended'")
        assert session.state is not None
        for is_on in (False, True):
            session.state.write(session.state.read().switched("odd", is_on))
            session.refresh()
        assert loaded(session, "odd") == "mended"


@pytest.mark.parametrize(
    ("requires", "why"),
    [
        ("torch==1.13.1", "it needs torch==1.13.1, and 2."),
        ("a-package-that-is-not-here>=2", "it needs a-package-that-is-not-here>=2, which is not installed"),
        ("not a requirement", "it needs not a requirement, which is no requirement"),
    ],
)
def test_one_that_needs_what_is_not_here_is_named_and_not_imported(tmp_path: Path, requires: str, why: str) -> None:
    place = write_extension(tmp_path, "wants", "open(__file__ + '.ran', 'w'); act = 1", PROMPTS)
    manifest = place / "extension.toml"
    manifest.write_text(f'requires = ["{requires}"]\n' + manifest.read_text())
    with session_in(tmp_path, tmp_path / "data") as session:
        assert rows_of(session)[0][-1].problem.startswith(why), "before anything was asked of it"
        session.begin()
        assert session.problems()["wants"].startswith(why)
        assert session.hooks("prompts") == ()
    assert not list(place.glob("*.ran"))


def test_what_is_here_is_enough(tmp_path: Path) -> None:
    place = write_extension(tmp_path, "wants", "act = 1", PROMPTS)
    manifest = place / "extension.toml"
    manifest.write_text('requires = ["numpy>=1", "x; sys_platform == \'nowhere\'"]\n' + manifest.read_text())
    with session_in(tmp_path, tmp_path / "data") as session:
        assert loaded(session, "wants") == 1
        assert rows_of(session)[0][-1].problem == ""


def test_one_that_never_ends_is_ended(tmp_path: Path) -> None:
    """A loop in Python would take half of the machine for ever."""
    write_extension(tmp_path, "loops", "while True: pass", PROMPTS)
    with session_in(tmp_path, tmp_path / "data", limit_s=0.2) as session, pytest.raises(Crashed, match="longer than"):
        loaded(session, "loops")
    [thread] = [each for each in threading.enumerate() if "loops" in each.name] or [None]
    if thread is not None:
        thread.join(10)
        assert not thread.is_alive()
    assert "hayate_extensions.loops.work" not in sys.modules


def test_several_that_hang_are_waited_for_at_once(tmp_path: Path) -> None:
    names = [f"hangs-{number}" for number in range(4)]
    for name in names:
        write_extension(tmp_path, name, "import time; time.sleep(20)", PROMPTS)
    with session_in(tmp_path, tmp_path / "data", limit_s=0.3) as session:
        hooks = session.hooks("prompts")
        session.begin()
        for hook in hooks:
            with pytest.raises(Crashed):
                session.load(hook)
        assert set(session.problems()) == set(names)


def test_output_goes_into_a_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = """
    import sys
    print("at import")
    print("to stderr", file=sys.stderr)
    sys.stdout.buffer.write(b"as bytes\\n")
    def act():
        print("in the hook")
        return 7
    """
    write_extension(tmp_path, "loud", code, PROMPTS)
    with session_in(tmp_path, tmp_path / "data") as session:
        [hook] = session.hooks("prompts")
        act = session.load(hook)
        print("ours before")
        assert session.call(hook, act) == 7
        print("ours after")
        log = session.log_of("loud").read_text()
    out, err = capfd.readouterr()
    assert (out, err) == ("ours before\nours after\n", "")
    assert set(log.split("\n")) == {"at import", "to stderr", "as bytes", "in the hook", ""}


def test_one_thread_s_output_is_not_anothers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_extension(tmp_path, "loud", "def act(work): return work()", PROMPTS)
    with session_in(tmp_path, tmp_path / "data") as session:
        [hook] = session.hooks("prompts")
        act = session.load(hook)

        def beside() -> None:
            thread = threading.Thread(target=lambda: print("from the server"))
            thread.start()
            thread.join()

        session.call(hook, lambda: act(beside))
    assert capfd.readouterr().out == "from the server\n"


def test_a_hook_that_raises_takes_its_extension_out(tmp_path: Path) -> None:
    code = "def act():\n    raise KeyError('gone')\nother = 3"
    write_extension(tmp_path, "bad", code, {"prompts": {"it": "act"}, "pictures": {"more": "other"}})
    with session_in(tmp_path, tmp_path / "data") as session:
        [hook] = session.hooks("prompts")
        with pytest.raises(Crashed, match=r"its prompts it failed: KeyError: 'gone' \(work.py line 2\)"):
            session.call(hook, session.load(hook))
        assert session.hooks("pictures") == ()
        with pytest.raises(Crashed, match="KeyError"):
            session.call(hook, lambda: None)


def test_a_hook_may_refuse_in_words(tmp_path: Path) -> None:
    write_extension(tmp_path, "strict", "act = 1", PROMPTS)
    with session_in(tmp_path, tmp_path / "data") as session:
        [hook] = session.hooks("prompts")

        def refuse() -> None:
            raise UsageError("there is no wildcard __cat__", hint="cats")

        with pytest.raises(UsageError, match="wildcard"):
            session.call(hook, refuse)
        assert session.problems() == {}


def test_times_are_counted_and_remembered(tmp_path: Path) -> None:
    write_extension(tmp_path, "slow", "import time; time.sleep(0.05)\ndef act(): time.sleep(0.05)", PROMPTS)
    with session_in(tmp_path, tmp_path / "data") as session:
        assert session.timings() == ()
        [hook] = session.hooks("prompts")
        session.call(hook, session.load(hook))
        session.call(hook, session.load(hook))
        [timing] = session.timings()
    assert timing.import_s >= 0.05
    assert timing.hook_s >= 0.1
    assert timing.calls == 2
    last = StateFile(tmp_path / "data").last_times()["slow"]
    assert (last.import_s, last.calls) == (timing.import_s, 2)


def test_a_disabled_one_is_not_imported(tmp_path: Path) -> None:
    write_extension(tmp_path, "off", "print('it was run')\nact = 1", PROMPTS)
    write_extension(tmp_path, "on", "act = 2", PROMPTS)
    file = StateFile(tmp_path / "data")
    file.write(file.read().switched("off", False))
    code = f"""
import sys
from pathlib import Path
from hayate.extensions.session import Session
session = Session.open(Path({str(tmp_path)!r}), Path({str(tmp_path / "data")!r}))
session.begin()
print([session.load(hook) for hook in session.hooks("prompts")])
print(sorted(name for name in sys.modules if name.startswith("hayate_extensions.")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.splitlines() == ["[2]", "['hayate_extensions.on', 'hayate_extensions.on.work']"], done.stderr


def test_switching_acts_while_it_runs(tmp_path: Path) -> None:
    write_extension(tmp_path, "it", "act = 1", PROMPTS)
    with session_in(tmp_path, tmp_path / "data") as session:
        assert session.names("prompts") == ("it",)
        other = StateFile(tmp_path / "data")
        other.write(other.read().switched("it", False))
        session.refresh()
        assert session.names("prompts") == ()
        other.write(other.read().switched("it", True))
        session.refresh()
        assert session.names("prompts") == ("it",)


def test_extensions_see_their_own_modules_and_no_others(tmp_path: Path) -> None:
    place = write_extension(tmp_path, "with-parts", "from .part import VALUE as act", PROMPTS)
    (place / "part.py").write_text("VALUE = 9")
    write_extension(tmp_path, "nosy", "import part", PROMPTS)
    with session_in(tmp_path, tmp_path / "data") as session:
        assert loaded(session, "with-parts") == 9
        with pytest.raises(Crashed, match="No module named 'part'"):
            loaded(session, "nosy")


CONTROLS = """
[[controls]]
key = "strength"
kind = "slider"
default = 0.5
low = 0
high = 1
"""


def test_one_with_controls_acts_where_it_is_named(tmp_path: Path) -> None:
    write_extension(tmp_path, "asked", hooks=PROMPTS, more=CONTROLS)
    write_extension(tmp_path, "always", hooks=PROMPTS)
    with session_in(tmp_path, tmp_path / "data") as session:
        assert session.asked_of({}) == ({"always": {}}, [])
        assert session.asked_of({"asked": {}}) == ({"asked": {"strength": 0.5}, "always": {}}, [])
        with pytest.raises(UnknownName, match="nearest: strength"):
            session.asked_of({"asked": {"strenth": 1}})
        with pytest.raises(UnknownName, match="nearest: asked"):
            session.asked_of({"aked": {}})
        with pytest.raises(UsageError, match="is told"):
            session.asked_of({"asked": 3})  # pyright: ignore[reportArgumentType]
        StateFile(tmp_path / "data").write(StateFile(tmp_path / "data").read().switched("asked", False))
        session.refresh()
        with pytest.raises(UsageError, match="switched off"):
            session.asked_of({"asked": {}})


def test_what_failed_is_said_for_every_job_that_it_would_act_on(tmp_path: Path) -> None:
    write_extension(tmp_path, "bad", "raise ValueError('no luck')", PROMPTS)
    with session_in(tmp_path, tmp_path / "data") as session:
        with pytest.raises(Crashed):
            loaded(session, "bad")
        _, notes = session.asked_of({})
        assert "the extension bad is left out until the next start" in notes[0]


def test_a1111_s_flags_leave_out_what_they_say(tmp_path: Path) -> None:
    write_extension(tmp_path, "mine", hooks=PROMPTS)

    def names(*flags: str) -> set[str]:
        left_out = origins_left_out(flags)
        return {each.name for each in Session.open(tmp_path, tmp_path / "data", left_out=left_out).standings}

    assert "mine" in names()
    assert {"loopback", "xyz-plot"} < names("--disable-extra-extensions")
    assert "mine" not in names("--disable-extra-extensions")
    assert names("--disable-all-extensions") == set()


def test_a_session_is_made_when_it_is_first_asked_for(tmp_path: Path) -> None:
    made: list[Session] = []

    def make() -> Session:
        made.append(Session.open(tmp_path, tmp_path / "data"))
        return made[-1]

    before = current()
    with in_use(make):
        assert made == []
        assert current() is current() is made[0]
    assert current() is before
    assert {each.found.origin for each in before.standings} == {Origin.BUILT_IN}
