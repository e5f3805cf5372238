"""A manifest is read without running anything; whatever is wrong with one is said in a line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from hayate.errors import UsageError
from hayate.extensions.kinds import HOOKS
from hayate.extensions.manifest import MAX_BYTES, NAME, is_for, parse_raw, read_manifest

WHOLE = """
name = "detailer"
version = "1.0.0"
summary = "Paints"
hayate = ">=0.1, <9"
requires = ["einops>=0.8"]

[hooks.pictures]
detailer = "detailer:detail"

[hooks.samplers]
"Euler twice" = "parts.samplers:TWICE"

[[controls]]
key = "denoising"
kind = "slider"
default = 0.4
low = 0.0
high = 1.0
label = { en = "Denoising", ja = "ノイズ除去" }
"""


def test_a_manifest_says_everything() -> None:
    found = parse_raw(WHOLE.encode())
    assert (found.name, found.version, found.title) == ("detailer", "1.0.0", "detailer 1.0.0")
    assert found.requires == ("einops>=0.8",)
    assert found.hooks["samplers"] == {"Euler twice": "parts.samplers:TWICE"}
    assert (found.controls[0].text("ja"), found.controls[0].text("fr")) == ("ノイズ除去", "Denoising")


def test_controls_are_the_extensions_or_a_scripts() -> None:
    more = """
[hooks.scripts]
"Mine" = "a:B"
"Other" = "a:C"

[[controls]]
script = "Mine"
key = "denoising"
kind = "switch"
default = true
"""
    found = parse_raw(f'needs_picture = ["Other"]\n{WHOLE}{more}'.encode())
    assert [control.kind for control in found.controls] == ["slider"]
    assert [control.kind for control in found.script_controls["Mine"]] == ["switch"]
    assert (set(found.script_controls), found.needs_picture) == ({"Mine"}, {"Other"})


def with_line(line: str, instead: str) -> bytes:
    assert line in WHOLE
    return WHOLE.replace(line, instead).encode()


BROKEN = {
    "a name that climbs": with_line('"detailer"\nversion', '"../evil"\nversion'),
    "a name with a slash": with_line('"detailer"\nversion', '"a/b"\nversion'),
    "a hidden name": with_line('"detailer"\nversion', '".hidden"\nversion'),
    "a name for a device": with_line('"detailer"\nversion', '"nul"\nversion'),
    "a name in capitals": with_line('"detailer"\nversion', '"Detailer"\nversion'),
    "no version": with_line('version = "1.0.0"\n', ""),
    "a version that is none": with_line('"1.0.0"', '"newest"'),
    "bounds that are none": with_line('">=0.1, <9"', '"~=0.1"'),
    "a place that is a path": with_line('"detailer:detail"', '"../../os:system"'),
    "a place that is relative": with_line('"detailer:detail"', '"..os:system"'),
    "a place without an object": with_line('"detailer:detail"', '"detailer"'),
    "an unknown hook": with_line("[hooks.pictures]", "[hooks.picture]"),
    "an unknown key": with_line("summary", "sumary"),
    "a summary of two lines": with_line('"Paints"', '"Paints\\nand more"'),
    "a summary that colours a terminal": with_line('"Paints"', '"\\u001b[31mred"'),
    "requirements that are no list": with_line('["einops>=0.8"]', '"einops"'),
    "an unknown kind of control": with_line('"slider"', '"dial"'),
    "a default that can't be": with_line("default = 0.4", "default = 4.0"),
    "a control without a default": with_line("default = 0.4\n", ""),
    "a label without English": with_line('{ en = "Denoising", ja = "ノイズ除去" }', '{ ja = "ノイズ除去" }'),
    "a control of no script": with_line('key = "denoising"', 'script = "none"\nkey = "denoising"'),
    "a picture for no script": with_line("hayate =", 'needs_picture = ["none"]\nhayate ='),
    "a script's control called as its script is": with_line(
        '[[controls]]\nkey = "denoising"',
        '[hooks.scripts]\n"mine" = "a:B"\n\n[[controls]]\nscript = "mine"\nkey = "name"',
    ),
    "no TOML": b"name = ",
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
    "nested without end": b"a = " + b"[" * 20_000,
    "too large": b"#" * (MAX_BYTES + 1),
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_wrong_is_one_line_with_a_hint(raw: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        parse_raw(raw)
    assert caught.value.hint
    assert str(caught.value).isprintable()


def test_an_unknown_hook_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="nearest: pictures"):
        parse_raw(BROKEN["an unknown hook"])


@given(st.binary(max_size=400))
def test_any_bytes_are_a_manifest_or_refused(raw: bytes) -> None:
    with pytest.raises(UsageError):
        parse_raw(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from(["name", "version", "summary", "hayate", "requires", "hooks", "controls"]), value=JSON)
def test_any_value_is_understood_or_refused(key: str, value: object) -> None:
    from hayate.extensions.manifest import Manifest, parse_manifest

    table = {"name": "a", "version": "1", "summary": "b", key: value}
    try:
        found = parse_manifest(table)
    except UsageError:
        return
    assert isinstance(found, Manifest)
    assert NAME.fullmatch(found.name)


@given(
    bounds=st.lists(
        st.tuples(st.sampled_from([">=", "<"]), st.integers(0, 3), st.integers(0, 3)), min_size=0, max_size=3
    ),
    version=st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)),
)
def test_bounds_mean_what_they_mean_to_pip(bounds: list[tuple[str, int, int]], version: tuple[int, int, int]) -> None:
    needed = ", ".join(f"{mark}{major}.{minor}" for mark, major, minor in bounds)
    ours = ".".join(map(str, version))
    assert is_for(needed, ours) == (ours in SpecifierSet(needed))


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        read_manifest(tmp_path / "extension.toml")


def test_every_hook_says_what_it_is() -> None:
    for kind in HOOKS.values():
        assert kind.doc.endswith(".")
        assert kind.is_a


def test_the_manifest_of_the_guide_can_be_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "extensions.md").read_text(encoding="utf-8")
    [example] = [block for block in page.split("```toml\n")[1:] if block.startswith("name = ")]
    found = parse_raw(example.partition("```")[0].encode())
    assert (found.name, found.hayate, found.controls[0].key) == ("detailer", ">=0.1, <1", "denoising")
