// Bench: measurements of this machine, one at a time, and those that were made before.

import { call, say, shown, toast } from "../api.js";
import { speedBar } from "../charts.js";
import { bytes, fixed, make, part, table } from "../dom.js";
import { readForm } from "../form.js";
import { JobRunner } from "../job-runner.js";

export function mount(root, page) {
  const tab = { root, chosen: new Set(), phases: [] };
  const runner = new JobRunner(root, page, "bench", {
    body: () => {
      tab.phases = [];
      return readForm(root.querySelector("form")).bench;
    },
    progress: (progress) => showProgress(tab, progress),
    ended: (job, isOld) => ended(tab, job, isOld),
  });
  runner.resume();
  refreshHistory(tab);
}

/** The runs that are known, or else what was begun and when. */
function showProgress({ root, phases }, { phase, details }) {
  const rows = details?.rows ?? [];
  if (phases.at(-1)?.phase !== phase) phases.push({ phase, at: performance.now() });
  const place = part(root, "rows");
  if (rows.length) {
    const names = [...new Set(rows.flatMap(Object.keys))];
    place.replaceChildren(table([say("bench.run"), ...names], rows.map((row, run) => [String(run + 1), ...names.map((name) => (typeof row[name] === "number" ? fixed(row[name], 3) : String(row[name] ?? "–")))])));
  } else {
    const seconds = phases.map(({ at }, place_) => ((phases[place_ + 1]?.at ?? performance.now()) - at) / 1000);
    place.replaceChildren(make("ol", { className: "quiet" }, ...phases.map((each, place_) => make("li", {}, `${each.phase} · ${fixed(seconds[place_], 1)} s`))));
  }
}

function ended(tab, job, isOld) {
  part(tab.root, "rows").replaceChildren();
  if (isOld || job.state !== "done") return;
  const speed = job.facts.summary?.it_per_s?.median ?? job.facts.measurement?.summary?.it_per_s?.median;
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
    new Date(row.at).toLocaleString(document.documentElement.lang),
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
  part(root, "report").href = `/ui/bench/report${chosen.size ? `?${query}` : ""}`;
}
