// Reads and fills the controls that Python declared: data-key says where a value goes in a job's body.

import { call, say, shown } from "./api.js";

const STORE = "hayate.form.";

/** The controls of a form. */
export const controlsOf = (form) => [...form.querySelectorAll("[data-key]")];

/** The control called `key`. */
export const control = (form, key) => form.querySelector(`[data-key="${CSS.escape(key)}"]`);

/** A control's value as JSON has it; undefined where the choice is left open. */
export function valueOf(element) {
  switch (element.dataset.kind) {
    case "switch":
      return element.checked;
    case "many":
      return [...element.querySelectorAll("input:checked")].map((each) => each.value);
    case "number":
    case "slider":
      return element.value === "" ? undefined : element.valueAsNumber;
    case "seed":
      // Seeds go beyond what a double can hold: such a text is sent as it is written.
      return element.value === ""
        ? undefined
        : Number.isSafeInteger(element.valueAsNumber)
          ? element.valueAsNumber
          : element.value;
    case "choice":
      return element.value === "" ? undefined : element.value;
    case "truth":
      return element.value === "" ? undefined : element.value === "true";
    default:
      return element.value === "" && element.dataset.prompt === undefined ? undefined : element.value;
  }
}

/** Puts a value into a control; undefined and null empty it, or bring back its default. */
export function setValue(element, value) {
  const kind = element.dataset.kind;
  if (kind === "switch") element.checked = Boolean(value ?? element.dataset.default);
  else if (kind === "many") {
    element.wanted = value ?? [];
    for (const each of element.querySelectorAll("input")) each.checked = element.wanted.includes(each.value);
  } else {
    const text = String(value ?? element.dataset.default ?? "");
    if (kind === "choice" && text && ![...element.options].some((option) => option.value === text))
      element.add(new Option(text, text));
    element.value = text;
  }
  element.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Whether a control counts: not hidden by another one's value, nor in a group that is switched off. */
function counts(element) {
  return !element.closest("[data-when][hidden]") && !element.closest("fieldset:disabled");
}

/** Everything a form says, as the nested object that a job's body is. */
export function readForm(...forms) {
  const body = {};
  for (const element of forms.flatMap(controlsOf)) {
    const value = counts(element) ? valueOf(element) : undefined;
    if (value !== undefined) put(body, element.dataset.key.split("."), value);
  }
  return body;
}

function put(target, path, value) {
  const [name, ...rest] = path;
  if (rest.length) put((target[name] ??= {}), rest, value);
  else target[name] = value;
}

/** Fills the controls that `values` (by key) speak of; `groups` says which switched groups are on. */
export function fillForm(form, values, groups = {}) {
  for (const element of controlsOf(form))
    if (element.dataset.key in values) setValue(element, values[element.dataset.key]);
  for (const [id, isOn] of Object.entries(groups)) switchGroup(form, id, isOn);
}

/** Switches a group of controls on or off. */
export function switchGroup(form, id, isOn) {
  const box = form.querySelector(`[data-switch="${CSS.escape(id)}"]`);
  if (!box) return;
  box.checked = isOn;
  box.dispatchEvent(new Event("change", { bubbles: true }));
}

/** Makes a form alive: sliders follow numbers, groups their switches, and all of it is kept over reloads. */
export function liven(form) {
  for (const range of form.querySelectorAll("input[type=range][data-for]"))
    pair(range, form.querySelector(`#${range.dataset.for}`));
  for (const box of form.querySelectorAll("[data-switch]")) guard(box);
  for (const list of form.querySelectorAll("details.many")) foldAway(list);
  form.addEventListener("input", () => reveal(form));
  form.addEventListener("change", () => reveal(form));
  reveal(form);
  if ("forgets" in form.dataset) return; // what the server keeps is not kept here too
  restore(form);
  reveal(form);
  const keep = debounce(() => store(form), 300);
  form.addEventListener("input", keep);
  form.addEventListener("change", keep);
  addEventListener("pagehide", () => store(form));
}

function pair(range, number) {
  const follow = () => {
    const shown = number.value === "" ? number.placeholder : number.value;
    range.value = Number.isNaN(Number.parseFloat(shown)) ? range.min : Number.parseFloat(shown);
    range.classList.toggle("open", number.value === "");
  };
  range.addEventListener("input", (event) => {
    event.stopPropagation();
    number.value = range.value;
    number.dispatchEvent(new Event("input", { bubbles: true }));
  });
  number.addEventListener("input", follow);
  number.follow = follow;
  follow();
}

function guard(box) {
  const panel = box.closest("[data-group]");
  const apply = () => {
    panel.querySelector("fieldset").disabled = !box.checked;
    panel.classList.toggle("on", box.checked);
  };
  box.addEventListener("change", () => {
    apply();
    if (box.checked) panel.querySelector("details").open = true;
  });
  apply();
}

/** An open list closes by Escape, and when the focus leaves it. */
function foldAway(list) {
  list.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !list.open) return;
    event.preventDefault(); // it would end the running job
    list.open = false;
    list.querySelector("summary").focus();
  });
  list.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget && !list.contains(relatedTarget)) list.open = false;
  });
}

