// The frame: tabs, language and theme, the footer, and what each tab's own script is given.

import { call, say, shown, toast } from "./api.js";
import { connect, listen, status } from "./events.js";
import { control, liven, readForm, refreshDefaults, refreshLists } from "./form.js";

const YEAR_S = 365 * 24 * 3600;
/** The one that matters most first: that of the footer's dot, where workers differ. */
const PHASES = ["down", "busy", "loading", "importing", "starting", "idle"];
const FACTS = ["torch", "cuda", "cudnn", "device", "attention", "model"];
const tabs = [...document.querySelectorAll("[role=tab]")];
const mounted = new Map();
const top = document.querySelector("form.top");

/** What a tab's `mount(root, page)` works with. */
const page = {
  top,
  listen,
  /** Shows a tab; resolves to what its `mount` returned. */
  open: (id) => select(document.getElementById(`tab-${id}`)),
  /** Reads a form with the fields above the tabs. */
  read: (form) => readForm(top, form),
};

async function select(tab, takesFocus = false) {
  for (const each of tabs) {
    const isChosen = each === tab;
    each.setAttribute("aria-selected", String(isChosen));
    each.tabIndex = isChosen ? 0 : -1;
    panelOf(each).hidden = !isChosen;
  }
  if (takesFocus) tab.focus();
  const id = tab.id.slice(4);
  if (location.hash.slice(1) !== id) history.replaceState(null, "", `#${id}`);
  return mount(id);
}

const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

function mount(id) {
  if (!mounted.has(id))
    mounted.set(
      id,
      shown(() => load(id)),
    );
  return mounted.get(id);
}

/** Loads a tab's script; until then its buttons are not to be used. */
async function load(id) {
  const root = document.getElementById(`panel-${id}`);
  const { mount: begin } = await import(`./tabs/${id}.js`);
  const tab = await begin(root, page);
  root.dataset.ready = "";
  return tab;
}

function onTabKey(event) {
  const place = tabs.indexOf(event.target);
  const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  select(tabs[(to + tabs.length) % tabs.length], true);
}

function remember(name, value) {
  document.cookie = `${name}=${value}; path=/; max-age=${YEAR_S}; SameSite=Lax`;
}

function showStatus({ workers, queued }) {
  const text = workers.map((worker) => told(worker, workers.length > 1)).join(" · ");
  const place = document.getElementById("worker");
  place.dataset.phase = PHASES.find((phase) => workers.some((worker) => worker.phase === phase));
  if (place.textContent !== text) place.textContent = text;
  place.title = Object.entries(workers[0].seconds ?? {})
    .map(([phase, seconds]) => `${phase} ${seconds.toFixed(1)} s`)
    .join(" · ");
  const facts = workers.map((worker) => ({ ...worker.facts, model: worker.model }));
  const parts = FACTS.map((name) => [name, counted(facts.map((each) => each[name]), name === "device")]);
  document.getElementById("facts").replaceChildren(...parts.filter(([, value]) => value).map(fact));
  document.getElementById("queue").textContent = queued ? say("queued", { count: queued }) : "";
}

/** What a worker is at; of several, each with its device. */
function told({ device, phase, restarts }, isNamed) {
  const text = say(`worker.${phase}`);
  const words = isNamed ? `${device} ${text}` : text;
  return restarts ? `${words} · ${say("restarts", { count: restarts })}` : words;
}

/** Every value once; of devices, how many there are of a kind. */
function counted(values, isCounted) {
  const names = [...new Set(values.filter(Boolean))];
  const count = (name) => values.filter((value) => value === name).length;
  return names.map((name) => (isCounted && count(name) > 1 ? `${count(name)} × ${name}` : name)).join(", ");
}

/** The size that the chosen model was trained for stands where none is asked for. */
async function showModel() {
  const facts = await shown(() =>
    call(`/ui/model?${new URLSearchParams({ name: control(top, "request.model").value })}`),
  );
  if (!facts) return;
  if (facts.problem) toast(facts.problem, facts.hint, "error");
  document.documentElement.dataset.nativeSize = facts.size_px ?? "";
  document.dispatchEvent(new CustomEvent("hayate:model", { detail: facts }));
}

function fact([name, value]) {
  const span = document.createElement("span");
  const bold = document.createElement("b");
  bold.textContent = value;
  span.append(`${name} `, bold);
  return span;
}

let isLost = false;
let pending = null;

/** Asks for the status soon; many events in a row make one question. */
function refreshStatus() {
  pending ??= setTimeout(async () => {
    pending = null;
    try {
      showStatus(await status());
      if (isLost) toast(say("reconnected"));
      isLost = false;
    } catch {
      isLost = true;
      document.getElementById("worker").textContent = say("no answer");
      document.getElementById("worker").dataset.phase = "down";
      setTimeout(refreshStatus, 2000);
    }
  }, 60);
}

function start() {
  for (const tab of tabs) {
    tab.addEventListener("click", () => select(tab));
    tab.addEventListener("keydown", onTabKey);
  }
  document.getElementById("language").addEventListener("change", (event) => {
    remember("hayate_language", event.target.value);
    location.reload();
  });
  document.getElementById("theme").addEventListener("change", (event) => {
    remember("hayate_theme", event.target.value);
    document.documentElement.dataset.theme = event.target.value;
  });
  for (const form of document.querySelectorAll("form[data-tab]")) {
    liven(form);
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  control(top, "request.model").addEventListener("change", showModel);
  showModel();
  top.querySelector("[data-act=refresh]").addEventListener("click", () => refreshLists());
  listen(({ kind }) => kind !== "progress" && kind !== "preview" && refreshStatus());
  connect();
  refreshStatus();
  refreshLists();
  refreshDefaults();
  document.addEventListener("hayate:settings", refreshDefaults);
  const chosen = document.getElementById(`tab-${location.hash.slice(1)}`);
  select(tabs.includes(chosen) ? chosen : tabs[0]);
}

start();
export { call, page };
