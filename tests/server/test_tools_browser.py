"""The tabs for models and this machine in a browser: merged, converted, tuned and measured by buttons and keys."""

from __future__ import annotations

from typing import Any

from hayate.jobs.records import State
from tests.server.tool_desk import ToolDesk
from tests.server.tool_pages import expect, needs_chromium, opened

pytestmark = needs_chromium


def test_a_merge_is_described_used_without_a_file_and_written(tool_page: Any, tool_desk: ToolDesk) -> None:
    panel = opened(tool_page, "merger")
    panel.get_by_label("Primary model (A)").select_option("anime.safetensors")
    expect(panel.locator("[data-part=problem]")).to_contain_text("model B is not chosen")
    panel.get_by_label("Secondary model (B)").select_option("sub/base.safetensors")
    recipe = panel.locator("[data-part=recipe]")
    expect(recipe).to_have_text("merge(anime.safetensors, sub/base.safetensors, 0.3)")
    panel.get_by_role("button", name="Use without a file").click()
    expect(tool_page.get_by_label("Stable Diffusion checkpoint").first).to_have_value(recipe.text_content() or "")
    panel.get_by_role("button", name="Merge", exact=True).click()
    expect(tool_page.get_by_role("alert")).to_contain_text("no name")
    panel.get_by_label("Custom name").fill("mixed")
    panel.get_by_role("button", name="Merge", exact=True).click()
    expect(tool_page.get_by_text("mixed.safetensors is written")).to_be_visible()
    expect(panel.get_by_text("B has no VAE")).to_be_visible()
    kind, body = tool_desk.bodies[-1]
    assert kind == "merge"
    assert body == {"recipe": recipe.text_content(), "output_name": "mixed", "dtype": "fp16"}


def test_block_weights_are_sliders_presets_and_a_text(tool_page: Any) -> None:
    panel = opened(tool_page, "merger")
    panel.get_by_label("Primary model (A)").select_option("anime.safetensors")
    panel.get_by_label("Secondary model (B)").select_option("photo.safetensors")
    panel.get_by_role("switch", name="Block weights", exact=True).check()
    blocks = panel.locator("block-weights").first
    text = panel.locator('[data-key="merge.blocks_alpha"]')
    blocks.get_by_label("Preset").select_option("GRAD_V")
    expect(text).to_have_value("GRAD_V")
    expect(blocks.get_by_label("IN00")).to_have_value("1")
    blocks.get_by_label("M00").fill("0.25")
    assert text.input_value().split(",")[13] == "0.25"
    blocks.get_by_label("Name").fill("mine")
    blocks.get_by_role("button", name="Save").click()
    expect(blocks.get_by_label("Preset")).to_have_value("mine")
    blocks.get_by_label("Blocks").select_option("xl_blocks")
    assert len(text.input_value().split(",")) == 20
    text.fill(",".join(["0.5"] * 26))
    expect(blocks.get_by_label("OUT11")).to_have_value("0.5")
    expect(panel.locator("[data-part=recipe]")).to_contain_text('mbw="0.5,0.5')
    tool_page.reload()
    expect(panel.locator("block-weights").first.get_by_label("OUT11")).to_have_value("0.5")


def test_a_method_shows_what_it_takes_and_failures_say_why(tool_page: Any) -> None:
    panel = opened(tool_page, "merger")
    method = panel.get_by_label("Interpolation method")
    expect(panel.get_by_label("Tertiary model (C)")).to_be_hidden()
    method.select_option("add_difference")
    expect(panel.get_by_label("Tertiary model (C)")).to_be_visible()
    panel.get_by_label("Calculation mode").select_option("extract")
    expect(panel.get_by_label("gamma")).to_be_visible()
    method.select_option("none")
    expect(panel.get_by_label("Multiplier (M, alpha)")).to_be_hidden()
    panel.get_by_label("Primary model (A)").select_option("anime.safetensors")
    panel.get_by_label("Custom name").fill("fails")
    panel.get_by_role("button", name="Merge", exact=True).click()
    expect(tool_page.get_by_role("alert")).to_contain_text("two families")
    expect(tool_page.get_by_role("alert")).to_contain_text("choose others")
    panel.get_by_role("button", name="Recipe of a file").click()
    expect(panel.get_by_text("merge(x, y, 0.5)")).to_be_visible()


