"""The prompt and what fills it, in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.browsing import act, drop, field, part, prompt, ready
from tests.server.slow_desk import SlowDesk, painted
from tests.server.tool_pages import needs_chromium

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = needs_chromium
INFOTEXT = """a lighthouse
Negative prompt: blurry
Steps: 33, Sampler: Euler a, Schedule type: Karras, CFG scale: 4.5, Seed: 77, Size: 640x384, Version: v1.10.1"""


def test_a_picture_pasted_onto_the_prompt_fills_the_fields(page: Any) -> None:
    drop(page, "#txt2img-request-prompt", painted(0, (16, 16), "PNG", INFOTEXT), "paste")
    expect(prompt(page)).to_have_value("a lighthouse")
    expect(field(page, "request.negative_prompt")).to_have_value("blurry")
    for name, value in {
        "steps": "33",
        "sampler": "Euler a",
        "scheduler": "Karras",
        "cfg": "4.5",
        "seed": "77",
        "width-px": "640",
        "height-px": "384",
    }.items():
        expect(page.locator(f"#txt2img-request-{name}")).to_have_value(value)
    act(page, "swap").click()
    expect(field(page, "request.width_px")).to_have_value("384")


def test_a_picture_without_parameters_says_so(page: Any) -> None:
    drop(page, "#txt2img-request-prompt", painted(0, (16, 16), "PNG"))
    expect(page.locator(".toast.error")).to_contain_text("does not say how it was made")


def test_the_arrow_reads_what_stands_in_the_prompt(page: Any) -> None:
    prompt(page).fill(INFOTEXT)
    act(page, "read").click()
    expect(prompt(page)).to_have_value("a lighthouse")
    expect(field(page, "request.steps")).to_have_value("33")


WEIGHED = [
    # text, selection, how often up (+) or down (-), what comes of it; a bar marks the selection's ends
    ("a r|ed sun", 1, "a (red:1.1) sun"),
    ("a |red sun|", 2, "a (red sun:1.2)"),
    ("a r|ed sun", -1, "a (red:0.9) sun"),
    ("a (r|ed:1.1) sun", -1, "a red sun"),
    ("a ((r|ed)) sun", 1, "a (red:1.31) sun"),
    ("a [r|ed] sun", 1, "a (red:1.01) sun"),
    ("a (red s|un:1.5)", -1, "a (red sun:1.4)"),
    ("a (red :1|.5)", 1, "a (red :1.6)"),
    ("a <lora:in|k:0.8> lake", 1, "a <lora:ink:0.85> lake"),
    ("<lora:in|k>", -2, "<lora:ink:0.9>"),
    ("<lora:in|k:1:0.5>", 1, "<lora:ink:1.05:0.5>"),
    ("a [b|:c:0.5] sun", 1, "a [(b:1.1):c:0.5] sun"),
    ("a (b|:0.1)", -2, "a (b:0)"),
    ("a | b", 1, None),
    ("|", 1, None),
    ("| spaces |", 1, " (spaces:1.1) "),
    (r"a \(re|d", 1, r"a \((red:1.1)"),
    ("(a:1.2), b|", 1, "(a:1.2), (b:1.1)"),
]


@pytest.mark.parametrize(("marked", "steps", "expected"), WEIGHED)
def test_weights_are_moved_as_people_expect(weigh: Any, marked: str, steps: int, expected: str | None) -> None:
    assert weigh(marked, steps) == expected


@pytest.fixture(scope="module")
def weigh(chromium: Any, served: str) -> Iterator[Any]:
    """What the page's script makes of a marked text."""
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{served}/static/icon.svg")
        page.goto(served)

        def run(marked: str, steps: int) -> str | None:
            start, end = marked.index("|"), marked.rindex("|")
            text = marked.replace("|", "")
            return page.evaluate(
                """async ([text, start, end, steps]) => {
                  const { reweigh } = await import("/static/weights.js");
                  let made = { text, start, end };
                  for (let at = 0; at < Math.abs(steps) && made; at += 1) {
                    made = reweigh(made.text, made.start, made.end, Math.sign(steps));
                  }
                  return made && made.text;
                }""",
                [text, start, max(start, end - 1), steps],
            )

        yield run


