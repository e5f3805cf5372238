// Jobs of one tab: handed in, watched, ended. What a reload interrupts is found again.

import { at, call, forgetFailures, shown, toast } from "./api.js";
import { listen } from "./events.js";

const STORE = "hayate.jobs.";
const ENDED = ["done", "failed", "cancelled"];

/** The jobs that a tab handed in and that have not ended, oldest first; tells `on.changed`, `on.progress(job, progress)`,
 * `on.preview(job, url)` and `on.ended(record)`. */
export class Jobs {
  constructor(tab, on) {
    Object.assign(this, { tab, on, ids: new Map(), strangers: new Set(), gone: new Set() });
    listen((event) => this.#hear(event));
  }

  /** Hands a job in; undefined where it was refused, which has been said. */
  async submit(kind, body) {
    forgetFailures();
    this.hasOpened = false;
    const record = await shown(() => call("/v1/jobs", { method: "POST", body: { kind, body, client: "page" } }));
    if (!record) return undefined;
    this.#take(record);
    // What happened to it before the answer came was told while nobody here knew the job.
    if (this.strangers.has(record.id) || this.hasOpened) await this.#refresh(record.id);
    this.strangers.clear();
    return record;
  }

  /** Finds the jobs again that this browser tab had handed in, and those named. */
  async attach(ids = []) {
    const known = new Set([...stored(this.tab), ...ids]);
    await Promise.all([...known].map((id) => this.#refresh(id)));
    this.#store();
  }

  /** The job that runs, if one of this tab's does. */
  get running() {
    return [...this.ids].find(([, state]) => state === "running")?.[0];
  }

  get count() {
    return this.ids.size;
  }

  get waiting() {
    return [...this.ids.values()].filter((state) => state === "queued").length;
  }

  /** Ends the running job, else the one that waits longest. */
  async interrupt() {
    const id = this.running ?? [...this.ids.keys()][0];
    if (id) await shown(() => call(`/v1/jobs/${id}`, { method: "DELETE" }));
  }

  /** Gives up the running job's current batch. */
  async skip() {
    if (this.running) await shown(() => call(`/v1/jobs/${this.running}/skip`, { method: "POST" }));
  }

  #take(record) {
    if (this.gone.has(record.id)) return undefined; // an answer that was overtaken by a later one
    if (ENDED.includes(record.state)) return this.#end(record);
    this.ids.set(record.id, record.state);
    this.#store();
    this.on.changed();
    if (record.progress) this.#progress(record.id, record.progress);
    return undefined;
  }

  async #refresh(id) {
    try {
      this.#take(await call(`/v1/jobs/${id}`));
    } catch (error) {
      if (error.status !== 404) return; // the server is away for a moment; it is asked again when it is back
      this.ids.delete(id);
      this.on.changed();
    }
  }

  #hear({ kind, job, data }) {
    if (kind === "open") {
      this.hasOpened = true; // what happened before it opened was told to nobody
      for (const id of this.ids.keys()) this.#refresh(id);
    }
    if (!this.ids.has(job)) {
      if (job) this.strangers.add(job);
      return;
    }
    if (kind === "started") {
      this.ids.set(job, "running");
      this.on.changed();
    } else if (kind === "queued") {
      this.ids.set(job, "queued"); // a crash has put it back
      this.on.changed();
    } else if (kind === "progress") this.#progress(job, data);
    else if (kind === "preview") this.on.preview(job, previewUrl(job, data));
    else if (ENDED.includes(kind)) this.#refresh(job);
  }

  #progress(job, progress) {
    if (this.ids.get(job) !== "running") {
      this.ids.set(job, "running");
      this.on.changed();
    }
    this.on.progress(job, progress);
    if (progress.preview) this.on.preview(job, previewUrl(job, progress));
  }

  /** An event and an answer may both bring the news. */
  #end(record) {
    if (this.gone.has(record.id)) return;
    this.gone.add(record.id);
    this.ids.delete(record.id);
    this.#store();
    this.on.changed();
    if (record.state === "failed") toast(record.failure.message, record.failure.hint, "error");
    this.on.ended(record);
  }

  #store() {
    sessionStorage.setItem(STORE + this.tab, JSON.stringify([...this.ids.keys()]));
  }
}

const previewUrl = (job, data) => at(`/v1/jobs/${job}/preview?n=${data.preview ?? data.number ?? Date.now()}`);

function stored(tab) {
  try {
    return JSON.parse(sessionStorage.getItem(STORE + tab) ?? "[]");
  } catch {
    return [];
  }
}
