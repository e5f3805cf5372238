// Pictures: one large, the others as a strip of small ones, and all of them in full in a lightbox.

import { say } from "./api.js";

/** What a picture needs to be shown: {url, thumb?, alt, width_px, height_px}. Fires `choose` with the picture chosen. */
export class Gallery extends HTMLElement {
  #pictures = [];
  #place = 0;

  connectedCallback() {
    if (this.main) return;
    this.main = document.createElement("button");
    Object.assign(this.main, { type: "button", className: "main", hidden: true, title: say("enlarge") });
    this.image = document.createElement("img");
    this.main.append(this.image);
    this.strip = document.createElement("div");
    this.strip.className = "strip";
    this.append(this.main, this.strip);
    this.main.addEventListener("click", () => openLightbox(this.#pictures, this.#place, (place) => this.choose(place)));
    this.addEventListener("keydown", (event) => this.#onKey(event));
  }

  get chosen() {
    return this.#pictures[this.#place];
  }

  /** Shows pictures, the one at `place` large. */
  show(pictures, place = 0) {
    this.#pictures = pictures;
    this.strip.hidden = pictures.length < 2;
    this.strip.replaceChildren(...pictures.map((picture, at) => this.#thumb(picture, at)));
    this.main.hidden = !pictures.length;
    if (pictures.length) this.choose(Math.min(place, pictures.length - 1));
  }

  choose(place) {
    this.#place = place;
    const picture = this.#pictures[place];
    this.image.src = picture.url;
    this.image.alt = picture.alt;
    for (const [at, thumb] of [...this.strip.children].entries())
      thumb.setAttribute("aria-pressed", String(at === place));
    this.dispatchEvent(new CustomEvent("choose", { detail: picture, bubbles: true }));
  }

  #thumb(picture, at) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "thumb", ariaLabel: `${at + 1}: ${picture.alt}` });
    const image = document.createElement("img");
    Object.assign(image, { src: picture.thumb ?? picture.url, alt: "", loading: "lazy" });
    button.append(image);
    button.addEventListener("click", () => this.choose(at));
    return button;
  }

  #onKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !this.#pictures.length) return;
    event.preventDefault();
    this.choose((this.#place + step + this.#pictures.length) % this.#pictures.length);
  }
}

/** Shows pictures over the whole page; arrow keys walk, Z is the picture's own size, Escape closes. */
export function openLightbox(pictures, place = 0, onChoose = () => {}) {
  const dialog = document.createElement("dialog");
  dialog.className = "lightbox";
  dialog.ariaLabel = say("lightbox");
  const image = document.createElement("img");
  const caption = document.createElement("p");
  const button = (icon, label, act) => {
    const made = document.createElement("button");
    Object.assign(made, { type: "button", className: `icon ${icon}`, ariaLabel: say(label), title: say(label) });
    made.innerHTML = `<svg class="i" aria-hidden="true"><use href="#i-${icon}"></use></svg>`;
    made.addEventListener("click", (event) => {
      event.stopPropagation();
      act();
    });
    return made;
  };
  const go = (step) => {
    place = (place + step + pictures.length) % pictures.length;
    const picture = pictures[place];
    Object.assign(image, { src: picture.url, alt: picture.alt });
    caption.textContent = `${place + 1} / ${pictures.length}`;
    onChoose(place);
  };
  image.addEventListener("load", () => {
    const { naturalWidth: width, naturalHeight: height } = image;
    image.style.setProperty("--ratio", width / height);
    caption.textContent = `${place + 1} / ${pictures.length} · ${width} × ${height}`;
  });
  const zoom = () => dialog.classList.toggle("full");
  const view = document.createElement("div");
  view.className = "view";
  view.append(image);
  dialog.append(
    view,
    caption,
    button("close", "close", () => dialog.close()),
    button("zoom", "own size", zoom),
  );
  if (pictures.length > 1)
    dialog.append(
      button("left", "previous", () => go(-1)),
      button("right", "next", () => go(1)),
    );
  dialog.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "ArrowLeft") go(-1);
    else if (event.key === "ArrowRight") go(1);
    else if (event.key === "z" || event.key === "Z") zoom();
  });
  dialog.addEventListener(
    "click",
    (event) => event.target !== image && event.target.closest("button") === null && dialog.close(),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  go(0);
  dialog.showModal();
}

customElements.define("hayate-gallery", Gallery);
