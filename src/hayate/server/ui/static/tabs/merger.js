// Checkpoint Merger: the form as a recipe, used at once or written to a file.

import { call, Refused, say, shown, toast } from "../api.js";
import { mergeWays } from "../block-weights.js";
import { act, make, part } from "../dom.js";
import { control, debounce, readForm, refreshLists, setValue } from "../form.js";
import { JobRunner } from "../job-runner.js";

const ALONE = "none";

export async function mount(root, page) {
  const form = root.querySelector("form");
  const ways = await mergeWays();
  const methods = new Map(ways.methods.map((each) => [each.id, each]));
  const merger = { form, methods, expression: "" };
  const update = debounce(() => describe(merger), 250);
  const follow = () => {
    fit(merger);
    update();
  };
  form.addEventListener("input", follow);
  form.addEventListener("change", follow);
  act(form, "copy").addEventListener("click", () => shown(() => copy(merger)));
  act(form, "live").addEventListener("click", () => useLive(merger, page));
  act(form, "read").addEventListener("click", () => shown(() => readRecipe(form)));
  const runner = new JobRunner(form, page, "merge", { body: () => jobOf(merger), ended: (job, isOld) => isOld || finished(form, job) });
  fit(merger);
  describe(merger);
  runner.resume();
}

/** Shows what the method takes, and hides the rest. */
function fit({ form, methods }) {
  const chosen = control(form, "merge.method").value;
  const method = methods.get(chosen) ?? { fewest_models: 1, most_models: 1, ratios: 0, calcs: ["normal"], options: {} };
  for (const [place, name] of ["a", "b", "c"].entries()) hide(control(form, `merge.${name}`), place >= Math.max(method.most_models, 1));
  const calc = control(form, "merge.calc");
  for (const option of calc.options) option.hidden = option.disabled = !method.calcs.includes(option.value);
  if (!method.calcs.includes(calc.value)) calc.value = method.calcs[0];
  hide(calc, method.calcs.length < 2);
  hide(control(form, "merge.alpha"), method.ratios < 1 || hasBase(form, "alpha"));
  hide(control(form, "merge.beta"), method.ratios < 2 || hasBase(form, "beta"));
  for (const [group, ratios] of [["merge_blocks", 1], ["merge_blocks_beta", 2]]) form.querySelector(`[data-group="${group}"]`).hidden = method.ratios < ratios;
  for (const each of form.querySelectorAll('[data-key^="merge.options."]')) hide(each, !acts(each.dataset.key.slice("merge.options.".length), chosen, calc.value, method));
  form.querySelector('[data-group="merge_options"]').hidden = ![...form.querySelectorAll('[data-key^="merge.options."]')].some((each) => isShown(form, each.dataset.key));
  for (const each of form.querySelectorAll("[data-method]")) if (each.dataset.method === chosen) part(form, "formula").textContent = each.textContent;
}

/** Whether block weights hold the base too: then the number beside them says nothing. */
function hasBase(form, ratio) {
  const field = control(form, `merge.blocks_${ratio}`);
  const text = field.closest("fieldset").disabled ? "" : field.value.trim();
  const count = text.split(",").length;
  return text !== "" && (/\bBASE\s*=/i.test(text) || !(text.includes("=") || count === 25 || count === 19));
}

/** Whether a further number acts: beta and gamma only in some calculation modes. */
function acts(option, method, calc, { options }) {
  if (!(option in options)) return false;
  if (option === "gamma") return calc === "extract";
  return option !== "beta" || ["extract", "tensor", "tensor2"].includes(calc);
}

const hide = (element, isHidden) => (element.closest(".control").hidden = isHidden);
const isShown = (form, key) => !control(form, key).closest(".control").hidden;

/** The form as /ui/merge/recipe takes it. */
function fieldsOf({ form, methods }) {
  const { merge } = readForm(form);
  const ratios = methods.get(merge.method)?.ratios ?? 0;
  const all = [
    { number: merge.alpha, blocks: merge.blocks_alpha ?? "", rules: merge.rules ?? "" },
    { number: merge.beta, blocks: merge.blocks_beta ?? "" },
  ];
  const options = Object.entries(merge.options ?? {}).filter(([name]) => isShown(form, `merge.options.${name}`));
  return {
    method: merge.method,
    calc: merge.method === ALONE ? "normal" : merge.calc,
    models: ["a", "b", "c"].map((name) => (isShown(form, `merge.${name}`) ? (merge[name] ?? "") : "")),
    ratios: all.slice(0, ratios),
    options: Object.fromEntries(options),
    loras: lorasOf(merge.loras ?? ""),
  };
}

/** LoRAs one a line, `name:0.8`; the last colon counts where a number follows it. */
function lorasOf(text) {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line) => {
      const found = /^(.*?)\s*:\s*(-?[\d.]+)$/.exec(line);
      return found ? { name: found[1], strength: Number(found[2]) } : { name: line, strength: 1 };
    });
}

/** Asks for the recipe that the form is, and shows it or what is wrong with it. */
async function describe(merger) {
  const { form } = merger;
  const asked = fieldsOf(merger);
  merger.asked = asked;
  const isBegun = asked.models.some(Boolean) || asked.loras.length > 0;
  part(form, "problem").className = isBegun ? "hint" : "quiet";
  let found = { expression: "", problem: "" };
  try {
    if (isBegun) found = await call("/ui/merge/recipe", { method: "POST", body: asked });
    found.problem = isBegun ? "" : say("merge.begin");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    found.problem = error.hint ? `${error.message} (${error.hint})` : error.message;
  }
  if (merger.asked !== asked) return; // another change was faster
  merger.expression = found.expression;
  part(form, "recipe").textContent = found.expression;
  part(form, "problem").textContent = found.problem;
  for (const name of ["copy", "live"]) act(form, name).disabled = !found.expression;
}

async function jobOf(merger) {
  await describe(merger);
  const { form } = merger;
  if (!merger.expression) {
    toast(part(form, "problem").textContent, "", "error");
    return undefined;
  }
  const { merge } = readForm(form);
  if (!merge.output_name?.trim()) {
    toast(say("merge.unnamed"), say("merge.unnamed.hint"), "error");
    control(form, "merge.output_name").focus();
    return undefined;
  }
  return { recipe: merger.expression, output_name: merge.output_name.trim(), dtype: merge.dtype, ...(merge.vae ? { vae: merge.vae } : {}) };
}

function finished(form, job) {
  part(form, "notes").replaceChildren(...(job.notes.length ? [make("ul", { className: "notes" }, ...job.notes.map((note) => make("li", {}, note)))] : []));
  if (job.state !== "done") return;
  toast(say("merge.done", { name: job.facts.name ?? job.body.output_name }));
  refreshLists();
}

async function copy({ expression }) {
  await navigator.clipboard.writeText(expression);
  toast(say("copied"));
}

function useLive({ expression }, page) {
  setValue(control(page.top, "request.model"), expression);
  toast(say("merge.used"));
}

/** Shows the recipe that model A was made by. */
async function readRecipe(form) {
  const model = control(form, "merge.a").value;
  if (!model) return toast(part(form, "problem").textContent, "", "error");
  const { expression, recipe } = await call(`/ui/merge/recipe?${new URLSearchParams({ model })}`);
  if (!recipe) return toast(say("merge.no recipe", { name: model }));
  const text = expression ?? JSON.stringify(recipe, null, 1);
  return part(form, "notes").replaceChildren(make("pre", { className: "card", tabIndex: 0 }, text));
}
