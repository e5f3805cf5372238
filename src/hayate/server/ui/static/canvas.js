// <hayate-canvas>: a picture to start from, with a brush for a mask and one for colours. Works with a mouse, a pen, a
// finger, and with the keyboard alone.

import { say, toast } from "./api.js";
import { debounce } from "./form.js";
import { Strokes } from "./strokes.js";

const MOST_ZOOM = 16;
const KEY_STEP = 8;
const TYPES = ["image/png", "image/jpeg", "image/webp"];
const BUTTONS = ["open", "brush", "eraser", "undo", "redo", "clear", "zoom", "fit", "bin"];

/** Fires `picture` when another picture is there, or none. */
export class PaintCanvas extends HTMLElement {
  #view = { scale: 1, x: 0, y: 0 };
  #pointers = new Map();
  #cursor = null;
  #isPenDown = false;

  connectedCallback() {
    if (this.canvas) return;
    this.#build();
    this.#listen();
    this.tool("brush");
    new ResizeObserver(() => this.fit()).observe(this.canvas);
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
    Object.assign(this, { image, source: file });
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
    Object.assign(this, { image: null, source: null, strokes: null });
    this.#changed();
  }

  /** The picture as it is to be sent, and its mask; null where there is none. */
  async content() {
    if (!this.image) return null;
    const painted = await this.strokes.painted(this.image);
    return { picture: painted ?? (await this.#asSent()), mask: await this.strokes.mask() };
  }

  async #asSent() {
    if (TYPES.includes(this.source.type)) return this.source;
    const canvas = Object.assign(document.createElement("canvas"), { width: this.image.width, height: this.image.height });
    canvas.getContext("2d").drawImage(this.image, 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  /** Chooses the brush or the eraser. */
  tool(name) {
    this.chosen = name;
    for (const each of ["brush", "eraser"]) this.button(each).setAttribute("aria-pressed", String(each === name));
  }

  button(name) {
    return this.querySelector(`[data-tool=${name}]`);
  }

  get #stroke() {
    return { layer: this.layer.value, isEraser: this.chosen === "eraser", size: this.size.valueAsNumber, colour: this.colour.value };
  }

  #changed() {
    this.classList.toggle("filled", Boolean(this.image));
    this.fit();
    this.dispatchEvent(new CustomEvent("picture", { bubbles: true }));
  }

  #build() {
    const tools = document.createElement("div");
    tools.className = "tools";
    tools.role = "toolbar";
    tools.ariaLabel = say("canvas.tools");
    for (const name of BUTTONS) tools.append(this.#button(name));
    this.layer = picker(say("canvas.layer"), [["mask", say("canvas.mask")], ["colour", say("canvas.colour")]]);
    this.colour = Object.assign(document.createElement("input"), { type: "color", value: "#d0402a", title: say("canvas.pick"), ariaLabel: say("canvas.pick") });
    this.size = Object.assign(document.createElement("input"), { type: "range", min: 1, max: 256, value: 40, title: say("canvas.size"), ariaLabel: say("canvas.size") });
    this.maskFile = fileInput((file) => this.loadMask(file));
    const upload = document.createElement("button");
    Object.assign(upload, { type: "button", textContent: say("canvas.upload mask"), onclick: () => this.maskFile.click() });
    tools.append(this.layer, this.colour, this.size, upload, this.maskFile);
    this.canvas = document.createElement("canvas");
    Object.assign(this.canvas, { tabIndex: 0, role: "application", ariaLabel: say("canvas.label") });
    this.hint = document.createElement("p");
    this.hint.className = "hint quiet";
    this.hint.textContent = say("canvas.drop");
    this.said = document.createElement("p");
    Object.assign(this.said, { className: "unseen", role: "status" });
    this.file = fileInput((file) => this.load(file));
    const frame = document.createElement("div");
    frame.className = "frame";
    frame.append(this.canvas, this.hint);
    this.append(tools, frame, this.said, this.file);
  }

  #button(name) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "icon", title: say(`canvas.${name}`), ariaLabel: say(`canvas.${name}`) });
    button.dataset.tool = name;
    const icon = { clear: "close" }[name] ?? name;
    button.innerHTML = `<svg class="i" aria-hidden="true"><use href="#i-${icon}"></use></svg>`;
    button.addEventListener("click", () => this.#act(name));
    return button;
  }

  #act(name) {
    if (name === "open") this.file.click();
    else if (name === "brush" || name === "eraser") this.tool(name);
    else if (name === "fit") this.fit();
    else if (name === "bin") this.remove();
    else if (!this.image) return;
    else if (name === "zoom") this.zoom(1.5);
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
      const file = [...event.dataTransfer.files].find((each) => each.type.startsWith("image/"));
      event.preventDefault();
      if (file) this.load(file);
    });
    this.hint.addEventListener("click", () => this.file.click());
  }

  /** A place of the screen in the picture's pixels. */
  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left - this.#view.x) / this.#view.scale, (event.clientY - box.top - this.#view.y) / this.#view.scale];
  }

  #onDown(event) {
    if (!this.image) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, event);
    const isPan = event.button === 1 || event.altKey || this.#pointers.size > 1;
    if (isPan) this.strokes.end();
    else this.strokes.begin(this.#stroke, this.#place(event));
    this.#isPenDown = !isPan;
    this.draw();
  }

  #onMove(event) {
    if (!this.image) return;
    const before = this.#pointers.get(event.pointerId);
    this.#cursor = this.#place(event);
    if (before && this.#isPenDown) {
      for (const each of event.getCoalescedEvents?.() ?? [event]) this.strokes.extend(this.#place(each));
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
      this.zoom(spread(event) / spread(before), event);
    }
    this.#view.x += event.clientX - before.clientX;
    this.#view.y += event.clientY - before.clientY;
  }

  #onWheel(event) {
    if (!this.image || !(event.ctrlKey || event.shiftKey)) return; // the page scrolls otherwise, as in A1111
    event.preventDefault();
    this.zoom(event.deltaY < 0 || event.deltaX < 0 ? 1.2 : 1 / 1.2, event);
  }

  #onKey(event) {
    if (!this.image) return;
    const isControl = event.ctrlKey || event.metaKey;
    const acts = {
      "[": () => (this.size.valueAsNumber -= 5), "]": () => (this.size.valueAsNumber += 5),
      b: () => this.tool("brush"), e: () => this.tool("eraser"), "+": () => this.zoom(1.25), "-": () => this.zoom(0.8), 0: () => this.fit(),
      ArrowLeft: () => this.#step(-1, 0, event), ArrowRight: () => this.#step(1, 0, event),
      ArrowUp: () => this.#step(0, -1, event), ArrowDown: () => this.#step(0, 1, event), " ": () => this.#dab(),
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
    this.#cursor = [Math.min(Math.max(x + dx * step, 0), this.image.width), Math.min(Math.max(y + dy * step, 0), this.image.height)];
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
    const [x, y] = this.#cursor.map(Math.round);
    this.said.textContent = say(this.#isPenDown ? "canvas.pen down" : "canvas.pen up", { x, y });
  }, 300);

  /** Enlarges around a place, or the middle. */
  zoom(factor, event = null) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = event ? [event.clientX - box.left, event.clientY - box.top] : [box.width / 2, box.height / 2];
    const scale = Math.min(Math.max(this.#view.scale * factor, this.#fitting / 2), MOST_ZOOM);
    const change = scale / this.#view.scale;
    this.#view = { scale, x: x - (x - this.#view.x) * change, y: y - (y - this.#view.y) * change };
    this.draw();
  }

  get #fitting() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    return Math.min(width / this.image.width, height / this.image.height, MOST_ZOOM);
  }

  /** Shows the whole picture. */
  fit() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (this.image && width) {
      const scale = this.#fitting;
      this.#view = { scale, x: (width - this.image.width * scale) / 2, y: (height - this.image.height * scale) / 2 };
    }
    this.draw();
  }

  draw() {
    this.queued ??= requestAnimationFrame(() => {
      this.queued = null;
      this.#paint();
    });
  }

  #paint() {
    const { canvas } = this;
    const ratio = devicePixelRatio;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    if (!this.image) return;
    const context = canvas.getContext("2d");
    const { scale, x, y } = this.#view;
    context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
    context.imageSmoothingEnabled = scale < 3;
    context.drawImage(this.image, 0, 0);
    context.drawImage(this.strokes.layers.colour.canvas, 0, 0);
    context.globalAlpha = 0.55;
    context.drawImage(this.strokes.layers.mask.canvas, 0, 0);
    context.globalAlpha = 1;
    if (this.#cursor) this.#ring(context, scale);
  }

  #ring(context, scale) {
    for (const [width, colour] of [[3, "#000"], [1.2, "#fff"]]) {
      context.beginPath();
      context.arc(...this.#cursor, this.size.valueAsNumber / 2, 0, 2 * Math.PI);
      Object.assign(context, { lineWidth: width / scale, strokeStyle: colour });
      context.stroke();
    }
  }
}

function picker(label, rows) {
  const select = document.createElement("select");
  Object.assign(select, { ariaLabel: label, title: label });
  for (const [value, text] of rows) select.add(new Option(text, value));
  return select;
}

function fileInput(take) {
  const input = Object.assign(document.createElement("input"), { type: "file", accept: "image/*", hidden: true });
  input.addEventListener("change", () => {
    if (input.files[0]) take(input.files[0]);
    input.value = "";
  });
  return input;
}

customElements.define("hayate-canvas", PaintCanvas);