def test_tuning_is_watched_adopted_and_forgotten(tool_page: Any, tool_desk: ToolDesk) -> None:
    panel = opened(tool_page, "tune")
    tool_desk.holds.clear()
    panel.get_by_role("button", name="Start tuning").click()
    expect(panel.locator("tbody tr")).to_have_count(1)
    tool_page.reload()
    expect(panel.get_by_role("button", name="Start tuning")).to_be_disabled()
    tool_desk.holds.set()
    expect(panel.locator("tbody tr")).to_have_count(5)
    expect(panel.get_by_text("Winner: layers packed, 1.45×")).to_be_visible()
    expect(panel.locator(".trade .dot")).to_have_count(4)
    profiles = panel.locator(".profiles li")
    expect(profiles).to_contain_text("layers packed")
    adopt = panel.get_by_role("button", name="Adopt")
    expect(adopt).to_have_count(2)
    adopt.last.click()
    expect(profiles).to_contain_text("attention math")
    panel.get_by_role("button", name="Forget").click()
    expect(panel.get_by_text("Nothing has been tuned here yet.")).to_be_visible()


def test_tuning_can_be_stopped(tool_page: Any, tool_desk: ToolDesk) -> None:
    panel = opened(tool_page, "tune")
    tool_desk.holds.clear()
    panel.get_by_role("button", name="Start tuning").click()
    panel.get_by_role("button", name="Stop").click()
    expect(panel.get_by_role("button", name="Start tuning")).to_be_enabled()
    tool_desk.holds.set()
    assert tool_desk.jobs(kinds=("tune",), limit=1)[0].state is State.CANCELLED


def test_a_measurement_comes_into_the_history_and_the_report(tool_page: Any) -> None:
    panel = opened(tool_page, "bench")
    panel.get_by_label("Label").fill("mine")
    panel.get_by_role("button", name="Measure").click()
    expect(tool_page.get_by_text("Measured: 52.60 it/s")).to_be_visible()
    row = panel.locator("tbody tr").first
    expect(row).to_contain_text("mine")
    row.get_by_role("checkbox").check()
    with tool_page.context.expect_page() as popup:
        panel.get_by_role("link", name="Report page").click()
    popup.value.wait_for_load_state()
    expect(popup.value.get_by_role("heading", level=1)).to_be_visible()
    assert "number=" in popup.value.url


def test_a_model_is_converted_and_looked_into(tool_page: Any, tool_desk: ToolDesk) -> None:
    panel = opened(tool_page, "models")
    expect(panel.get_by_role("row", name="anime.safetensors")).to_be_visible()
    panel.get_by_role("button", name="Convert").click()
    expect(tool_page.get_by_role("alert")).to_contain_text("No model is chosen")
    panel.get_by_label("Model", exact=True).select_option("sub/base.safetensors")
    panel.get_by_label("EMA weights").select_option("only")
    panel.get_by_role("button", name="Convert").click()
    expect(tool_page.get_by_text("base-fp16.safetensors is written")).to_be_visible()
    assert tool_desk.bodies[-1] == (
        "convert",
        {"model": "sub/base.safetensors", "output_name": "base-fp16", "dtype": "fp16", "ema": "only"},
    )
    panel.get_by_role("button", name="Scan: old.ckpt").click()
    expect(panel.get_by_text("It would run code")).to_be_visible()
    expect(panel.get_by_text("system")).to_be_visible()


def test_duplicates_are_listed_with_what_they_cost(tool_page: Any, tool_desk: ToolDesk) -> None:
    panel = opened(tool_page, "models")
    panel.get_by_role("button", name="Look for duplicates").click()
    found = panel.locator("[data-part=duplicates]")
    expect(found).to_contain_text("3 files; 2.00 GiB would be won by keeping one of each.")
    expect(found.get_by_role("row", name="everything")).to_contain_text("b.safetensors")
    expect(found.get_by_role("row", name="VAE")).to_contain_text("c.safetensors")
    assert tool_desk.bodies[-1] == ("duplicates", {})
