// <block-weights>: a slider for each block of the U-Net, over the text control that `data-for` names.

import { call, say, toast } from "./api.js";
import { make } from "./dom.js";

const STORE = "hayate.presets";
let ways = null;

/** The ways to merge, blocks and presets; asked for once. */
export const mergeWays = () => (ways ??= call("/ui/merge/ways"));

class BlockWeights extends HTMLElement {
  async connectedCallback() {
    if (this.text) return;
    this.text = this.closest("fieldset").querySelector(`[data-key="${this.dataset.for}"]`);
    this.ways = await mergeWays();
    this.preset = make("select", { onchange: () => this.choose() });
    this.kind = make("select", { onchange: () => this.build(this.resized()) }, new Option(say("blocks.sd"), "sd_blocks"), new Option(say("blocks.xl"), "xl_blocks"));
    this.all = make("input", { type: "number", step: "any", min: -10, max: 10, placeholder: "0.5", onchange: () => this.setAll() });
    this.name = make("input", { type: "text", maxLength: 40, placeholder: say("blocks.name"), "aria-label": say("blocks.name") });
    this.forget = make("button", { type: "button", onclick: () => this.drop() }, say("blocks.delete"));
    this.grid = make("div", { className: "block-grid" });
    this.tools = make(
      "div",
      { className: "block-tools" },
      labelled(say("blocks.preset"), this.preset),
      labelled(say("blocks.kind"), this.kind),
      labelled(say("blocks.all"), this.all),
      make("div", { className: "row" }, this.name, make("button", { type: "button", onclick: () => this.keep() }, say("blocks.save"))),
      this.forget,
    );
    this.append(this.grid);
    this.text.addEventListener("input", () => this.isOwn || this.read());
    this.listPresets();
    this.build(this.blocks().map(() => 0.5));
    this.read();
  }

  blocks() {
    return this.ways[this.kind.value];
  }

  values() {
    return this.rows.map((row) => row.number.valueAsNumber || 0);
  }

  /** Sliders for the chosen kind, in the columns of the U-Net: down, middle, up. */
  build(values) {
    this.rows = this.blocks().map((block, place) => blockRow(block, values[place] ?? 0, () => this.changed()));
    const of = (begin) => this.rows.filter(({ block }) => block.startsWith(begin)).map(({ element }) => element);
    const columns = [of("IN"), [...of("BASE"), ...of("M00"), this.tools], of("OUT")];
    this.grid.replaceChildren(...columns.map((rows) => make("div", {}, ...rows)));
    this.write(values);
  }

  /** The values of the blocks that both kinds have, for the other kind. */
  resized() {
    const kept = new Map(this.rows.map(({ block, number }) => [block, number.valueAsNumber || 0]));
    return this.blocks().map((block) => kept.get(block) ?? 0);
  }

  /** Shows what the text says, if it is numbers or a preset; named blocks are left to the text. */
  read() {
    const text = this.text.value.trim();
    const preset = this.known()[text] ?? this.known()[text.toUpperCase()];
    const numbers = preset ? this.fitted(preset) : text.split(",").map((each) => (each.trim() === "" ? Number.NaN : Number(each)));
    if (!preset && numbers.every(Number.isFinite) && numbers.length === this.ways.xl_blocks.length) this.kind.value = "xl_blocks";
    if (!preset && numbers.every(Number.isFinite) && numbers.length === this.ways.sd_blocks.length) this.kind.value = "sd_blocks";
    if (!numbers.every(Number.isFinite) || numbers.length !== this.blocks().length) return;
    this.preset.value = preset ? text : "";
    this.isOwn = true;
    if (this.rows.length === numbers.length) for (const [place, row] of this.rows.entries()) row.set(numbers[place]);
    else this.build(numbers);
    this.isOwn = false;
  }

  /** A preset's values for the blocks of the chosen kind. */
  fitted(values) {
    const of = values.length === this.ways.sd_blocks.length ? this.ways.sd_blocks : this.ways.xl_blocks;
    const table = new Map(of.map((block, place) => [block, values[place]]));
    return this.blocks().map((block) => table.get(block) ?? 0);
  }

  choose() {
    const name = this.preset.value;
    if (name) this.set(this.fitted(this.known()[name]), name in this.ways.presets ? name : undefined);
    this.forget.hidden = !(name in ownPresets());
  }

  setAll() {
    if (Number.isFinite(this.all.valueAsNumber)) this.set(this.blocks().map(() => this.all.valueAsNumber));
  }

  set(values, name) {
    for (const [place, row] of this.rows.entries()) row.set(values[place]);
    this.write(values, name);
  }

  changed() {
    this.preset.value = "";
    this.forget.hidden = true;
    this.write(this.values());
  }

  /** Puts the sliders' values into the text: by a built-in preset's name, where it is one. */
  write(values, name) {
    this.isOwn = true;
    this.text.value = name ?? values.map((value) => Number(value.toFixed(4))).join(",");
    this.text.dispatchEvent(new Event("input", { bubbles: true }));
    this.isOwn = false;
  }

  known() {
    return { ...this.ways.presets, ...ownPresets() };
  }

  listPresets(chosen = "") {
    const group = (label, names) => make("optgroup", { label }, ...names.map((name) => new Option(name, name)));
    const own = Object.keys(ownPresets());
    this.preset.replaceChildren(new Option(say("blocks.own"), ""), group(say("blocks.built in"), Object.keys(this.ways.presets)), ...(own.length ? [group(say("blocks.yours"), own)] : []));
    this.preset.value = chosen;
    this.forget.hidden = !own.includes(chosen);
  }

  keep() {
    const name = this.name.value.trim();
    if (!name) return toast(say("blocks.unnamed"), "", "error");
    localStorage.setItem(STORE, JSON.stringify({ ...ownPresets(), [name]: this.values() }));
    this.name.value = "";
    this.listPresets(name);
    return toast(say("blocks.saved", { name }));
  }

  drop() {
    const { [this.preset.value]: dropped, ...rest } = ownPresets();
    localStorage.setItem(STORE, JSON.stringify(rest));
    this.listPresets();
  }
}

function blockRow(block, value, changed) {
  const range = make("input", { type: "range", min: 0, max: 1, step: 0.01, tabIndex: -1, "aria-hidden": "true" });
  const number = make("input", { type: "number", min: -10, max: 10, step: "any", "aria-label": block });
  const set = (to) => {
    number.value = Number(to.toFixed(4));
    range.value = to;
  };
  range.addEventListener("input", (event) => {
    event.stopPropagation();
    number.value = range.value;
    changed();
  });
  number.addEventListener("input", (event) => {
    event.stopPropagation();
    range.value = number.value;
    changed();
  });
  set(value);
  return { block, number, set, element: make("div", { className: "block-row" }, make("span", { "aria-hidden": "true" }, block), range, number) };
}

const labelled = (text, field) => make("label", { className: "block-tool" }, make("span", {}, text), field);

function ownPresets() {
  try {
    return JSON.parse(localStorage.getItem(STORE) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

customElements.define("block-weights", BlockWeights);