def test_control_and_arrows_weigh_the_word_and_undo_knows_it(page: Any) -> None:
    box = prompt(page)
    box.fill("a red sun")
    box.evaluate("(box) => box.setSelectionRange(3, 3)")
    for _ in range(3):
        box.press("Control+ArrowUp")
    expect(box).to_have_value("a (red:1.3) sun")
    box.press("Control+z")
    expect(box).to_have_value("a (red:1.2) sun")


def test_tokens_are_counted(page: Any) -> None:
    prompt(page).fill(", ".join(["wide"] * 50))
    expect(page.locator("output.tokens").first).to_have_text(re.compile(r"(99|100)/150|–/75"))


def test_cards_put_networks_into_the_prompt_and_take_them_out(page: Any) -> None:
    act(page, "cards").click()
    card = page.locator("#panel-txt2img [data-cards=loras] .card")
    card.click()
    expect(prompt(page)).to_have_value("<lora:ink:1>")
    card.click()
    expect(prompt(page)).to_have_value("")


def test_styles_are_saved_chosen_and_applied(page: Any, slow_desk: SlowDesk) -> None:
    prompt(page).fill("ink wash of {prompt}")
    act(page, "styles-edit").click()
    page.locator("#txt2img-style-name").fill("ink")
    act(page, "styles-save").click()
    expect(page.locator("dialog[open]")).to_have_count(0)
    prompt(page).fill("a lake")
    page.locator("#panel-txt2img .many summary").click()
    page.get_by_role("checkbox", name="ink").first.check()
    act(page, "generate").click()
    expect(part(page, "infotext")).to_contain_text("a lake")
    assert slow_desk.jobs(limit=1)[0].body["request"]["styles"] == ["ink"]
    act(page, "styles-apply").click()
    expect(prompt(page)).to_have_value("ink wash of a lake")


def test_a_plot_is_asked_for_by_its_axes(page: Any, slow_desk: SlowDesk) -> None:
    prompt(page).fill("a lake")
    field(page, "script.name").select_option("x/y/z plot")
    field(page, "script.x.axis").select_option("Steps")
    field(page, "script.x.values").fill("10,20")
    act(page, "generate").click()
    expect(part(page, "infotext")).to_contain_text("a lake")
    assert slow_desk.jobs(limit=1)[0].body["script"] == {"name": "x/y/z plot", "x": "Steps=10,20"}


def test_seeds_are_drawn_and_used_again(page: Any) -> None:
    act(page, "generate").click()
    expect(part(page, "infotext")).to_contain_text("Seed: 1234")
    act(page, "seed-reuse").click()
    expect(field(page, "request.seed")).to_have_value("1234")
    act(page, "seed-random").click()
    expect(field(page, "request.seed")).to_have_value("-1")


def test_the_lightbox_walks_by_arrow_keys(page: Any) -> None:
    field(page, "request.batch_count").fill("2")
    act(page, "generate").click()
    page.locator("#panel-txt2img hayate-gallery .main").click()
    box = page.locator("dialog.lightbox")
    expect(box).to_contain_text("1 / 2 · 512 × 512")
    page.keyboard.press("ArrowRight")
    expect(box).to_contain_text("2 / 2")
    page.keyboard.press("ArrowRight")
    expect(box).to_contain_text("1 / 2")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    expect(box).to_have_count(0)
    expect(part(page, "infotext")).to_contain_text("Seed: 1235")


def test_the_arrow_over_an_empty_prompt_reads_the_newest_picture(page: Any, slow_desk: SlowDesk) -> None:
    prompt(page).fill("made before")
    act(page, "generate").click()
    expect(part(page, "infotext")).to_contain_text("made before")
    page.evaluate("sessionStorage.clear()")
    act(page, "clear").click()
    page.reload()
    ready(page)
    act(page, "read").click()
    expect(prompt(page)).to_have_value("made before")
    assert slow_desk.jobs()
