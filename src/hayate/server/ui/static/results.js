// The right side of a picture tab: progress and preview while a job runs, then its pictures and what is known of them.

import { at, say, shown, toast } from "./api.js";
import "./gallery.js";

/** What `results.js` shows of jobs, inside the element that the template has for it. */
export class Results {
  constructor(root, { onSend }) {
    this.root = root;
    this.part = (name) => root.querySelector(`[data-part=${name}]`);
    this.gallery = root.querySelector("hayate-gallery");
    this.record = null;
    this.gallery.addEventListener("choose", (event) => this.#describe(event.detail));
    for (const button of root.querySelectorAll("[data-send]")) {
      button.addEventListener("click", () => this.gallery.chosen && onSend(button.dataset.send, this.gallery.chosen));
    }
    root.querySelector("[data-act=copy]").addEventListener("click", () => this.#copy());
  }

  /** A job is on its way. */
  begin() {
    if (!this.part("progress").hidden) return;
    this.part("progress").hidden = false;
    this.part("empty").hidden = true;
    this.progress({ phase: "queued", share: 0 });
  }

  /** No job is. */
  idle() {
    this.part("progress").hidden = true;
    this.part("preview").hidden = true;
    this.part("preview").removeAttribute("src");
    this.gallery.hidden = false;
    this.part("empty").hidden = Boolean(this.gallery.chosen);
    document.title = say("page title");
  }

  /** How far the job is. */
  progress({ phase, row = 0, rows = 0, picture = 0, pictures = 1, share = 0, it_per_s: speed, eta_s: eta }) {
    const bar = this.part("progress").querySelector("progress");
    const percent = Math.round(share * 100);
    bar.value = share;
    const words = [say(`phase.${phase}`)];
    if (rows) words.push(`${row}/${rows}`);
    if (pictures > 1) words.push(say("batch of", { number: Math.min(picture + 1, pictures), count: pictures }));
    if (speed) words.push(speed >= 1 ? `${speed.toFixed(2)} it/s` : `${(1 / speed).toFixed(2)} s/it`);
    if (eta || eta === 0) words.push(say("eta", { time: clock(eta) }));
    this.part("progress").querySelector("p").textContent = words.join(" · ");
    document.title = `[${percent}%] ${say("page title")}`;
  }

  /** The job was told to end; what it has by then is still decoded. */
  ending() {
    this.part("progress").querySelector("p").textContent = say("interrupting");
  }

  /** What the picture would be by now. */
  preview(url) {
    const image = this.part("preview");
    image.src = url;
    image.hidden = false;
    image.onerror = () => (image.hidden = true);
    this.gallery.hidden = true;
    this.part("empty").hidden = true;
  }

  /** A job's pictures; of one that was ended early those that were finished. */
  show(record) {
    const { grid, pictures } = record;
    if (!pictures.length && !grid) return;
    this.record = record;
    const list = pictures.map((each, index) => ({
      ...each,
      job: record.id,
      index,
      url: at(each.url),
      thumb: at(`${each.url}?thumb=256`),
      alt: firstLine(each.infotext),
    }));
    if (grid)
      list.unshift({
        url: at(grid),
        thumb: at(grid),
        alt: say("grid"),
        infotext: pictures[0]?.infotext ?? "",
        job: record.id,
        isGrid: true,
      });
    this.gallery.hidden = false;
    this.gallery.show(list);
    this.part("about").hidden = false;
    this.part("empty").hidden = true;
    this.#timing(record);
    this.#why(record.facts ?? {});
  }

  #describe(picture) {
    this.part("infotext").textContent = picture.infotext;
    const saved = this.part("saved");
    saved.textContent = picture.isGrid
      ? ""
      : picture.is_saved
        ? say("saved as", { name: picture.name })
        : say("not saved");
    const open = this.root.querySelector("[data-part=open]");
    open.href = picture.url;
    open.download = picture.name ?? "";
  }

  #timing({ state, started_s: from, ended_s: to, notes, facts }) {
    const parts = Object.entries(facts?.seconds ?? {}).filter(
      ([, value]) => typeof value === "number" && value >= 0.005,
    );
    const taken = say("time taken", { seconds: (to - from).toFixed(2) });
    const total = state === "cancelled" ? `${say("interrupted")} · ${taken}` : taken;
    const detail = parts.map(([name, value]) => `${say(`phase.${name}`)} ${value.toFixed(2)}`).join(" · ");
    this.part("time").textContent = detail ? `${total} (${detail})` : total;
    this.part("notes").replaceChildren(...(notes ?? []).map((note) => element("li", note)));
  }

  #why({ plan, speed }) {
    const rows = [];
    for (const [name, { value, reason }] of Object.entries(plan?.choices ?? plan ?? {}).filter(
      ([, each]) => each?.value !== undefined,
    )) {
      rows.push(row("td", [name, value, reason]));
    }
    for (const { name, requested, active, detail } of speed?.evidence ?? []) {
      rows.push(row("td", [name, `${requested}${mark(requested, active)}`, detail]));
    }
    const why = this.part("why");
    why.hidden = !rows.length;
    why.querySelector("tbody").replaceChildren(...rows);
    const facts = [];
    if (speed?.it_per_s) facts.push(`${speed.it_per_s.toFixed(2)} it/s`);
    if (speed?.peak_memory_bytes) facts.push(say("peak", { gib: (speed.peak_memory_bytes / 2 ** 30).toFixed(2) }));
    why.querySelector("p").textContent = facts.join(" · ");
  }

  async #copy() {
    await shown(async () => {
      await navigator.clipboard.writeText(this.part("infotext").textContent);
      toast(say("copied"));
    });
  }
}

/** An element with a text in it. */
export function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function row(kind, cells) {
  const made = document.createElement("tr");
  made.append(...cells.map((each) => element(kind, each)));
  return made;
}

/** What was asked for acted, or did not; what is off can do neither. */
const mark = (requested, active) => (active ? " ✓" : ["off", "none", "no"].includes(requested) ? "" : " –");

const firstLine = (text) => text.split("\n")[0].slice(0, 120) || say("picture");

/** Seconds as people read them: 1:05, or 12 s. */
export function clock(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
