"""`hayate models merge`, `extract-lora` and `merge-loras`: names from the folders, one line for each mistake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hayate.cli.main import main
from hayate.cli.merge import name_and_strength
from hayate.models.config import Family
from tests.tiny_models import write_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("one", "two v1.5")):
        write_tiny(folder / f"{name}.safetensors", Family.SD1, seed=seed, dtype=torch.float16)
    write_tiny(folder / "wide.safetensors", Family.SDXL)
    (folder / "old.ckpt").write_bytes(b"PK\x03\x04")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(folder: Path, *words: str) -> int:
    return main(["models", *words, "--models-dir", str(folder)])


def test_a_merge_is_written_under_its_name_and_merges_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new"
    assert run(folder, "merge", "merge(one, two v1.5, 0.25)", "-o", str(out), "--dtype", "fp32") == 0
    assert capsys.readouterr().out == f"{out}.safetensors\n"
    result, one, two = (load_file(path) for path in (tmp_path / "new.safetensors", *sorted(folder.glob("[ot][nw]*"))))
    name = "model.diffusion_model.out.2.weight"
    torch.testing.assert_close(result[name], 0.75 * one[name].float() + 0.25 * two[name].float(), rtol=0, atol=1e-6)
    assert run(folder, "inspect", f"{out}.safetensors", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    saved = shown["metadata"]["sd_merge_recipe"]
    assert json.loads(saved)["expression"] == "merge(one, two v1.5, 0.25)"
    again = tmp_path / "again.safetensors"
    assert run(folder, "merge", saved, "-o", str(again), "--dtype", "fp32") == 0
    assert all(torch.equal(tensor, result[key]) for key, tensor in load_file(again).items())


def test_a_recipe_is_saved_listed_and_merged_by_its_name(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models"
    shutil.copytree(folder, models)
    path = models / "sweet.recipe"
    assert run(models, "merge", "merge(one, two v1.5, 0.25)", "-o", str(path)) == 0
    assert run(models, "merge", "merge(sweet, one, 0)", "-o", str(path), "--replace") == 0
    text = "merge(merge(one, two v1.5, 0.25), one, 0)"
    assert path.read_text() == text + "\n"
    capsys.readouterr()
    assert run(models, "list") == 0
    assert f"sweet  recipe  {text}\n" in capsys.readouterr().out
    assert run(models, "list", "--json") == 0
    assert [each["text"] for each in json.loads(capsys.readouterr().out)["recipes"]] == [text]
    ways = (["sweet"], ["--recipe", str(path)], ["merge(one, two v1.5, 0.25)"])
    for number, words in enumerate(ways):
        assert run(models, "merge", *words, "-o", str(tmp_path / f"m{number}")) == 0
    first, second, third = (load_file(tmp_path / f"m{number}.safetensors") for number in range(3))
    assert all(torch.equal(first[name], second[name]) and torch.equal(first[name], third[name]) for name in third)


def test_a_recipe_for_models_that_do_not_fit_is_not_saved(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "merge", "merge(one, wide, 0.25)", "-o", str(tmp_path / "x.recipe")) == 3
    assert run(folder, "merge", "merge(one, nobody, 0.25)", "-o", str(tmp_path / "x.recipe")) == 2
    assert not (tmp_path / "x.recipe").exists()


def test_numbers_that_become_infinite_are_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("add_difference(one, two v1.5, one, 1e8)", "-o", str(tmp_path / "x"), "--dtype")
    assert run(folder, "merge", *words, "fp16") == 0
    assert "numbers became infinite" in capsys.readouterr().err
    assert run(folder, "merge", *words, "bf16", "--replace") == 0
    assert "infinite" not in capsys.readouterr().err


def test_a_file_that_is_there_stays_unless_it_is_to_go(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new.safetensors"
    out.write_text("mine")
    assert run(folder, "merge", "one", "-o", str(out)) == 2
    assert out.read_text() == "mine"
    assert "is there already" in capsys.readouterr().err
    assert run(folder, "merge", "one", "-o", str(out), "--replace") == 0
    assert load_file(out)


def test_loras_are_extracted_merged_and_put_into_a_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loras = ("--lora-dir", str(tmp_path))
    assert run(folder, "extract-lora", "one", "two v1.5", "--rank", "4", "-o", str(tmp_path / "x")) == 0
    assert "of the difference held" in capsys.readouterr().err
    words = ("merge-loras", "x:0.5", "x:0.25", "--model", "one", "-o", str(tmp_path / "y"), *loras)
    assert run(folder, *words) == 0
    for number, uses in enumerate((["--lora", "x:0.75"], ["--lora", "y"])):
        assert run(folder, "merge", "one", *uses, "-o", str(tmp_path / f"m{number}"), "--dtype", "fp32", *loras) == 0
    first, second = (load_file(tmp_path / f"m{number}.safetensors") for number in range(2))
    plain = load_file(folder / "one.safetensors")
    assert any(not torch.equal(first[name], plain[name].float()) for name in first)
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["merge", "merge(one, tow v1.5, 0.3)"], 2, "two v1.5"),
        (["merge", "merg(one, one, 0.3)"], 2, "nearest: merge"),
        (["merge", "merge(one, wide, 0.3)"], 3, "one family"),
        (["merge", "merge(one, old.ckpt, 0.3)"], 3, "old.ckpt"),
        (["merge", "one", "--dtype", "fp8"], 2, "fp16"),
        (["merge"], 2, "--recipe"),
        (["merge", "one", "--recipe", "one"], 2, "--recipe"),
        (["merge", "--recipe", "nowhere.recipe"], 2, "nowhere.recipe"),
        (["merge", "recipe(one)"], 2, "no recipe in its metadata"),
        (["merge", "one", "--lora", "none:0.5"], 2, "unknown LoRA"),
        (["merge", "one", "--lora", "none:much"], 2, "no number"),
        (["extract-lora", "one", "two v1.5"], 2, "--rank 32"),
        (["extract-lora", "one", "two v1.5", "--rank", "0"], 2, "too low"),
        (["extract-lora", "one", "wide", "--rank", "4"], 3, "one family"),
        (["extract-lora", "one", "one", "--rank", "4", "--dtype", "keep"], 2, "fp16"),
        (["merge-loras", "none:1"], 2, "unknown LoRA"),
    ],
)
def test_each_mistake_is_one_line_and_leaves_nothing(
    folder: Path, tmp_path: Path, words: list[str], code: int, said: str, *, capsys: pytest.CaptureFixture[str]
) -> None:
    loras = () if words[0] == "extract-lora" else ("--lora-dir", str(tmp_path))
    assert run(folder, *words, "-o", str(tmp_path / "out"), *loras) == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert said in shown.err
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("path", ["nowhere/out", "out.ckpt"])
def test_a_place_that_cannot_be_written_is_told_first(
    folder: Path, tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "merge", "one", "-o", str(tmp_path / path)) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_strengths_stand_after_the_last_colon() -> None:
    assert name_and_strength("a:b:0.5") == ("a:b", 0.5)
    assert name_and_strength("plain") == ("plain", 1.0)
    assert name_and_strength("C:\\loras\\x.safetensors") == ("C:\\loras\\x.safetensors", 1.0)
