// Bench: measurements of this machine, one at a time, and those that were made before.

import { at, call, say, shown, toast } from "../api.js";
import { speedBar } from "../charts.js";
import { bytes, fixed, make, moment, part, table } from "../dom.js";
import { readForm } from "../form.js";
import { JobRunner } from "../job-runner.js";

export function mount(root, page) {
  const tab = { root, chosen: new Set(), steps: [] };
  const runner = new JobRunner(root, page, "bench", {
    body: () => {
      tab.steps = [];
      return readForm(root.querySelector("form")).bench;
    },
    progress: (progress) => showProgress(tab, progress),
    ended: (job, isOld) => ended(tab, job, isOld),
  });
  runner.resume();
  refreshHistory(tab);
}

/** What was begun, and how long it took. */
function showProgress({ root, steps }, { phase, details }) {
  const doing = details?.doing ?? phase;
  if (steps.at(-1)?.doing !== doing) steps.push({ doing, at_ms: performance.now() });
  const ends = [...steps.slice(1).map(({ at_ms }) => at_ms), performance.now()];
  const rows = steps.map((step, place) => make("li", {}, `${step.doing} · ${fixed((ends[place] - step.at_ms) / 1000, 1)} s`));
  part(root, "rows").replaceChildren(make("ol", { className: "quiet steps" }, ...rows));
}

function ended(tab, job, isOld) {
  part(tab.root, "rows").replaceChildren();
  if (isOld || job.state !== "done") return;
  const speed = job.facts.summary?.it_per_s?.median;
  if (speed) toast(say("bench.done", { speed: fixed(speed) }));
  refreshHistory(tab);
}

async function refreshHistory(tab) {
  const found = await shown(() => call("/ui/bench/measurements?limit=100"));
  if (!found) return;
  for (const note of found.notes) toast(note);
  const place = part(tab.root, "history");
  const rows = found.measurements;
  if (!rows.length) return place.replaceChildren(make("p", { className: "empty" }, place.dataset.none));
  const most = Math.max(...rows.map(({ it_per_s }) => it_per_s?.high ?? it_per_s?.median ?? 0)) || 1;
  const titles = ["number", "when", "work", "setting", "speed", "images", "first", "peak", "likeness"].map((name) => say(`bench.${name}`));
  return place.replaceChildren(table(titles, rows.map((row) => cellsOf(tab, row, most))));
}

function cellsOf(tab, row, most) {
  const box = make("input", { type: "checkbox", checked: tab.chosen.has(row.id), "aria-label": say("bench.choose", { number: row.id }), onchange: () => choose(tab, row.id, box.checked) });
  const speed = row.it_per_s;
  const psnr = row.psnr_db === null ? say("tune.identical") : `${fixed(row.psnr_db, 1)} dB`;
  return [
    make("label", { className: "inline" }, box, ` ${row.id}`),
    moment(row.at),
    row.work,
    row.lacking.length ? make("span", { className: "stale" }, `${row.setting} ⚠ ${row.lacking.join("; ")}`) : row.setting,
    speed && make("div", { className: "speed" }, speedBar(speed, most), make("span", {}, `${fixed(speed.median)} `, make("span", { className: "quiet" }, `(${fixed(speed.low)}–${fixed(speed.high)})`))),
    fixed(row.images_per_minute?.median, 1),
    row.first_s === null ? "–" : `${fixed(row.first_s, 1)} s`,
    bytes(row.peak_bytes),
    row.is_compared ? psnr : say("not compared"),
  ];
}

/** The report is of the chosen measurements. */
function choose({ root, chosen }, id, isChosen) {
  if (isChosen) chosen.add(id);
  else chosen.delete(id);
  const query = new URLSearchParams([...chosen].map((each) => ["number", each]));
  part(root, "report").href = at(`/ui/bench/report${chosen.size ? `?${query}` : ""}`);
}
