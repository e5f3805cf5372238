// What txt2img and img2img have in common: from the fields to a job, and from a job to its pictures.

import { call, say, shown, toast } from "../api.js";
import { bodyOf } from "../body.js";
import { Cards } from "../cards.js";
import { listen, status } from "../events.js";
import { control, fillForm, setValue, valueOf } from "../form.js";
import { Jobs } from "../jobs.js";
import { livenPrompts } from "../prompt.js";
import { Results } from "../results.js";
import { sendPicture } from "../sending.js";
import { Styles } from "../styles.js";

const USUAL_STEPS = 20;

/** A tab that makes pictures. `starts()` gives what each job starts from; `isOwn(record)` says whether a job that was
 * found running is this tab's. */
export class PictureTab {
  constructor(root, page, { starts = async () => [undefined], isOwn }) {
    Object.assign(this, { root, page, starts, isOwn, form: root.querySelector("form") });
    this.results = new Results(root.querySelector(".results"), {
      onSend: (where, picture) => sendPicture(page, where, picture),
    });
    this.styles = new Styles(this.form);
    this.cards = new Cards(root.querySelector(".cards"), this);
    this.jobs = new Jobs(this.form.dataset.tab, {
      changed: () => this.#showState(),
      progress: (id, progress) => id === this.jobs.running && this.results.progress(progress),
      preview: (id, url) => id === this.jobs.running && this.results.preview(url),
      ended: (record) => this.#onEnded(record),
    });
    this.#liven();
    this.#showState();
    listen(({ kind }) => kind === "open" && this.#findJobs());
    this.#findJobs();
  }

  get prompt() {
    return control(this.form, "request.prompt");
  }

  get negative() {
    return control(this.form, "request.negative_prompt");
  }

  /** Hands in a job for each picture to start from; of txt2img one. */
  generate() {
    return shown(async () => {
      const values = this.page.read(this.form);
      for (const start of await this.starts()) {
        this.results.begin();
        if (!(await this.jobs.submit("generate", bodyOf(values, start)))) break;
      }
      this.#showState();
    });
  }

  /** Ends the running job, and the wish for more of it. */
  interrupt() {
    this.#forever.setAttribute("aria-pressed", "false");
    if (this.jobs.running) this.results.ending();
    return this.jobs.interrupt();
  }

  /** Puts pasted parameters into the fields, and says what of them can't be honoured. */
  fill({ values, groups, notes }) {
    fillForm(this.form, values, groups);
    fillForm(this.page.top, values);
    for (const note of notes.slice(0, 8)) toast(note);
    if (!notes.length) toast(say("parameters read"));
  }

  /** Fills the fields from a picture's file. */
  read(file) {
    return shown(async () => {
      const { name } = await call("/v1/images", { method: "POST", raw: file });
      this.fill(await call("/ui/paste", { method: "POST", body: { image: name } }));
    });
  }

  /** Fills them from the text in the prompt; with an empty one from that of the newest picture. */
  readPrompt() {
    return shown(async () => {
      const text = this.prompt.value.trim() || this.results.gallery.chosen?.infotext || (await newestInfotext());
      this.fill(await call("/ui/paste", { method: "POST", body: { text } }));
    });
  }

  /** Shows, where no size is asked for, the one that the job will take: in multiples of 8. */
  showSize(width, height) {
    for (const [key, size] of Object.entries({ "request.width_px": width, "request.height_px": height })) {
      const input = control(this.form, key);
      input.placeholder = size ? Math.floor(size / 8) * 8 : say("auto");
      input.follow?.();
    }
  }

  /** Where this browser tab keeps the job whose pictures it shows. */
  get #shown() {
    return `hayate.shown.${this.form.dataset.tab}`;
  }

  get #forever() {
    return this.#button("forever");
  }

  #button(act) {
    return this.form.querySelector(`[data-act=${act}]`);
  }

  #liven() {
    const acts = {
      interrupt: () => this.interrupt(),
      skip: () => this.jobs.skip(),
      read: () => this.readPrompt(),
      clear: () => [this.prompt, this.negative].forEach((box) => setValue(box, "")),
      forever: (button) => button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true")),
      cards: (button) => this.cards.toggle(button),
      swap: () => this.#swap(),
    };
    for (const [act, run] of Object.entries(acts))
      this.#button(act).addEventListener("click", () => run(this.#button(act)));
    this.form.addEventListener("submit", () => this.generate());
    this.#livenSeeds();
    livenPrompts(this.form, {
      read: (file) => this.read(file),
      styles: () => this.styles.chosen,
      steps: () => valueOf(control(this.form, "request.steps")) ?? USUAL_STEPS,
    });
    document.addEventListener("keydown", (event) => this.#onKey(event));
  }

  #onKey(event) {
    if (this.root.hidden || document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.form.requestSubmit();
    } else if (event.key === "Escape" && !event.defaultPrevented && this.jobs.running) this.interrupt();
  }

  #livenSeeds() {
    for (const button of this.form.querySelectorAll("[data-act=seed-random], [data-act=seed-reuse]")) {
      const input = button.parentElement.querySelector("input");
      const name = input.dataset.key.endsWith("subseed") ? "subseed" : "seed";
      const isRandom = button.dataset.act === "seed-random";
      const seed = () => (isRandom ? -1 : (this.results.gallery.chosen?.[name] ?? input.value));
      button.addEventListener("click", () => setValue(input, seed()));
    }
  }

  #swap() {
    const [width, height] = ["request.width_px", "request.height_px"].map((key) => control(this.form, key));
    const [first, second] = [width.value, height.value];
    setValue(width, second);
    setValue(height, first);
  }

  #showState() {
    const { jobs } = this;
    this.#button("generate").disabled = false;
    this.#button("interrupt").disabled = !jobs.count;
    this.#button("skip").disabled = !jobs.running;
    const text = jobs.count > 1 ? say("in queue", { count: jobs.count }) : "";
    this.#button("generate").querySelector("output").textContent = text;
    this.form.setAttribute("aria-busy", String(Boolean(jobs.count)));
    if (jobs.count) this.results.begin();
    else this.results.idle();
  }

  #onEnded(record) {
    this.results.show(record);
    if (record.state === "cancelled" && !record.pictures.length) toast(say("interrupted"));
    sessionStorage.setItem(this.#shown, record.id);
    const wantsMore = this.#forever.getAttribute("aria-pressed") === "true";
    if (wantsMore && record.state === "done" && !this.jobs.count) this.generate();
  }

  /** A job may run that this browser knows nothing of: the page was opened anew, or elsewhere. */
  async #findJobs() {
    const found = [];
    try {
      const { running } = await status();
      for (const { id } of running.filter(({ kind }) => kind === "generate")) {
        if (this.isOwn(await call(`/v1/jobs/${id}`))) found.push(id);
      }
    } catch {
      return; // the footer says that the server is away
    }
    await this.jobs.attach(found);
    await this.#showAgain();
  }

  /** After a reload the pictures are there again. */
  async #showAgain() {
    const id = sessionStorage.getItem(this.#shown);
    if (!id || this.results.record || this.jobs.count) return;
    try {
      this.results.show(await call(`/v1/jobs/${id}`));
    } catch {
      sessionStorage.removeItem(this.#shown); // it was forgotten, with its pictures
    }
  }
}

/** The parameters of the picture that was made last, wherever it was asked for. */
async function newestInfotext() {
  const { pictures } = await call("/v1/pictures?limit=1");
  return pictures[0]?.infotext ?? "";
}
