// One stream of the server's events for the whole page: browsers allow a host six connections, over all its tabs.

import { at, call } from "./api.js";

const KINDS = ["queued", "started", "progress", "preview", "done", "failed", "cancelled", "worker"];
const listeners = new Set();
let stream = null;
let retry_ms = 500;

/** Calls `listener(event)` with {kind, job, data} for whatever happens; kind `open` says that something may have been
 * missed. Returns what ends it. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Opens the stream, and again whenever it breaks; a hidden page leaves its place to others. */
export function connect() {
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
  if (!document.hidden) open();
}

function open() {
  if (stream) return;
  stream = new EventSource(at("/v1/events"));
  stream.onopen = () => {
    retry_ms = 500;
    tell({ kind: "open", job: "", data: {} });
  };
  for (const kind of KINDS) stream.addEventListener(kind, (message) => tell({ kind, ...parsed(message.data) }));
  stream.onerror = () => {
    tell({ kind: "lost", job: "", data: {} });
    if (stream?.readyState !== EventSource.CLOSED) return;
    close();
    setTimeout(() => document.hidden || open(), (retry_ms = Math.min(retry_ms * 2, 8000)));
  };
}

function close() {
  stream?.close();
  stream = null;
}

function parsed(text) {
  const data = JSON.parse(text);
  return { job: data.job ?? "", data: data.data ?? data };
}

function tell(event) {
  for (const listener of [...listeners]) listener(event);
}

/** What the workers are at, what runs and how much waits. */
export const status = () => call("/ui/status");
