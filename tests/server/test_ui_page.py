"""The page as it is served: whole, escaped, under the strict policy, and without torch."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from hayate.errors import MissingDependency
from hayate.pipeline.formats import PictureTexts, encode_png
from hayate.prompt import count_tokens, load_tokenizer
from hayate.prompt.tokenizer import vocabulary_path
from hayate.server.app import create_app
from hayate.server.ui.page import THEMES, render_page
from hayate.server.ui.static_files import static_files, ui_folder
from hayate.server.ui.strings import LANGUAGES
from hayate.server.ui.tabs import TABS
from hayate.settings import Settings, load_settings
from tests.server.stub_desk import StubDesk

MOST_BYTES = 100_000
"""Of the whole page as it is sent."""
INFOTEXT = """a (red:1.2) sun
over mountains
Negative prompt: blurry
Steps: 25, Sampler: Euler a, Schedule type: Automatic, CFG scale: 5, Seed: 1529354297, Size: 832x1200, \
Model hash: 67ab2fd8ec, Model: pony, Denoising strength: 0.4, Clip skip: 2, Hires upscale: 1.5, Hires steps: 14, \
Hires upscaler: Latent, Emphasis: No norm, Version: v1.10.1"""


class Page(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inline: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("script", "style") and data.strip():
            self.inline.append(self.elements[-1][1].get("type", self.elements[-1][0]))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folders = {name: tmp_path / name for name in ("models_dir", "lora_dir", "vae_dir", "embeddings_dir", "data_dir")}
    return load_settings({**folders, "styles_file": tmp_path / "styles.csv"}, environment={})


@pytest.fixture
def caller(settings: Settings) -> Iterator[TestClient]:
    desk = StubDesk(settings.data_dir / "server")
    desk.start()
    with TestClient(create_app(desk, settings), base_url="http://localhost") as opened:
        yield opened


def page_of(caller: TestClient, language: str = "en", theme: str = "auto") -> str:
    answer = caller.get("/", headers={"Cookie": f"hayate_language={language}; hayate_theme={theme}"})
    assert answer.status_code == 200
    return answer.text


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_is_rendered_in_every_language_and_theme(caller: TestClient, language: str, theme: str) -> None:
    page = Page(page_of(caller, language, theme))
    html = dict(page.elements)["html"]
    assert (html["lang"], html["data-theme"]) == (language, theme)
    assert [each["id"] for tag, each in page.elements if each.get("role") == "tab"] == [f"tab-{tab.id}" for tab in TABS]


def test_the_browser_is_asked_for_the_language_when_nobody_chose(caller: TestClient) -> None:
    assert '<html lang="ja"' in caller.get("/", headers={"Accept-Language": "ja,en;q=0.5"}).text
    assert '<html lang="en"' in caller.get("/", headers={"Cookie": "hayate_language=../../x; hayate_theme=<b>"}).text


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(caller: TestClient) -> None:
    page = Page(page_of(caller))
    assert page.inline == ["application/json"]
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        for name in ("src", "href", "action"):
            assert re.fullmatch(r"|[\w#][^:]*", attributes.get(name, "")), (tag, attributes)


def test_no_file_of_the_page_names_another_host() -> None:
    texts = {name: file.content.decode() for name, file in static_files().items()}
    texts |= {str(path): path.read_text("utf-8") for path in (ui_folder() / "templates").rglob("*.html")}
    for name, text in texts.items():
        assert set(re.findall(r"\w+://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(r"""(src|href|url\(|import|fetch)[\s=("'`]*//""", text), name


def test_a_cache_folder_that_can_not_be_is_done_without(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    html = render_page("en", "auto", asdict(replace(settings, cache_dir=tmp_path / "file" / "cache")))
    assert html == render_page("en", "auto", asdict(replace(settings, cache_dir=tmp_path / "cache"))).replace(
        str(tmp_path / "cache"), str(tmp_path / "file" / "cache")
    )
    assert list((tmp_path / "cache" / "page").iterdir())


def test_policy_forbids_what_the_page_does_not_need(caller: TestClient) -> None:
    policy = caller.get("/").headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


def test_ids_are_unique_and_labels_have_their_fields(caller: TestClient) -> None:
    page = Page(page_of(caller))
    ids = [each["id"] for _, each in page.elements if "id" in each]
    assert len(ids) == len(set(ids))
    for tag, each in page.elements:
        names = ("for", "aria-controls", "aria-labelledby", "list", *(["data-for"] if tag == "input" else []))
        assert {each[name] for name in names if name in each} <= set(ids), (tag, each)


def test_every_field_has_a_name_for_who_can_not_see_it(caller: TestClient) -> None:
    page = Page(page_of(caller))
    labelled = {each["for"] for tag, each in page.elements if tag == "label" and "for" in each}
    for tag, each in page.elements:
        is_field = tag in ("input", "select", "textarea") and each.get("type") != "checkbox"
        if is_field and each.get("aria-hidden") != "true" and "hidden" not in each:
            is_inside_its_label = each.get("id") in ("language", "theme")
            assert each.get("id") in labelled or "aria-label" in each or is_inside_its_label, each


def test_names_from_the_settings_are_escaped(settings: Settings) -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    html = render_page("en", "auto", {**asdict(settings), "sampler": evil, "scheduler": evil})
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_names_of_files_are_json_and_never_html(caller: TestClient, settings: Settings) -> None:
    settings.lora_dir.mkdir()
    evil = "<img src=x onerror=alert(1)>"
    (settings.lora_dir / f"{evil}.safetensors").write_bytes(b"")
    answer = caller.get("/ui/choices", params={"source": "loras"})
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json() == {"loras": [{"value": evil, "label": ""}]}
    for name, file in static_files().items():
        if name.endswith(".js"):
            for assigned in re.findall(r"(?:innerHTML|outerHTML)\s*=\s*(.*)", file.content.decode()):
                assert assigned.startswith('`<svg class="i" aria-hidden="true"><use href="#i-${'), (name, assigned)
            assert "insertAdjacentHTML" not in file.content.decode()


def test_the_page_is_small(caller: TestClient) -> None:
    sizes = dict.fromkeys(["/", *(f"/static/{name}" for name in static_files())], 0)
    for path in sizes:
        answer = caller.get(path, headers={"Accept-Encoding": "gzip"})
        sizes[path] = int(answer.headers["Content-Length"])
        plain = caller.get(path, headers={"Accept-Encoding": "identity"})
        assert answer.content == plain.content
        assert "Content-Encoding" not in plain.headers
    assert sum(sizes.values()) < MOST_BYTES, sizes


def test_files_are_known_by_their_tags(caller: TestClient) -> None:
    for name in static_files():
        first = caller.get(f"/static/{name}")
        assert first.status_code == 200
        assert caller.get(f"/static/{name}", headers={"If-None-Match": first.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize(
    "path", ["nothing.js", "../page.py", "..%2fpage.py", "%2e%2e/router.py", "tabs/../../page.py", "", "C:/x"]
)
def test_no_other_file_is_served(caller: TestClient, path: str) -> None:
    answer = caller.get(f"/static/{path}")
    assert answer.status_code == 404 or answer.url.path == "/"
    assert "from __future__" not in answer.text


def test_the_page_answers_without_torch() -> None:
    code = """
import sys, tempfile, pathlib
from fastapi.testclient import TestClient
from hayate.server.app import create_app
from hayate.settings import load_settings
sys.path.insert(0, "tests/server")
from stub_desk import StubDesk
folder = pathlib.Path(tempfile.mkdtemp())
settings = load_settings({name: folder / name for name in ("models_dir", "data_dir")}, environment={})
desk = StubDesk(folder); desk.start()
client = TestClient(create_app(desk, settings, is_page_first=True), base_url="http://localhost")
assert client.get("/").status_code == 200
assert "numpy" not in sys.modules, "the page waits for numpy"
assert client.get("/ui/choices").status_code == 200
assert client.get("/ui/model").json()["size_px"] == 128
text = "a\\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x64, Version: v1.10.1"
assert client.post("/ui/paste", json={"text": text}).status_code == 200
assert client.post("/ui/tokens", json={"prompt": "a lake"}).status_code == 200
assert "torch" not in sys.modules
"""
    environment = {**os.environ, "PYTHONPATH": "src"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def has_vocabulary() -> bool:
    try:
        vocabulary_path()
    except MissingDependency:
        return False
    return True


@pytest.mark.skipif(not has_vocabulary(), reason="CLIP's vocabulary is not installed")
def test_tokens_are_counted_with_styles(caller: TestClient, settings: Settings) -> None:
    settings.styles_file.write_text('name,prompt,negative_prompt\nink,"ink wash of {prompt}, paper",blurry\n')
    asked = {"prompt": "[a:b:5] lake <lora:x:1>" + ", wide" * 40, "negative_prompt": "", "styles": ["ink"], "steps": 20}
    counts = caller.post("/ui/tokens", json=asked).json()["counts"]
    expected = count_tokens(f"ink wash of {asked['prompt']}, paper", load_tokenizer(), steps=20)
    assert [(each["used"], each["capacity"]) for each in counts] == [expected, (1, 75)]
    unknown = caller.post("/ui/tokens", json={**asked, "styles": ["gone"]}).json()["counts"]
    assert unknown[0] == {"used": None, "capacity": 75}


def test_pasted_parameters_fill_the_fields(caller: TestClient) -> None:
    filled = caller.post("/ui/paste", json={"text": INFOTEXT}).json()
    values = filled["values"]
    expected = {
        "request.prompt": "a (red:1.2) sun\nover mountains",
        "request.negative_prompt": "blurry",
        "request.steps": 25,
        "request.sampler": "Euler a",
        "request.scheduler": "Automatic",
        "request.cfg": 5,
        "request.seed": 1529354297,
        "request.width_px": 832,
        "request.height_px": 1200,
        "request.clip_skip": 2,
        "request.emphasis": "No norm",
        "request.hires.scale": 1.5,
        "request.hires.steps": 14,
        "request.hires.upscaler": "Latent",
        "request.hires.denoising": 0.4,
        "request.hires.sampler": None,
        "request.eta": None,
    }
    assert {key: values[key] for key in expected} == expected
    assert filled["groups"] == {"hires": True, "variation": False, "refiner": False}
    assert any("pony" in note for note in filled["notes"])
    known = {control.key for tab in TABS for control in tab.controls()} | {
        "request.model",
        "request.vae",
        "request.clip_skip",
    }
    assert set(values) <= known


def test_approximate_methods_come_back_into_their_controls(caller: TestClient) -> None:
    text = INFOTEXT.replace("Emphasis", "DeepCache: 3, Guidance interval: 0.3-5, Emphasis")
    filled = caller.post("/ui/paste", json={"text": text}).json()
    assert filled["values"]["asked.deepcache"] == 3
    assert [filled["values"][f"asked.guidance_interval.{end}"] for end in (0, 1)] == [0.3, 5]
    plain = caller.post("/ui/paste", json={"text": INFOTEXT}).json()["values"]
    assert plain["asked.guidance_interval.0"] is None


def test_a_model_that_is_here_is_chosen_by_its_name(caller: TestClient, settings: Settings) -> None:
    (settings.models_dir / "sub").mkdir(parents=True)
    (settings.models_dir / "sub" / "Pony.safetensors").write_bytes(b"")
    filled = caller.post("/ui/paste", json={"text": INFOTEXT}).json()
    assert filled["values"]["request.model"] == "sub/Pony.safetensors"
    assert filled["notes"] == []


def test_pictures_are_pasted_too(caller: TestClient) -> None:
    png = encode_png(np.zeros((8, 8, 3), np.uint8), PictureTexts(parameters=INFOTEXT))
    name = caller.post("/v1/images", content=png, headers={"Content-Type": "image/png"}).json()["name"]
    assert caller.post("/ui/paste", json={"image": name}).json()["values"]["request.seed"] == 1529354297
    bare = encode_png(np.zeros((8, 8, 3), np.uint8), PictureTexts(parameters=""))
    name = caller.post("/v1/images", content=bare, headers={"Content-Type": "image/png"}).json()["name"]
    refused = caller.post("/ui/paste", json={"image": name})
    assert (refused.status_code, refused.json()["hint"]) == (422, "take one that Hayate or A1111 saved")


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "x\u0000.png", "/etc/passwd", "nothing.png", "C:\\x.png"])
def test_only_pictures_that_were_handed_in_are_read(caller: TestClient, name: str) -> None:
    assert caller.post("/ui/paste", json={"image": name}).status_code == 422


@pytest.mark.parametrize("text", ["", "just words", "Steps: 20"])
def test_a_text_without_parameters_is_refused_with_a_hint(caller: TestClient, text: str) -> None:
    refused = caller.post("/ui/paste", json={"text": text})
    assert refused.status_code == 422
    assert refused.json()["hint"]


def test_styles_are_saved_applied_and_deleted(caller: TestClient, settings: Settings) -> None:
    ink = {"name": "ink, wash", "prompt": 'ink of "{prompt}"\nsecond', "negative_prompt": "blurry"}
    assert caller.post("/ui/styles", json=ink).status_code == 200
    assert caller.post("/ui/styles", json={"name": "墨絵", "prompt": "sumi-e"}).status_code == 200
    with settings.styles_file.open(encoding="utf-8-sig", newline="") as file:
        assert next(iter(csv.DictReader(file))) == ink
    asked = {"prompt": "a lake", "negative_prompt": "", "styles": ["ink, wash", "墨絵"]}
    applied = caller.post("/ui/styles/apply", json=asked).json()
    assert applied == {"prompt": 'ink of "a lake"\nsecond, sumi-e', "negative_prompt": "blurry"}
    assert caller.post("/ui/styles/delete", json={"name": "ink, wash"}).status_code == 200
    assert caller.get("/ui/choices?source=styles").json() == {"styles": [{"value": "墨絵", "label": ""}]}
    refused = caller.post("/ui/styles/delete", json={"name": "ink"})
    assert (refused.status_code, refused.json()["error"]) == (422, "UnknownName")
    assert caller.post("/ui/styles", json={"name": " "}).status_code == 422


def test_a_styles_file_that_can_not_be_written_stays(caller: TestClient, settings: Settings) -> None:
    settings.styles_file.mkdir()
    assert caller.post("/ui/styles", json={"name": "ink"}).status_code == 422
    assert [path.name for path in settings.styles_file.parent.iterdir() if path.suffix == ".new"] == []


def test_the_status_says_what_runs(caller: TestClient) -> None:
    job = caller.post("/v1/jobs", json={"kind": "generate", "body": {"request": {"prompt": "x"}}}).json()["id"]
    status = caller.get("/ui/status").json()
    phases = [worker["phase"] for worker in status["workers"]]
    assert (phases, status["running"], status["queued"]) == (["idle"], [], 1)
    desk = caller.app.state.desk  # pyright: ignore[reportAttributeAccessIssue]
    desk.begin(job)
    assert caller.get("/ui/status").json() | {"workers": 0} == {
        "workers": 0,
        "running": [{"id": job, "kind": "generate"}],
        "queued": 0,
    }


def test_an_unknown_list_is_refused_with_the_nearest(caller: TestClient) -> None:
    refused = caller.get("/ui/choices?source=model")
    assert refused.status_code == 422
    assert "models" in json.dumps(refused.json())


def test_a_broken_model_says_what_is_wrong(caller: TestClient, settings: Settings) -> None:
    settings.models_dir.mkdir()
    (settings.models_dir / "bad.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    facts = caller.get("/ui/model?name=bad.safetensors").json()
    assert facts["size_px"] is None
    assert facts["problem"]
