// Doctor: what this machine should change, what can be done about it from here, and its undoing.

import { call, say, shown, toast } from "../api.js";
import { act, fixed, make, moment, part } from "../dom.js";
import { english, findingCard, nameOf } from "../finding.js";
import { refreshLists } from "../form.js";

const POLL_MS = 1500;

export async function mount(root) {
  const tab = { root, timer: 0, pressed: undefined };
  act(root, "look").addEventListener("click", () => run(tab, () => call("/v1/doctor/look", { method: "POST", body: {} })));
  act(root, "undo-all").addEventListener("click", () => undo(tab, []));
  run(tab, () => call("/v1/doctor")); // the tab is there at once; what is found comes when it is known
}

/** Asks the doctor, and shows the answer or why there is none; buttons rest meanwhile. */
async function run(tab, ask) {
  const { root } = tab;
  const summary = part(root, "summary");
  rest(root, true);
  if (!tab.found) summary.textContent = summary.dataset.loading;
  try {
    show(tab, await ask());
  } catch (error) {
    tab.pressed = undefined;
    if (!tab.found) summary.textContent = say("doctor.failed");
    rest(root, false);
    await shown(() => Promise.reject(error));
  }
}

function fix(tab, check) {
  tab.pressed = check;
  return run(tab, () => call("/v1/doctor/fixes", { method: "POST", body: { check } }));
}

function undo(tab, checks) {
  tab.pressed = "";
  return run(tab, () => call("/v1/doctor/undo", { method: "POST", body: { checks } }));
}

function rest(root, isResting) {
  root.querySelector(".doctor").setAttribute("aria-busy", String(isResting));
  for (const button of root.querySelectorAll("button[data-act]")) button.disabled = isResting;
}

function show(tab, found) {
  const { root } = tab;
  const isRunning = Boolean(found.act && !found.act.is_over);
  const isEnded = !isRunning && (tab.isRunning || tab.pressed !== undefined);
  const isFirst = !tab.found;
  Object.assign(tab, { found, isRunning });
  clearTimeout(tab.timer);
  if (isRunning) tab.timer = setTimeout(() => run(tab, () => call("/v1/doctor")), POLL_MS);
  if (isRunning || isEnded) showAct(root, found.act);
  if (!isRunning || isFirst) showFound(tab);
  rest(root, isRunning);
  if (isEnded) ended(tab);
}

/** What a fix changed may be in other tabs' lists; the keyboard goes on where it was. */
function ended(tab) {
  const { root, pressed, found } = tab;
  tab.pressed = undefined;
  for (const { text, is_done: isDone } of found.act.reports.slice(-3)) toast(isDone ? text : `${say("doctor.did not")}: ${text}`, "", isDone ? "info" : "error");
  const card = [...root.querySelectorAll("[data-check]")].find((each) => each.dataset.check === pressed);
  if (pressed !== undefined) (card ?? root).querySelector("h3, h2").focus();
  refreshLists();
}

function showFound(tab) {
  const { root, found } = tab;
  showSummary(root, found);
  part(root, "refusal").hidden = !found.refusal;
  part(root, "refusal").textContent = found.refusal;
  const press = found.refusal ? null : (check) => fix(tab, check);
  keepingOpen(part(root, "findings"), found.findings.map((finding) => findingCard(finding, { press, copy })));
  showDone(tab, found);
  showLists(root, found);
}

/** New cards in the place of the old ones; what was unfolded stays so. */
function keepingOpen(place, cards) {
  const open = new Set([...place.querySelectorAll("details[open]")].map((each) => each.closest("[data-check]").dataset.check));
  place.replaceChildren(...cards);
  for (const card of cards) {
    const details = card.querySelector("details");
    if (details && open.has(card.dataset.check)) details.open = true;
  }
}

function showSummary(root, { findings, fine, at_s: atS, took_s: tookS }) {
  const serious = findings.filter((each) => each.severity === "serious").length;
  const count = findings.length;
  const some = serious ? say("doctor.summary", { count, serious }) : say("doctor.summary none serious", { count });
  const words = count ? some : say("doctor.well", { count: fine.length });
  const looked = say("doctor.looked", { at: moment(atS * 1000), seconds: fixed(tookS, 1) });
  part(root, "summary").replaceChildren(make("strong", {}, words), make("span", { className: "quiet" }, ` · ${looked}`));
  mark(serious);
}

/** How many serious findings there are, beside the tab's name. */
function mark(count) {
  const tab = document.getElementById("tab-doctor");
  tab.querySelector(".mark")?.remove();
  if (count) tab.append(make("span", { className: "mark", role: "img", "aria-label": say("doctor.mark", { count }) }, String(count)));
}

function showAct(root, told) {
  const place = part(root, "act");
  place.hidden = false;
  const names = told.checks.map(nameOf).join(", ");
  const since = { names, count: told.reports.length, seconds: fixed(Date.now() / 1000 - told.began_s, 0) };
  const words = told.undoes ? say("doctor.undoing", since) : say("doctor.fixing", since);
  const running = told.is_over ? [] : [make("p", {}, words), make("progress", { "aria-label": names })];
  const lines = told.reports.map(({ text, is_done: isDone }) => make("li", { className: isDone ? "" : "bad" }, make("b", {}, isDone ? say("doctor.did") : say("doctor.did not")), ": ", english(text)));
  const failure = told.failure ? [make("p", { className: "bad" }, english(told.failure))] : [];
  place.replaceChildren(...running, make("ul", { className: "notes" }, ...lines), ...failure);
}

function showDone(tab, { done, refusal }) {
  const { root } = tab;
  part(root, "done").hidden = !done.length;
  act(root, "undo-all").hidden = Boolean(refusal);
  const checks = [...new Set(done.map((each) => each.check))];
  part(root, "fixes").replaceChildren(...checks.map((check) => doneCard(tab, check, done.filter((each) => each.check === check), refusal)));
}

function doneCard(tab, check, done, refusal) {
  const lines = done.map(({ job, subject, is_whole: isWhole }) => make("li", {}, say(`doctor.did.${job}`, { subject }), isWhole ? "" : ` (${say("doctor.cut")})`));
  const back = [...new Set(done.map((each) => each.job))].map((job) => say(`doctor.back.${job}`)).join(" ");
  const label = say("doctor.undo.help", { name: nameOf(check) });
  return make(
    "li",
    { className: "card", data: { fixed: check } },
    make("div", {}, make("strong", {}, nameOf(check)), make("span", { className: "quiet" }, ` · ${moment(done[0].at)}`), make("ul", { className: "notes" }, ...lines), make("p", { className: "quiet" }, back)),
    !refusal && make("button", { type: "button", data: { act: "undo" }, "aria-label": label, onclick: () => undo(tab, [check]) }, say("doctor.undo")),
  );
}

function showLists(root, { fine, unknown }) {
  part(root, "fine").hidden = !fine.length;
  part(root, "fine").querySelector("p").textContent = fine.map(nameOf).join(" · ");
  part(root, "unknown").hidden = !unknown.length;
  part(root, "unknown").querySelector("ul").replaceChildren(...unknown.map((line) => make("li", {}, line)));
}

async function copy(command) {
  try {
    await navigator.clipboard.writeText(command);
    toast(say("doctor.copied"));
  } catch {
    toast(say("doctor.not copied"), "", "error"); // over plain HTTP from another machine there is no clipboard
  }
}
