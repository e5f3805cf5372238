// LoRAs and embeddings as cards: a click puts one into the prompt, another click takes it out again.

import { call, say, shown } from "./api.js";
import { append } from "./prompt.js";
import { element } from "./results.js";

/** The cards' panel of a form, below the prompts. */
export class Cards {
  constructor(root, { prompt, negative }) {
    Object.assign(this, { root, prompt, negative, focused: prompt });
    for (const box of [prompt, negative]) box.addEventListener("focus", () => (this.focused = box));
    this.filter = root.querySelector("input[type=search]");
    this.filter.addEventListener("input", () => this.#sift());
    root.querySelector("[data-act=cards-refresh]").addEventListener("click", () => this.#load());
  }

  toggle(button) {
    this.root.hidden = !this.root.hidden;
    button.setAttribute("aria-pressed", String(!this.root.hidden));
    if (!this.root.hidden) {
      this.#load();
      this.filter.focus();
    }
  }

  async #load() {
    const answer = await shown(() => call("/ui/choices?source=loras&source=embeddings"));
    if (!answer) return;
    this.#fill(
      "loras",
      answer.loras,
      (name) => `<lora:${name}:1>`,
      () => this.prompt,
    );
    this.#fill(
      "embeddings",
      answer.embeddings,
      (name) => name,
      () => this.focused,
    );
    this.#sift();
  }

  #fill(kind, choices, text, box) {
    const list = this.root.querySelector(`[data-cards=${kind}]`);
    const cards = choices.map(({ value }) => {
      const card = element("button", value, "card");
      card.type = "button";
      card.title = value;
      card.addEventListener("click", () =>
        toggleText(box(), text(value), kind === "loras" ? new RegExp(` ?<lora:${escaped(value)}:[^>]*>`) : null),
      );
      return card;
    });
    list.replaceChildren(...(cards.length ? cards : [element("p", say("no cards"), "quiet")]));
  }

  #sift() {
    const wanted = this.filter.value.toLowerCase();
    for (const card of this.root.querySelectorAll(".card"))
      card.hidden = !card.textContent.toLowerCase().includes(wanted);
  }
}

function toggleText(box, text, pattern) {
  if (pattern?.test(box.value)) {
    box.value = box.value.replace(pattern, "");
    box.dispatchEvent(new Event("input", { bubbles: true }));
  } else append(box, text);
}

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
