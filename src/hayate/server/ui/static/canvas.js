// <hayate-canvas>: a picture to start from, with a brush for a mask and one for colours. Works with a mouse, a pen, a
// finger, and with the keyboard alone.

import { say, toast } from "./api.js";
import { debounce } from "./form.js";
import { Strokes } from "./strokes.js";
import { View } from "./view.js";

const KEY_STEP = 8;
const TYPES = ["image/png", "image/jpeg", "image/webp"];
const ACTS = ["open", "brush", "eraser", "undo", "redo", "clear", "zoom", "fit", "remove", "mask"];

/** Fires `picture` when another picture is there, or none. */
export class PaintCanvas extends HTMLElement {
  #pointers = new Map();
  #cursor = null;
  #isPenDown = false;

  connectedCallback() {
    if (this.canvas) return;
    const named = (name) => this.querySelector(`[name=${name}]`);
    this.canvas = this.querySelector("canvas");
    this.view = new View(this.canvas);
    Object.assign(this, { layer: named("layer"), colour: named("colour"), size: named("size") });
    this.said = this.querySelector("[role=status]");
    this.files = { picture: this.querySelector("input[name=picture]"), mask: this.querySelector("input[name=mask]") };
    this.#listen();
    this.tool("brush");
    new ResizeObserver(() => this.#refit()).observe(this.canvas);
  }

  /** Loads the first of several pictures; the others are kept, to be worked on in the same way. */
  async loadAll(files) {
    const pictures = [...files].filter((each) => each.type.startsWith("image/"));
    if (!pictures.length) return;
    await this.load(pictures[0]);
    this.others = pictures.slice(1);
    const note = this.querySelector("[data-part=many]");
    note.hidden = !this.others.length;
    note.textContent = say("canvas.many", { count: pictures.length });
  }

  /** Loads a picture from a file; `source` keeps its bytes, so that they are sent as they are. */
  async load(file) {
    let image;
    try {
      image = await createImageBitmap(file);
    } catch {
      toast(say("no picture"), "", "error");
      return;
    }
    const isSameSize = this.image && this.image.width === image.width && this.image.height === image.height;
    Object.assign(this, { image, source: file, others: [] });
    this.querySelector("[data-part=many]").hidden = true;
    if (!isSameSize) this.strokes = new Strokes(image.width, image.height);
    this.#changed();
  }

  /** Adds a mask from a file. */
  async loadMask(file) {
    if (!this.image) return;
    try {
      this.strokes.addMask(await createImageBitmap(file));
    } catch {
      toast(say("no picture"), "", "error");
    }
    this.draw();
  }

  /** Forgets the picture and what was painted. */
  remove() {
    Object.assign(this, { image: null, source: null, strokes: null, others: [] });
    this.querySelector("[data-part=many]").hidden = true;
    this.#changed();
  }

  /** The picture as it is to be sent, its mask, and the other pictures; null where there is none. */
  async content() {
    if (!this.image) return null;
    const painted = await this.strokes.painted(this.image);
    const picture = painted ?? (await asSent(this.source));
    return { picture, mask: await this.strokes.mask(), others: await Promise.all(this.others.map(asSent)) };
  }

  /** Chooses the brush or the eraser. */
  tool(name) {
    this.chosen = name;
    for (const each of ["brush", "eraser"]) this.button(each).setAttribute("aria-pressed", String(each === name));
  }

  button(name) {
    return this.querySelector(`[data-act=canvas-${name}]`);
  }

  get #stroke() {
    return {
      layer: this.layer.value,
      isEraser: this.chosen === "eraser",
      size: this.size.valueAsNumber,
      colour: this.colour.value,
    };
  }

