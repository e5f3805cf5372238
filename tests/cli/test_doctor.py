"""`hayate doctor`: what it prints, its exit codes, and a fix from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hayate.cli.main import main
from hayate.doctor.facts import Extension
from hayate.doctor.page import doctor_page
from tests.doctor.machines import machine
from tests.extensions.folders import session_in, write_extension

ROOT = Path(__file__).resolve().parents[2]
SHEETS = ROOT / "tests" / "doctor" / "sheets"
LAPTOP, GTX, H200 = (str(SHEETS / f"{name}.json") for name in ("windows_laptop_3060", "gtx_1080", "headless_h200"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose folders are empty."""
    for key in ("models_dir", "vae_dir", "lora_dir", "embeddings_dir", "outputs_dir", "cache_dir", "data_dir"):
        monkeypatch.setenv(f"HAYATE_{key.upper()}", str(tmp_path / key))
    monkeypatch.setenv("HAYATE_CONFIG", str(tmp_path / "settings.toml"))
    (tmp_path / "settings.toml").touch()
    (tmp_path / "models_dir").mkdir()
    for name in ("OMP_NUM_THREADS", "COMMANDLINE_ARGS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(("sheet", "code"), [(LAPTOP, 0), (GTX, 1), (H200, 0)])
def test_the_exit_code_says_whether_it_is_serious(sheet: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--from", sheet]) == code
    out = capsys.readouterr().out
    assert ("Serious\n" in out) is bool(code)
    assert "checks found nothing" in out


def test_findings_come_with_reason_gain_source_and_fix(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--from", GTX])
    out = " ".join(capsys.readouterr().out.split())
    assert "card without kernels: torch 2.13.0+cu130 has no kernels for the NVIDIA GeForce GTX 1080" in out
    assert "(measured by others: AUTOMATIC1111/stable-diffusion-webui#16822" in out
    assert "Install the torch for CUDA 12.6" in out
    assert "py launch.py --reinstall-torch --exit" in out


def test_what_is_fine_is_named_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--from", H200])
    assert "old cuDNN" not in capsys.readouterr().out
    main(["doctor", "--from", H200, "--all"])
    assert "old cuDNN" in capsys.readouterr().out


def test_json_is_one_object_with_the_same_findings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--from", GTX, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["findings"][0]["check"] == "card without kernels"
    assert found["findings"][0]["severity"] == "serious"
    assert found["findings"][0]["gain"]["certainty"] == "measured by others"
    assert found["unknown"] == []
    assert "old cuDNN" in found["fine"]


def test_one_check_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--from", GTX, "--only", "old card", "--json"]) == 0
    assert [each["check"] for each in json.loads(capsys.readouterr().out)["findings"]] == ["old card"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "old cudnn"], "old cuDNN"),
        (["--from", "nowhere.json"], "nowhere.json"),
        (["--from", H200, "--fix"], "leave --from out"),
        (["--from", H200, "--undo"], "leave --from out"),
        (["--from", H200, "--facts", "/no/such/folder/sheet.json"], "can't be written"),
    ],
)
@pytest.mark.usefixtures("home")
def test_mistakes_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_a_recorded_sheet_is_judged_as_the_machine_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = home / "sheet.json"
    main(["doctor", "--facts", str(sheet), "--json"])
    here = json.loads(capsys.readouterr().out)
    main(["doctor", "--from", str(sheet), "--json"])
    there = json.loads(capsys.readouterr().out)
    # Commands of this machine have whole paths, those of a sheet begin with ~.
    assert [each | {"fix": None} for each in there["findings"]] == [each | {"fix": None} for each in here["findings"]]


def test_a_fix_is_done_told_and_taken_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pickle = home / "models_dir" / "old.ckpt"
    torch.save({"state_dict": {"model.diffusion_model.a": torch.ones(4)}}, pickle)
    before = pickle.read_bytes()
    main(["doctor", "--only", "pickles"])
    assert "doctor --fix does it, --undo takes it back" in capsys.readouterr().out
    assert main(["doctor", "--only", "pickles", "--fix"]) == 0
    out = capsys.readouterr().out
    assert "old.safetensors was made of old.ckpt" in out
    assert "1 model of" not in out  # it is not found any more
    assert sorted(path.name for path in pickle.parent.iterdir()) == ["old.ckpt.aside", "old.safetensors"]
    assert main(["doctor", "--undo"]) == 0
    assert "is back" in capsys.readouterr().out
    assert [path.name for path in pickle.parent.iterdir()] == ["old.ckpt"]
    assert pickle.read_bytes() == before
    main(["doctor", "--undo"])
    assert "nothing to undo" in capsys.readouterr().out


def test_a_slow_extension_is_disabled_when_it_is_named_and_enabled_by_an_undo(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HAYATE_EXTENSIONS_DIR", str(home / "extensions"))
    code = "import time; time.sleep(0.6)\ndef same(text): return text"
    write_extension(home / "extensions", "slow-one", code, {"prompts": {"same": "same"}})
    with session_in(home / "extensions", home / "data_dir") as session:
        [hook] = [each for each in session.hooks("prompts") if each.owner.name == "slow-one"]
        session.load(hook)  # imported, and timed

    def is_on() -> bool:
        main(["extensions", "list", "--json"])
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["extensions"]}
        return rows["slow-one"]["state"] == "on"

    main(["doctor", "--only", "slow extensions"])
    out = capsys.readouterr().out
    assert "slow-one (0." in out
    assert 'doctor --fix --only "slow extensions" does it' in out
    assert main(["doctor", "--fix", "--only", "slow extensions"]) == 0
    out = capsys.readouterr().out
    assert "slow-one is disabled" in out
    assert "slow-one (0." not in out
    assert not is_on()
    assert main(["doctor", "--undo", "--only", "slow extensions"]) == 0
    assert "enabled again" in capsys.readouterr().out
    assert is_on()


@pytest.mark.usefixtures("home")
def test_an_extension_that_is_not_named_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody may use it."""
    seen = machine(extensions=(Extension(name="slow-one", import_ms=1500.0),))
    monkeypatch.setattr("hayate.doctor.gather.gather_facts", lambda *_, **__: seen)
    main(["doctor", "--fix"])
    out = capsys.readouterr().out
    assert "slow-one (1.5 s)" in out
    assert "slow-one is disabled" not in out


def test_settings_that_are_refused_do_not_stop_the_doctor(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "settings.toml").write_text("stepz = 3\n")
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["findings"][0]["check"] == "settings file"
    assert "stepz" in found["findings"][0]["found"]


def test_flags_of_a1111_are_looked_at(home: Path) -> None:
    sheet = home / "sheet.json"
    main(["doctor", "--facts", str(sheet), "--medvram", "--no-half"])
    assert json.loads(sheet.read_text())["wishes"]["flags"] == ["--medvram", "--no-half"]


@pytest.mark.usefixtures("home")
def test_no_torch_is_imported() -> None:
    code = "import sys\nfrom hayate.cli.main import main\nmain(['doctor', '--json'])\nprint('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_the_page_is_fresh() -> None:
    assert (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8") == doctor_page(), "run scripts/docs"


def test_only_what_was_asked_for_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--from", H200, "--only", "two torches"]) == 0
    assert capsys.readouterr().out == "1 check found nothing: two torches\n"
    main(["doctor", "--from", H200, "--only", "two torches", "--json"])
    assert json.loads(capsys.readouterr().out)["fine"] == ["two torches"]
