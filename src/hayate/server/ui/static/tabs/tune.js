// Tune: a search by measuring, its table while it grows, and the profiles that came of it.

import { call, say, shown, toast } from "../api.js";
import { speedBar, tradeChart } from "../charts.js";
import { bytes, fixed, make, moment, part, table } from "../dom.js";
import { readForm } from "../form.js";
import { JobRunner } from "../job-runner.js";

const SOUND = ["default", "faster", "slower"];

export function mount(root, page) {
  const tab = { root, page, profiles: [], last: null };
  const runner = new JobRunner(root, page, "tune", {
    body: () => ({ ...readForm(root.querySelector("form")).tune }),
    progress: ({ details }) => details?.rows && showRows(tab, details.rows, null),
    ended: (job) => ended(tab, job),
  });
  runner.resume(true);
  refreshProfiles(tab);
  const active = part(root, "active");
  active.addEventListener("toggle", () => active.open && showPlan(tab));
}

function ended(tab, job) {
  const { rows = [], best, ratio, profile } = job.facts;
  if (!rows.length && job.state === "cancelled") part(tab.root, "table").replaceChildren();
  tab.last = job;
  showRows(tab, rows, profile ? job : null);
  const isDefault = rows.find((row) => row.name === best)?.verdict === "default";
  const words = best ? (isDefault ? say("tune.winner default") : say("tune.winner", { name: best, ratio: fixed(ratio) })) : "";
  part(tab.root, "verdict").textContent = words;
  refreshProfiles(tab);
}

/** The table and the chart; rows can be adopted once a job has ended that left a profile. */
function showRows({ root, profiles, ...tab }, told, job) {
  if (!told.length) return;
  const rows = [...new Map(told.map((row) => [row.name, row])).values()]; // what lost the last race is told twice
  const most = Math.max(...rows.map((row) => row.it_per_s?.high ?? row.it_per_s?.median ?? 0)) || 1;
  const titles = ["#", "setting", "speed", "first", "peak", "picture", "bits", "verdict"].map((name) => (name === "#" ? name : say(`tune.${name}`)));
  const cells = rows.map((row, place) => [...cellsOf(row, place, most), ...(job ? [adoptButton({ root, profiles, ...tab }, row, job)] : [])]);
  part(root, "table").replaceChildren(table(job ? [...titles, ""] : titles, cells));
  const points = rows.map(pointOf).filter(Boolean);
  const chart = part(root, "chart");
  chart.replaceChildren(...(points.length > 1 ? [tradeChart(points, say("tune.chart"), chart.clientWidth)] : []));
}

function cellsOf(row, place, most) {
  const speed = row.it_per_s;
  const range = speed && make("div", { className: "speed" }, speedBar(speed, most), make("span", {}, `${fixed(speed.median)} `, make("span", { className: "quiet" }, `(${fixed(speed.low)}–${fixed(speed.high)})`)));
  const same = { true: say("tune.same"), false: say("tune.other") }[row.is_repeated] ?? "–";
  const verdict = make("div", {}, make("span", { className: `verdict ${row.verdict.replaceAll(" ", "-")}` }, say(`verdict.${row.verdict}`)), " ", make("span", { className: "quiet" }, row.reason));
  return [String(place + 1), make("span", { className: "setting" }, row.name), range, row.first_s === null ? "–" : `${fixed(row.first_s, 1)} s`, bytes(row.peak_bytes), likeness(row.difference), same, verdict];
}

function likeness(difference) {
  if (!difference) return "–";
  return difference.psnr_db === null ? say("tune.identical") : `${fixed(difference.psnr_db, 1)} dB`;
}

function pointOf(row, place) {
  if (!row.it_per_s || !row.difference) return null;
  return { name: row.name, speed: row.it_per_s.median, psnr_db: row.difference.psnr_db, mark: place + 1, verdict: row.verdict.replaceAll(" ", "-") };
}

function adoptButton(tab, row, job) {
  if (!SOUND.includes(row.verdict) || row.name === job.facts.best) return "";
  const file = String(job.facts.profile).replaceAll("\\", "/").split("/").pop();
  return make("button", { type: "button", className: "small", onclick: () => shown(() => adopt(tab, file, row, job)) }, say("tune.adopt"));
}

async function adopt(tab, file, row, job) {
  await call(`/ui/tune/profiles/${encodeURIComponent(file)}/adopt`, { method: "POST", body: { job: job.id, row: row.name } });
  toast(say("tune.adopted", { name: row.name }));
  refreshProfiles(tab);
}

async function refreshProfiles(tab) {
  const found = await shown(() => call("/ui/tune/profiles"));
  if (!found) return;
  const place = part(tab.root, "profiles");
  place.replaceChildren(found.length ? make("ul", { className: "profiles" }, ...found.map((profile) => profileRow(tab, profile))) : make("p", { className: "empty" }, place.dataset.none));
}

function profileRow(tab, profile) {
  const speed = profile.summary.it_per_s;
  const facts = [`${profile.device}`, profile.architecture, `≤ ${profile.size_px} px`, profile.promise, speed && `${fixed(speed.median)} it/s`, moment(profile.at)].filter(Boolean);
  return make(
    "li",
    { className: "card" },
    make("div", {}, make("strong", {}, profile.title), profile.staleness && make("p", { className: "stale" }, say("tune.stale", { reason: profile.staleness })), make("p", { className: "quiet" }, facts.join(" · "))),
    make("button", { type: "button", className: "danger", onclick: () => shown(() => forget(tab, profile)) }, say("tune.forget")),
  );
}

async function forget(tab, profile) {
  await call(`/ui/tune/profiles/${encodeURIComponent(profile.file)}`, { method: "DELETE" });
  toast(say("tune.forgotten"));
  refreshProfiles(tab);
}

/** What would compute a picture of the form's size now, and why. */
async function showPlan({ root }) {
  const { model, width_px, height_px, batch_size, steps } = readForm(root.querySelector("form")).tune;
  const request = { prompt: "", model, width_px, height_px, batch_size, steps };
  const plan = await shown(() => call("/v1/plan", { method: "POST", body: { request } }));
  if (!plan) return;
  const rows = Object.entries(plan.choices ?? {}).map(([name, { value, reason }]) => [name, String(value), reason]);
  part(root, "plan").replaceChildren(table([say("tune.choice"), say("tune.value"), say("tune.reason")], rows));
}