  #changed() {
    this.classList.toggle("filled", Boolean(this.image));
    this.view.image = this.image;
    this.#refit();
    this.dispatchEvent(new CustomEvent("picture", { bubbles: true }));
  }

  #refit() {
    this.view.fit();
    this.draw();
  }

  #act(name) {
    if (name === "open") this.files.picture.click();
    else if (name === "brush" || name === "eraser") this.tool(name);
    else if (!this.image) return;
    else if (name === "mask") this.files.mask.click();
    else if (name === "remove") this.remove();
    else if (name === "fit") this.view.fit();
    else if (name === "zoom") this.view.zoom(1.5);
    else this.strokes[name]();
    this.draw();
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.#onDown(event));
    canvas.addEventListener("pointermove", (event) => this.#onMove(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this.#onUp(event));
    canvas.addEventListener("pointerleave", () => {
      this.#cursor = null;
      this.draw();
    });
    canvas.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#onKey(event));
    canvas.addEventListener("blur", () => this.#lift());
    this.addEventListener("dragover", (event) => event.preventDefault());
    this.addEventListener("drop", (event) => {
      event.preventDefault();
      this.loadAll(event.dataTransfer.files);
    });
    this.querySelector(".invite").addEventListener("click", () => this.files.picture.click());
    for (const name of ACTS) this.button(name).addEventListener("click", () => this.#act(name));
    this.#take(this.files.picture, (files) => this.loadAll(files));
    this.#take(this.files.mask, ([file]) => this.loadMask(file));
  }

  #take(input, use) {
    input.addEventListener("change", () => {
      if (input.files.length) use([...input.files]);
      input.value = ""; // so that the same file may be chosen again
    });
  }

  #onDown(event) {
    if (!this.image) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, event);
    const isPan = event.button === 1 || event.altKey || this.#pointers.size > 1;
    if (isPan) this.strokes.end();
    else this.strokes.begin(this.#stroke, this.view.place(event));
    this.#isPenDown = !isPan;
    this.draw();
  }

  #onMove(event) {
    if (!this.image) return;
    const before = this.#pointers.get(event.pointerId);
    this.#cursor = this.view.place(event);
    if (before && this.#isPenDown) {
      for (const each of event.getCoalescedEvents?.() ?? [event]) this.strokes.extend(this.view.place(each));
    } else if (before) this.#pan(event, before);
    if (before) this.#pointers.set(event.pointerId, event);
    this.draw();
  }

  #onUp(event) {
    this.#pointers.delete(event.pointerId);
    if (!this.#pointers.size) this.#lift();
  }

  #lift() {
    this.#isPenDown = false;
    this.strokes?.end();
  }

  #pan(event, before) {
    const other = [...this.#pointers.entries()].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const spread = (each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY) || 1;
      this.view.zoom(spread(event) / spread(before), event);
    }
    this.view.pan(event.clientX - before.clientX, event.clientY - before.clientY);
  }

  #onWheel(event) {
    if (!this.image || !(event.ctrlKey || event.shiftKey)) return; // the page scrolls otherwise, as in A1111
    event.preventDefault();
    this.view.zoom(event.deltaY < 0 || event.deltaX < 0 ? 1.2 : 1 / 1.2, event);
    this.draw();
  }

  #onKey(event) {
    if (!this.image) return;
    const isControl = event.ctrlKey || event.metaKey;
    const acts = {
      "[": () => (this.size.valueAsNumber -= 5),
      "]": () => (this.size.valueAsNumber += 5),
      b: () => this.tool("brush"),
      e: () => this.tool("eraser"),
      "+": () => this.view.zoom(1.25),
      "-": () => this.view.zoom(0.8),
      0: () => this.view.fit(),
      ArrowLeft: () => this.#step(-1, 0, event),
      ArrowRight: () => this.#step(1, 0, event),
      ArrowUp: () => this.#step(0, -1, event),
      ArrowDown: () => this.#step(0, 1, event),
      " ": () => this.#dab(),
    };
    if (isControl && event.key.toLowerCase() === "z") event.shiftKey ? this.strokes.redo() : this.strokes.undo();
    else if (isControl && event.key.toLowerCase() === "y") this.strokes.redo();
    else if (!isControl && acts[event.key]) acts[event.key]();
    else return;
    event.preventDefault();
    this.draw();
  }

  /** Moves the keyboard's brush; with the pen down it paints on the way. */
  #step(dx, dy, { shiftKey }) {
    const step = KEY_STEP * (shiftKey ? 4 : 1);
    const [x, y] = this.#cursor ?? [this.image.width / 2, this.image.height / 2];
    this.#cursor = [
      Math.min(Math.max(x + dx * step, 0), this.image.width),
      Math.min(Math.max(y + dy * step, 0), this.image.height),
    ];
    if (this.#isPenDown) this.strokes.extend(this.#cursor);
    this.#tell();
  }

  /** Puts the keyboard's brush down, or lifts it. */
  #dab() {
    this.#cursor ??= [this.image.width / 2, this.image.height / 2];
    if (this.#isPenDown) this.#lift();
    else {
      this.#isPenDown = true;
      this.strokes.begin(this.#stroke, this.#cursor);
    }
    this.#tell();
  }

  #tell = debounce(() => {
    const [x, y] = (this.#cursor ?? [0, 0]).map(Math.round);
    this.said.textContent = say(this.#isPenDown ? "canvas.pen down" : "canvas.pen up", { x, y });
  }, 300);

  draw() {
    this.queued ??= requestAnimationFrame(() => {
      this.queued = null;
      this.view.draw(this.strokes, this.#cursor, this.size.valueAsNumber);
    });
  }
}

/** A picture's bytes as they are, or as PNG where the server does not read their kind. */
async function asSent(file) {
  if (TYPES.includes(file.type)) return file;
  const image = await createImageBitmap(file);
  const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  canvas.getContext("2d").drawImage(image, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

customElements.define("hayate-canvas", PaintCanvas);
