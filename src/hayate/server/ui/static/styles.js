// Styles of styles.csv: chosen in a menu, put into the prompt, saved from it, deleted.

import { call, say, shown, toast } from "./api.js";
import { control, refreshLists, setValue, valueOf } from "./form.js";

/** The styles of a form, with the dialog that edits them. */
export class Styles {
  constructor(form) {
    this.form = form;
    this.menu = control(form, "request.styles");
    this.dialog = form.querySelector("dialog.styles");
    this.name = this.dialog.querySelector("input");
    this.list = this.dialog.querySelector("datalist");
    this.menu.addEventListener(
      "input",
      () => (this.menu.querySelector("output").textContent = this.chosen.length || ""),
    );
    const acts = {
      "styles-apply": () => this.#apply(),
      "styles-edit": () => this.#open(),
      "styles-save": () => this.#save(),
      "styles-delete": () => this.#delete(),
      "styles-close": () => this.dialog.close(),
    };
    for (const [act, run] of Object.entries(acts))
      form.querySelector(`[data-act=${act}]`).addEventListener("click", run);
    this.dialog.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Enter" && event.target === this.name) {
        event.preventDefault();
        this.#save();
      }
    });
  }

  get chosen() {
    return valueOf(this.menu);
  }

  async #apply() {
    if (!this.chosen.length) return;
    const texts = this.#texts();
    const made = await shown(() =>
      call("/ui/styles/apply", { method: "POST", body: { ...texts, styles: this.chosen } }),
    );
    if (!made) return;
    for (const name of ["prompt", "negative_prompt"]) setValue(control(this.form, `request.${name}`), made[name]);
    setValue(this.menu, []);
  }

  async #open() {
    const answer = await shown(() => call("/ui/choices?source=styles"));
    this.list.replaceChildren(...(answer?.styles ?? []).map(({ value }) => new Option(value)));
    this.name.value = this.chosen[0] ?? "";
    this.dialog.showModal();
  }

  async #save() {
    const name = this.name.value.trim();
    if (!name) return this.name.focus();
    const saved = await shown(() => call("/ui/styles", { method: "POST", body: { name, ...this.#texts() } }));
    return saved && this.#done(say("style saved", { name }));
  }

  async #delete() {
    const name = this.name.value.trim();
    if (!name) return this.name.focus();
    const gone = await shown(() => call("/ui/styles/delete", { method: "POST", body: { name } }));
    return gone && this.#done(say("style deleted", { name }));
  }

  #done(message) {
    this.dialog.close();
    toast(message);
    refreshLists();
  }

  #texts() {
    const text = (name) => control(this.form, `request.${name}`).value;
    return { prompt: text("prompt"), negative_prompt: text("negative_prompt") };
  }
}
