"""Settings: every key documented, the precedence, and one clear line for each mistake."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hayate.errors import HayateError, UnknownName, UsageError
from hayate.settings import KEYS, SETTINGS, Settings, load_settings, settings_file, settings_page

ROOT = Path(__file__).resolve().parent.parent


def load(tmp_path: Path, text: str = "", **environment: str) -> Settings:
    file = tmp_path / "settings.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(environment={"HOME": str(tmp_path), **environment}, file=file)


def test_the_table_and_the_record_have_the_same_keys() -> None:
    assert [setting.key for setting in SETTINGS] == [field.name for field in dataclasses.fields(Settings)]


def test_every_key_is_documented_with_its_range_and_default() -> None:
    for setting in SETTINGS:
        assert setting.doc.endswith(".")
        assert (setting.low is None) == (setting.kind in ("text", "path")), "a number has bounds"
        assert setting.default is not None or "default" in setting.doc, "what automatic means is said"


def test_the_page_is_fresh() -> None:
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == settings_page(), "run scripts/docs"


def test_every_default_is_a_value_that_a_user_could_give(tmp_path: Path) -> None:
    lines = [f"{each.key} = {each.default!r}" for each in SETTINGS if each.default is not None]
    assert load(tmp_path, "\n".join(lines)) == load(tmp_path)


def test_flags_win_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("steps = 11\ncfg = 3\nsampler = 'Euler'\n")
    environment = {"HOME": str(tmp_path), "HAYATE_STEPS": "12", "HAYATE_CFG": "4.5", "HAYATE_WIDTH_PX": ""}
    loaded = load_settings({"steps": 13, "cfg": None}, environment=environment, file=file)
    assert (loaded.steps, loaded.cfg, loaded.sampler, loaded.width_px, loaded.batch_size) == (13, 4.5, "Euler", None, 1)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("stepz = 3", ("line 2", "stepz", "steps")),
        ("steps = 'many'", ("line 2, key steps", "a whole number")),
        ("steps = 2.5", ("line 2, key steps", "a whole number")),
        ("steps = true", ("line 2, key steps", "a whole number")),
        ("steps = 0", ("line 2, key steps", "1 to 1000")),
        (f"steps = {10**400}", ("line 2, key steps", "1 to 1000")),
        ("cfg = nan", ("line 2, key cfg", "0 to 100")),
        ("cfg = inf", ("line 2, key cfg", "0 to 100")),
        ("width_px = 500", ("line 2, key width_px", "multiple of 8")),
        ("dtype = 'fp8'", ("line 2, key dtype", "bf16")),
        ("models_dir = 3", ("line 2, key models_dir", "a path")),
        ('sampler = ""', ("line 2, key sampler", "a text")),
        ("[table]", ("line 2", "table")),
        ("steps = ", ("TOML", "line 2")),
        (f"steps = {'9' * 5000}", ("TOML",)),
        (f"steps = {'[' * 5000}", ("TOML",)),
    ],
)
def test_a_mistake_in_the_file_names_the_place(tmp_path: Path, line: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as raised:
        load(tmp_path, f"# mine\n{line}\n")
    message = str(raised.value)
    assert "settings.toml" in message
    assert "\n" not in message
    assert len(message) < 500
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HAYATE_STEP", "3", ("HAYATE_STEP", "steps")),
        ("HAYATE_STEPS", "x", ("HAYATE_STEPS", "a whole number")),
        ("HAYATE_CFG", "nan", ("HAYATE_CFG", "0 to 100")),
        ("HAYATE_RNG", "TPU", ("HAYATE_RNG", "NV")),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    tmp_path: Path, name: str, value: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as raised:
        load(tmp_path, **{name: value})
    assert all(word in str(raised.value) for word in words)


def test_flags_are_checked_too(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    with pytest.raises(UnknownName, match="steps"):
        load_settings({"step": 3}, environment=environment)
    with pytest.raises(UsageError, match="--batch-size"):
        load_settings({"batch_size": 1000}, environment=environment)


def test_a_named_file_must_exist_and_the_usual_one_need_not(tmp_path: Path) -> None:
    assert load_settings(environment={"HOME": str(tmp_path)}).steps == KEYS["steps"].default
    with pytest.raises(UsageError, match=r"no settings file .*none\.toml"):
        load_settings(environment={"HAYATE_CONFIG": str(tmp_path / "none.toml")})
    with pytest.raises(UsageError, match="can't read the settings file"):
        load_settings(environment={"HAYATE_CONFIG": str(tmp_path)})


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"HOME": "/h"}, "/h/.config/hayate/settings.toml"),
        ("linux", {"HOME": "/h", "XDG_CONFIG_HOME": "/x"}, "/x/hayate/settings.toml"),
        ("linux", {"HOME": "/h", "XDG_CONFIG_HOME": "relative"}, "/h/.config/hayate/settings.toml"),
        ("darwin", {"HOME": "/h"}, "/h/Library/Application Support/hayate/settings.toml"),
        ("win32", {"APPDATA": "/a"}, "/a/hayate/settings.toml"),
        ("linux", {"HOME": "/h", "HAYATE_CONFIG": "/my.toml"}, "/my.toml"),
    ],
)
def test_the_file_is_where_the_platform_keeps_such_files(
    monkeypatch: pytest.MonkeyPatch, platform: str, environment: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr("sys.platform", platform)
    assert settings_file(environment) == Path(expected)


def test_home_is_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert load(tmp_path, "models_dir = '~/m'").models_dir == tmp_path / "m"
    assert load(tmp_path, "models_dir = '~nobody-here/m'").models_dir == Path("~nobody-here/m")


@given(text=st.text(max_size=60))
def test_any_file_gives_settings_or_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    try:
        load(tmp_path_factory.mktemp("any"), text.encode("utf-8", "replace").decode())
    except HayateError as error:
        assert "\n" not in str(error).replace("\\n", "")  # noqa: PT017 - no error is fine as well
