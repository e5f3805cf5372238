// <picture-drop>: pictures by dropping, pasting, or choosing files; `multiple` takes many, `folder` whole folders.

import { say } from "./api.js";
import { make } from "./dom.js";

const TYPES = ["image/png", "image/jpeg", "image/webp"];

class PictureDrop extends HTMLElement {
  files = [];

  connectedCallback() {
    if (this.zone) return;
    const { title, text, files, folder, clear } = this.dataset;
    this.input = make("input", { type: "file", accept: TYPES.join(","), multiple: this.hasAttribute("multiple"), hidden: true, onchange: () => this.take(this.input.files) });
    this.many = folder && make("input", { type: "file", webkitdirectory: true, hidden: true, onchange: () => this.take(this.many.files) });
    this.list = make("ul", { className: "drop-list" });
    this.count = make("span", { className: "quiet", role: "status" });
    this.clear = clear && make("button", { type: "button", onclick: () => this.empty() }, clear);
    this.zone = make(
      "div",
      { className: "drop-zone", role: "group", "aria-label": title },
      make("p", { className: "quiet" }, text),
      make("div", { className: "row" }, button(files, this.input), this.many && button(folder, this.many), this.clear, this.count),
      this.list,
    );
    this.append(this.zone, this.input, ...(this.many ? [this.many] : []));
    this.zone.addEventListener("dragover", (event) => this.over(event, true));
    this.zone.addEventListener("dragleave", (event) => this.over(event, false));
    this.zone.addEventListener("drop", (event) => this.drop(event));
    document.addEventListener("paste", (event) => this.paste(event));
    this.render();
  }

  /** Adds files that are pictures, in the order of their names; without `multiple` the first takes the place of the old one. */
  take(files) {
    const found = [...files].filter((file) => TYPES.includes(file.type)).sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
    if (!found.length) return;
    this.files = this.hasAttribute("multiple") ? [...this.files, ...found] : found.slice(0, 1);
    for (const input of [this.input, this.many]) if (input) input.value = "";
    this.render();
  }

  empty() {
    this.files = [];
    this.render();
  }

  over(event, isOver) {
    event.preventDefault();
    this.zone.classList.toggle("over", isOver);
  }

  drop(event) {
    this.over(event, false);
    this.take(event.dataTransfer.files);
  }

  paste(event) {
    if (this.closest("[hidden]") || !event.clipboardData?.files.length) return;
    event.preventDefault();
    this.take(event.clipboardData.files);
  }

  render() {
    for (const image of this.list.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    const isMany = this.hasAttribute("multiple");
    this.list.replaceChildren(...this.files.slice(0, 60).map((file) => this.row(file, isMany)));
    this.zone.classList.toggle("filled", this.files.length > 0);
    this.count.textContent = isMany && this.files.length ? say("extras.count", { count: this.files.length }) : "";
    if (this.clear) this.clear.hidden = !this.files.length;
    this.dispatchEvent(new CustomEvent("pictures", { detail: this.files }));
  }

  row(file, isMany) {
    const image = make("img", { src: URL.createObjectURL(file), alt: file.name, loading: "lazy" });
    if (!isMany) return make("li", {}, image);
    const remove = make("button", { type: "button", className: "icon", "aria-label": say("extras.remove", { name: file.name }), onclick: () => this.remove(file) }, "×");
    return make("li", { title: file.name }, image, remove);
  }

  remove(file) {
    this.files = this.files.filter((each) => each !== file);
    this.render();
    this.zone.querySelector("button").focus();
  }
}

function button(text, input) {
  return make("button", { type: "button", onclick: () => input.click() }, text);
}

customElements.define("picture-drop", PictureDrop);
