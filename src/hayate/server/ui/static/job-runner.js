// A tab that does one job at a time: begins it, shows how far it is, ends it, and finds it again after a reload.

import { call, forgetFailures, say, shown, toast } from "./api.js";
import { act } from "./dom.js";

/**
 * Makes the run and stop buttons, and the bar, of `root` alive for jobs of `kind`.
 * `body()` gives the job's body, or undefined after it has said what is missing; `progress(progress, job)` and
 * `ended(job)` show what is known.
 */
export class JobRunner {
  constructor(root, page, kind, { body, progress = () => {}, ended = () => {} }) {
    Object.assign(this, { root, kind, body, progress, ended, id: null });
    this.box = root.querySelector(".job-bar");
    this.form = root.matches("form") ? root : root.querySelector("form");
    this.form.addEventListener("submit", () => this.start());
    act(root, "stop").addEventListener("click", () => this.stop());
    page.listen((event) => this.hear(event));
    this.show(null);
  }

  /** Takes up the job that runs or waits; else shows the last one that ended, where `shows_last`. */
  async resume(shows_last = false) {
    const found = await shown(() => call(`/v1/jobs?kind=${this.kind}&state=running&state=queued&limit=1`));
    if (found?.jobs.length) return this.take(found.jobs[0]);
    if (!shows_last) return undefined;
    const last = await shown(() => call(`/v1/jobs?kind=${this.kind}&state=done&state=cancelled&limit=1`));
    return last?.jobs.length && this.ended(last.jobs[0], true);
  }

  async start() {
    if (this.id) return undefined;
    forgetFailures();
    const body = await shown(() => this.body());
    if (!body) return undefined;
    const job = await shown(() => call("/v1/jobs", { method: "POST", body: { kind: this.kind, body, client: "page" } }));
    if (!job) return undefined;
    this.take(job);
    return this.id && this.ask(); // what was told before the answer came was told to nobody
  }

  stop() {
    return this.id && shown(() => call(`/v1/jobs/${this.id}`, { method: "DELETE" }));
  }

  take(job) {
    if (["done", "failed", "cancelled"].includes(job.state)) return this.finish(job);
    this.id = job.id;
    this.show(job.progress ?? { phase: job.state, share: 0 });
    if (job.progress) this.progress(job.progress, job.id);
    return undefined;
  }

  hear({ kind, job, data }) {
    if (!this.id || (kind !== "open" && job !== this.id)) return;
    if (kind === "progress") {
      this.show(data);
      this.progress(data, job);
    } else if (kind !== "preview" && kind !== "lost") this.ask();
  }

  async ask() {
    const id = this.id;
    const job = await shown(() => call(`/v1/jobs/${id}`));
    if (job && id === this.id) this.take(job);
  }

  finish(job) {
    this.id = null;
    this.show(null);
    if (job.state === "failed") toast(job.failure.message, job.failure.hint, "error");
    this.ended(job, false);
  }

  show(progress) {
    const isBusy = progress !== null;
    act(this.root, "run").disabled = isBusy;
    act(this.root, "stop").disabled = !isBusy;
    this.box.hidden = !isBusy;
    if (!isBusy) return;
    const bar = this.box.querySelector("progress");
    if (progress.share > 0) bar.value = progress.share;
    else bar.removeAttribute("value");
    const words = [progress.details?.doing ?? phaseOf(progress.phase)];
    if (progress.share > 0) words.push(`${Math.round(100 * progress.share)} %`);
    if (progress.eta_s > 0) words.push(say("job.left", { seconds: Math.ceil(progress.eta_s) }));
    this.box.querySelector("output").textContent = words.join(" · ");
  }
}

/** A phase in the page's language; of phases that have no string, the worker's own words. */
function phaseOf(phase) {
  const key = `phase.${phase}`;
  const text = say(key);
  return text === key ? phase : text;
}
