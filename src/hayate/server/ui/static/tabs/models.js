// Models: what is in the folder, what is in a file, and files made smaller.

import { call, say, shown, toast } from "../api.js";
import { bytes, make, part, table } from "../dom.js";
import { control, readForm, refreshLists } from "../form.js";
import { JobRunner } from "../job-runner.js";

export function mount(root, page) {
  const form = root.querySelector("form[data-tab=models]");
  const runner = new JobRunner(form, page, "convert", { body: () => jobOf(form), ended: (job, isOld) => isOld || ended(root, form, job) });
  runner.resume();
  const alike = root.querySelector("form[data-tab=duplicates]");
  new JobRunner(alike, page, "duplicates", { body: () => ({}), ended: (job) => job.state === "done" && showAlike(alike, job.facts) }).resume();
  page.listen(({ kind }) => kind === "done" && !root.hidden && refresh(root));
  refresh(root);
}

function jobOf(form) {
  const { convert } = readForm(form);
  if (!convert.model) {
    toast(say("convert.none"), say("convert.none.hint"), "error");
    control(form, "convert.model").focus();
    return undefined;
  }
  const stem = convert.model.split("/").pop().replace(/\.[^.]*$/, "");
  return { ...convert, output_name: convert.output_name?.trim() || `${stem}-${convert.dtype === "keep" ? "pruned" : convert.dtype}` };
}

function ended(root, form, job) {
  part(form, "notes").replaceChildren(...job.notes.map((note) => make("li", {}, note)));
  if (job.state !== "done") return;
  toast(say("convert.done", { name: job.facts.name ?? job.body.output_name }));
  refreshLists();
  refresh(root);
}

async function refresh(root) {
  const found = await shown(() => call("/ui/checkpoints"));
  if (!found) return;
  const place = part(root, "list");
  const titles = [...["name", "family", "size", "state"].map((name) => say(`models.${name}`)), ""];
  const rows = found.map((model) => [model.name, model.family?.toUpperCase(), bytes(model.size_bytes), model.problem ? make("span", { className: "stale" }, model.problem) : say("models.sound"), looker(root, model)]);
  place.replaceChildren(rows.length ? table(titles, rows) : make("p", { className: "empty" }, place.dataset.none));
}

function looker(root, model) {
  if (!model.is_pickled && model.problem) return "";
  const [text, work] = model.is_pickled ? [say("models.scan"), () => scan(root, model)] : [say("models.inspect"), () => inspect(root, model)];
  return make("button", { type: "button", className: "small", "aria-label": `${text}: ${model.name}`, onclick: () => shown(work) }, text);
}

/** Files that hold the same numbers, and what one of each would save. */
function showAlike(form, { files, spare_bytes: spare, groups }) {
  const said = spare ? say("duplicates.spare", { files, size: bytes(spare) }) : say("duplicates.none", { files });
  const shared = ({ is_whole: isWhole, parts }) => (isWhole ? say("duplicates.whole") : parts.map((each) => say(`duplicates.${each}`)).join(", "));
  const rows = groups.map((group) => [shared(group), bytes(group.size_bytes), make("ul", { className: "notes" }, ...group.names.map((name) => make("li", {}, name)))]);
  const titles = [say("duplicates.same"), say("models.size"), say("duplicates.files")];
  part(form, "duplicates").replaceChildren(make("p", {}, said), ...(rows.length ? [table(titles, rows)] : []));
}

/** What a pickled file would import and call. */
async function scan(root, { name }) {
  const { verdict, is_harmless: isHarmless, imports, calls } = await call(`/ui/checkpoints/scan?${new URLSearchParams({ name })}`);
  const words = make("p", { className: isHarmless ? "" : "stale" }, say(`scan.${verdict}`), " · ", say("scan.calls", { count: calls }));
  show(root, name, words, make("pre", { tabIndex: 0 }, imports.join("\n")));
}

/** What a checkpoint is and holds, as the worker sees it. */
async function inspect(root, { name }) {
  const found = await call(`/v1/models/${name.split("/").map(encodeURIComponent).join("/")}`);
  const rows = Object.entries(found)
    .filter(([key, value]) => !["file", "parts", "config", "metadata", "merge_models"].includes(key) && value !== null && String(value) !== "")
    .map(([key, value]) => [key.replaceAll("_", " "), wordsOf(key, value)]);
  const parts = Object.entries(found.parts ?? {}).map(([part_, { size_bytes: size, tensors, dtypes }]) => [part_, `${bytes(size)}, ${tensors} tensors, ${[dtypes].flat().join(", ")}`]);
  show(root, name, table(["", ""], [...rows, ...parts]));
}

function wordsOf(key, value) {
  if (key === "size_bytes") return bytes(value);
  if (Array.isArray(value)) return value.length > 3 ? `${value.slice(0, 3).join(", ")} … (${value.length})` : value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function show(root, title, ...content) {
  part(root, "found").replaceChildren(make("section", { className: "card" }, make("h3", { className: "caption" }, title), ...content));
}
