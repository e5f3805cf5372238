// Gallery: every picture that was made here, from the history of jobs.

import { at, call, say, shown, toast } from "../api.js";
import { act, make, part } from "../dom.js";
import { debounce } from "../form.js";
import { sendParameters, sendPicture } from "../sending.js";

const PAGE = 60;
/** How many pages are read at once where few of their pictures are saved ones. */
const PAGES_AT_ONCE = 10;

export function mount(root, page) {
  const gallery = new Gallery(root, page);
  gallery.restart();
  return { refresh: () => gallery.restart() };
}

class Gallery {
  constructor(root, page) {
    Object.assign(this, { root, page, shown: [], next: null, turn: 0 });
    this.thumbs = part(root, "thumbs");
    this.search = part(root, "search");
    this.onlySaved = part(root, "saved");
    this.viewer = new Viewer(this);
    this.search.addEventListener("input", debounce(() => this.restart(), 300));
    this.onlySaved.addEventListener("change", () => this.restart());
    act(root, "more").addEventListener("click", () => this.more());
    const refresh = debounce(() => this.root.hidden || this.viewer.isOpen || this.restart(), 500);
    page.listen(({ kind }) => ["done", "cancelled"].includes(kind) && refresh());
  }

  async restart() {
    this.turn += 1;
    this.shown = [];
    this.next = undefined;
    await this.more(true);
  }

  /** Reads pages until one has something to show. */
  async more(isFirst = false) {
    const turn = this.turn;
    const found = [];
    for (let pages = 0; pages < PAGES_AT_ONCE && this.next !== null && found.length < PAGE; pages++) {
      const answer = await shown(() => call(`/v1/pictures?${this.query()}`));
      if (!answer || turn !== this.turn) return;
      this.next = answer.next ?? null;
      const wanted = answer.pictures.filter(({ is_saved }) => is_saved || !this.onlySaved.checked);
      found.push(...wanted.map((picture) => ({ ...picture, url: at(picture.url) })));
    }
    const items = found.map((picture) => this.thumb(picture));
    if (isFirst) this.thumbs.replaceChildren(...items);
    else this.thumbs.append(...items);
    this.shown.push(...found);
    act(this.root, "more").hidden = this.next === null;
    const empty = part(this.root, "empty");
    empty.hidden = this.shown.length > 0;
    empty.dataset.text ??= empty.textContent;
    empty.textContent = this.search.value ? say("gallery.nothing") : empty.dataset.text;
  }

  query() {
    const query = new URLSearchParams({ limit: PAGE });
    if (this.search.value.trim()) query.set("search", this.search.value.trim());
    if (this.next) query.set("before", this.next);
    return query;
  }

  thumb(picture) {
    const image = make("img", { src: `${picture.url}?thumb=256`, alt: firstLine(picture.infotext), loading: "lazy" });
    const open = make("button", { type: "button", className: "thumb", "aria-label": say("gallery.open", { seed: picture.seed }), title: firstLine(picture.infotext), onclick: () => this.viewer.open(picture) }, image);
    return make("li", { data: { picture: picture.url } }, open);
  }

  neighbour(picture, step) {
    return this.shown[this.shown.indexOf(picture) + step];
  }

  drop(job) {
    this.shown = this.shown.filter((each) => each.job !== job);
    for (const item of [...this.thumbs.children]) if (!this.shown.some(({ url }) => url === item.dataset.picture)) item.remove();
  }
}

const firstLine = (text) => text.split("\n", 1)[0].slice(0, 200);

/** One picture in full, with what it was made from. Arrows go to its neighbours, Escape closes. */
class Viewer {
  constructor(gallery) {
    this.gallery = gallery;
    this.image = make("img", { alt: "" });
    this.text = make("pre", { tabIndex: 0 });
    this.buttons = make("div", { className: "row" });
    this.dialog = make("dialog", { className: "viewer", "aria-label": say("gallery.viewer") }, make("div", { className: "viewer-picture" }, this.image), make("div", { className: "viewer-side" }, this.buttons, this.text));
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    gallery.root.append(this.dialog);
  }

  get isOpen() {
    return this.dialog.open;
  }

  open(picture) {
    const { page } = this.gallery;
    this.picture = picture;
    this.image.src = picture.url;
    this.image.alt = firstLine(picture.infotext);
    this.text.textContent = picture.infotext;
    const button = (text, work, className = "") => make("button", { type: "button", className, onclick: () => shown(work) }, text);
    this.buttons.replaceChildren(
      button("×", () => this.dialog.close(), "icon close"),
      button(say("send.txt2img"), () => this.leave(() => sendParameters(page, picture.infotext))),
      button(say("send.img2img"), () => this.leave(() => sendPicture(page, "img2img", picture))),
      button(say("send.extras"), () => this.leave(() => sendPicture(page, "extras", picture))),
      make("a", { href: picture.url, download: picture.name, className: "button" }, say("gallery.download")),
      button(say("gallery.delete"), () => this.remove(), "danger"),
    );
    this.buttons.firstChild.ariaLabel = say("close");
    if (!this.dialog.open) this.dialog.showModal();
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const other = step && this.gallery.neighbour(this.picture, step);
    if (!other) return;
    event.preventDefault();
    this.open(other);
  }

  leave(work) {
    this.dialog.close();
    return work();
  }

  async remove() {
    if (!confirm(say("gallery.sure"))) return;
    const { job } = this.picture;
    await call(`/v1/jobs/${job}?forget=true`, { method: "DELETE" });
    this.dialog.close();
    this.gallery.drop(job);
    toast(say("gallery.deleted"));
  }
}