/** Shows what depends on another control's value, and hides the rest. */
export function reveal(form) {
  for (const element of form.querySelectorAll("[data-when]")) {
    const other = control(form, element.dataset.when);
    element.hidden = !other || String(valueOf(other) ?? "") !== element.dataset.is;
  }
}

function store(form) {
  const values = Object.fromEntries(controlsOf(form).map((each) => [each.dataset.key, valueOf(each) ?? null]));
  const groups = Object.fromEntries(
    [...form.querySelectorAll("[data-switch]")].map((each) => [each.dataset.switch, each.checked]),
  );
  const open = [...form.querySelectorAll("[data-group] > details[open]")].map(
    (each) => each.parentElement.dataset.group,
  );
  try {
    localStorage.setItem(STORE + form.dataset.tab, JSON.stringify({ values, groups, open }));
  } catch {
    // A full or forbidden store costs nothing but the memory of the fields.
  }
}

function restore(form) {
  let kept;
  try {
    kept = JSON.parse(localStorage.getItem(STORE + form.dataset.tab) ?? "null");
  } catch {
    kept = null;
  }
  if (!kept) return;
  fillForm(form, kept.values ?? {}, kept.groups ?? {});
  for (const panel of form.querySelectorAll("[data-group] > details"))
    panel.open = (kept.open ?? []).includes(panel.parentElement.dataset.group);
}

/** Brings every list up to date, and keeps what is chosen, also where its file is gone. */
export async function refreshLists(root = document) {
  const lists = [...root.querySelectorAll("[data-source]")];
  const sources = [...new Set(lists.map((each) => each.dataset.source))];
  if (!sources.length) return;
  const answer = await shown(() => call(`/ui/choices?${new URLSearchParams(sources.map((name) => ["source", name]))}`));
  if (!answer) return;
  for (const list of lists) fillList(list, answer[list.dataset.source] ?? []);
}

function fillList(list, choices) {
  if (list.dataset.kind === "many") return fillMenu(list, choices);
  const chosen = list.value;
  const kept = list.tagName === "SELECT" ? [...list.options].filter((option) => option.value === "") : [];
  list.replaceChildren(...kept, ...choices.map(({ value, label }) => new Option(label || value, value)));
  if (list.tagName !== "SELECT") return undefined;
  if (chosen && !choices.some(({ value }) => value === chosen)) list.add(new Option(chosen, chosen));
  list.value = chosen;
  return undefined;
}

function fillMenu(list, choices) {
  const chosen = new Set(list.wanted ?? valueOf(list));
  const rows = choices.map(({ value, label }) => {
    const row = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value, checked: chosen.has(value) });
    row.append(box, ` ${label || value}`);
    return row;
  });
  list.querySelector(".menu").replaceChildren(...rows);
  list.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Shows, where a field is empty, the setting that stands for it; settings may change while the page is open. */
export async function refreshDefaults() {
  const settings = await shown(() => call("/v1/settings"));
  const values = new Map((settings ?? []).map(({ key, value }) => [key, value]));
  for (const element of document.querySelectorAll("[data-default-of]")) {
    const value = values.get(element.dataset.defaultOf);
    if (value === undefined || value === null) continue;
    if (element.tagName === "SELECT") element.options[0].textContent = `${value} (${say("default")})`;
    else {
      element.placeholder = value;
      element.follow?.();
    }
  }
}

/** `work`, once `pause_ms` have gone by without another call. */
export function debounce(work, pause_ms) {
  let timer;
  return (...words) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...words), pause_ms);
  };
}
