// Settings: every one of them, kept by the server; paths are shown only.

import { call, say, shown, toast } from "../api.js";
import { act, part } from "../dom.js";
import { controlsOf, refreshLists, setValue, valueOf } from "../form.js";

export async function mount(root) {
  const form = root.querySelector("form");
  const tab = { form, settings: null };
  form.addEventListener("input", () => showChanged(tab));
  form.addEventListener("change", () => showChanged(tab));
  form.addEventListener("submit", () => shown(() => save(tab)));
  act(form, "reset").addEventListener("click", () => fill(tab));
  part(form, "search").addEventListener("input", (event) => filter(form, event.target.value));
  await refreshLists(form);
  await shown(() => load(tab));
}

const keyOf = (element) => element.dataset.key.slice("settings.".length);

async function load(tab) {
  take(tab, await call("/v1/settings"));
}

function take(tab, settings) {
  tab.settings = new Map(settings.map((each) => [each.key, each]));
  fill(tab);
}

/** Puts what was saved into the fields; the value in force stands in the empty ones. */
function fill(tab) {
  for (const element of controlsOf(tab.form)) {
    const setting = tab.settings.get(keyOf(element));
    setValue(element, savedOf(setting));
    const now = setting.value ?? say("settings.automatic");
    if ("placeholder" in element) element.placeholder = String(now);
    else if (!setting.is_chosen) element.options[0].textContent = say("settings.now", { value: now });
  }
  showChanged(tab);
}

/** What differs from what was saved; null gives a setting back to the file and the default. */
function changes({ form, settings }) {
  if (!settings) return {};
  const pairs = controlsOf(form).map((element) => [keyOf(element), valueOf(element) ?? null]);
  return Object.fromEntries(pairs.filter(([key, value]) => value !== savedOf(settings.get(key))));
}

const savedOf = ({ value, is_chosen: isChosen }) => (isChosen ? value : null);

function showChanged(tab) {
  const count = Object.keys(changes(tab)).length;
  part(tab.form, "changed").textContent = count ? say("settings.changed", { count }) : "";
  act(tab.form, "reset").disabled = act(tab.form, "save").disabled = count === 0;
}

async function save(tab) {
  take(tab, await call("/v1/settings", { method: "PATCH", body: changes(tab) }));
  toast(say("settings.saved"));
  document.dispatchEvent(new CustomEvent("hayate:settings"));
}

/** Hides the fields whose label or help lacks a word of the search, and sections without any. */
function filter(form, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of form.querySelectorAll("[data-section]")) {
    const items = [...section.querySelectorAll("[data-setting], tr")];
    for (const item of items) item.hidden = !words.every((word) => describedBy(item).includes(word));
    section.hidden = items.every((item) => item.hidden);
  }
}

const describedBy = (item) => `${item.textContent} ${[...item.querySelectorAll("[title]")].map((each) => each.title).join(" ")} ${[...item.querySelectorAll("[data-key]")].map((each) => each.dataset.key).join(" ")}`.toLowerCase();
