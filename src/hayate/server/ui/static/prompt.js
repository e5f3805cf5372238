// A prompt box: its token counter, the weights' keys, and pictures dropped or pasted onto it.

import { call } from "./api.js";
import { debounce } from "./form.js";
import { reweigh } from "./weights.js";

const COUNT_PAUSE_MS = 250;

/** Makes the prompt boxes of a form alive. `read(file)` is called with a picture that lands on one of them, `styles()`
 * gives the styles that count with the prompt. */
export function livenPrompts(form, { read, styles, steps }) {
  const boxes = [...form.querySelectorAll("[data-prompt]")];
  const count = debounce(() => countTokens(boxes, { styles: styles(), steps: steps() }), COUNT_PAUSE_MS);
  for (const box of boxes) {
    box.addEventListener("keydown", onKey);
    box.addEventListener("paste", (event) => take(event, event.clipboardData, read));
    box.addEventListener("drop", (event) => take(event, event.dataTransfer, read));
    box.addEventListener("dragover", (event) => hasFile(event.dataTransfer) && event.preventDefault());
  }
  form.addEventListener("input", count);
  count();
}

/** Replaces [start, end) of a box so that the browser's undo knows it. */
export function edit(box, start, end, text) {
  box.focus();
  box.setSelectionRange(start, end);
  // Nothing else than this old command keeps the undo history.
  if (!document.execCommand("insertText", false, text)) box.setRangeText(text, start, end, "end");
  box.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Adds text at the end of a box, parted from what is there. */
export function append(box, text) {
  const gap = box.value && !/\s$/.test(box.value) ? " " : "";
  box.value += gap + text;
  box.dispatchEvent(new Event("input", { bubbles: true }));
}

function onKey(event) {
  const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
  if (!direction || !(event.ctrlKey || event.metaKey) || event.altKey) return;
  event.preventDefault();
  const box = event.target;
  const made = reweigh(box.value, box.selectionStart, box.selectionEnd, direction);
  if (!made) return;
  replaceDifference(box, made.text);
  box.setSelectionRange(made.start, made.end);
}

/** Brings a box to `text` by the smallest edit, which scrolls and undoes best. */
function replaceDifference(box, text) {
  const old = box.value;
  let [head, tail] = [0, 0];
  while (head < old.length && head < text.length && old[head] === text[head]) head += 1;
  while (
    tail < old.length - head &&
    tail < text.length - head &&
    old[old.length - 1 - tail] === text[text.length - 1 - tail]
  )
    tail += 1;
  edit(box, head, old.length - tail, text.slice(head, text.length - tail));
}

function take(event, transfer, read) {
  const file = [...(transfer?.files ?? [])].find((each) => each.type.startsWith("image/"));
  if (!file) return;
  event.preventDefault();
  read(file);
}

const hasFile = (transfer) => [...(transfer?.types ?? [])].includes("Files");

async function countTokens(boxes, { styles, steps }) {
  let counts;
  try {
    counts = await call("/ui/tokens", {
      method: "POST",
      body: { prompt: boxes[0].value, negative_prompt: boxes[1]?.value ?? "", styles, steps },
    });
  } catch {
    return; // the counter shows what it knew; whatever is wrong is said when a picture is asked for
  }
  for (const [place, box] of boxes.entries()) {
    const { used, capacity } = counts.counts[place];
    const output = box.parentElement.querySelector("output");
    output.textContent = used === null ? "–/75" : `${used}/${capacity}`;
    output.classList.toggle("many", used > 75);
  }
}
