// What txt2img and img2img have in common: from the fields to a job, and from a job to its pictures.

import { call, say, shown, toast } from "../api.js";
import { Cards } from "../cards.js";
import { listen, status } from "../events.js";
import { control, fillForm, setValue, valueOf } from "../form.js";
import { Jobs } from "../jobs.js";
import { livenPrompts } from "../prompt.js";
import { Results } from "../results.js";
import { Styles } from "../styles.js";

const AXES = ["x", "y", "z"];

/** Makes a picture tab alive. `start()` gives what a job starts from, `isOwn(record)` says whether a job that was found
 * running is this tab's. */
export function mountPicture(root, page, { start = async () => undefined, isOwn }) {
  const form = root.querySelector("form");
  const tab = form.dataset.tab;
  const results = new Results(root.querySelector(".results"), {
    onSend: (where, picture) => send(page, where, picture),
  });
  const styles = new Styles(form);
  const prompt = control(form, "request.prompt");
  const cards = new Cards(root.querySelector(".cards"), { prompt, negative: control(form, "request.negative_prompt") });
  const jobs = new Jobs(tab, {
    changed: () => showState(form, jobs, results),
    progress: (id, progress) => id === jobs.running && results.progress(progress),
    preview: (id, url) => id === jobs.running && results.preview(url),
    ended: (record) => results.show(record),
  });

  const fill = (pasted) => fillPasted(form, page.top, pasted);
  const read = (file) => shown(async () => fill(await pastePicture(file)));
  const generate = () =>
    shown(async () => {
      const body = bodyOf(page.read(form), await start());
      results.begin();
      if (!(await jobs.submit("generate", body))) showState(form, jobs, results);
    });

  form.addEventListener("submit", generate);
  const acts = {
    interrupt: () => jobs.interrupt(),
    skip: () => jobs.skip(),
    read: () => shown(async () => fill(await pasteText(prompt.value, results))),
    clear: () => ["request.prompt", "request.negative_prompt"].forEach((key) => setValue(control(form, key), "")),
    cards: (button) => cards.toggle(button),
    swap: () => swap(form),
  };
  for (const [act, run] of Object.entries(acts))
    form.querySelector(`[data-act=${act}]`)?.addEventListener("click", (event) => run(event.currentTarget));
  livenSeeds(form, results);
  livenPrompts(form, { read, styles: () => styles.chosen, steps: () => valueOf(control(form, "request.steps")) ?? 20 });
  livenKeys(root, { generate: () => form.requestSubmit(), interrupt: () => jobs.running && jobs.interrupt() });
  showState(form, jobs, results);
  listen(({ kind }) => kind === "open" && find(jobs, isOwn));
  find(jobs, isOwn);
  return { form, fill, results, jobs };
}

/** A job that runs and that this browser knows nothing of: the page was opened anew, or elsewhere. */
async function find(jobs, isOwn) {
  let running = [];
  try {
    const state = await status();
    if (state.running_kind === "generate" && state.running)
      running = isOwn(await call(`/v1/jobs/${state.running}`)) ? [state.running] : [];
  } catch {
    return; // the footer says that the server is away
  }
  await jobs.attach(running);
}

/** The body of a job from what the form says. */
export function bodyOf(values, start) {
  const body = structuredClone(values);
  const { request } = body;
  request.prompt ??= "";
  if (start) {
    const sides = request.start?.extend_px;
    request.start = { ...request.start, ...start };
    if (sides) request.start.extend_px = [0, 1, 2, 3].map((place) => sides[place] ?? 0);
  } else delete request.start;
  if (body.script) body.script = scriptOf(body.script);
  if (!body.script) delete body.script;
  return body;
}

/** A script's part of the body; the axes of a plot are texts there: "Steps=10,20". */
function scriptOf(script) {
  if (!script.name) return undefined;
  const made = { ...script };
  for (const axis of AXES) {
    if (!made[axis]) continue;
    if (made[axis].axis) made[axis] = `${made[axis].axis}=${made[axis].values ?? ""}`;
    else delete made[axis];
  }
  return made;
}

function showState(form, jobs, results) {
  const act = (name) => form.querySelector(`[data-act=${name}]`);
  act("generate").disabled = false;
  act("interrupt").disabled = !jobs.count;
  act("skip").disabled = !jobs.running;
  act("generate").querySelector("output").textContent =
    jobs.count > 1 || (jobs.waiting && jobs.running) ? say("in queue", { count: jobs.count }) : "";
  form.setAttribute("aria-busy", String(Boolean(jobs.count)));
  if (jobs.count) results.begin();
  else results.idle();
}

function livenSeeds(form, results) {
  for (const button of form.querySelectorAll("[data-act=seed-random], [data-act=seed-reuse]")) {
    const input = button.parentElement.querySelector("input");
    const name = input.dataset.key.endsWith("subseed") ? "subseed" : "seed";
    button.addEventListener("click", () =>
      setValue(input, button.dataset.act === "seed-random" ? -1 : (results.gallery.chosen?.[name] ?? input.value)),
    );
  }
}

function swap(form) {
  const [width, height] = ["request.width_px", "request.height_px"].map((key) => control(form, key));
  const [first, second] = [width.value, height.value];
  setValue(width, second);
  setValue(height, first);
}

/** Shows, where no size is asked for, the one that the job will take: in multiples of 8. */
export function showSize(form, width, height) {
  for (const [key, size] of [
    ["request.width_px", width],
    ["request.height_px", height],
  ]) {
    const input = control(form, key);
    input.placeholder = size ? Math.floor(size / 8) * 8 : say("auto");
    input.follow?.();
  }
}

function livenKeys(root, { generate, interrupt }) {
  document.addEventListener("keydown", (event) => {
    if (root.hidden || document.querySelector("dialog[open]")) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      generate();
    } else if (event.key === "Escape" && !event.defaultPrevented) interrupt();
  });
}

/** The parameters of a picture's file. */
async function pastePicture(file) {
  const { name } = await call("/v1/images", { method: "POST", raw: file });
  return call("/ui/paste", { method: "POST", body: { image: name } });
}

/** The parameters in a text; with an empty one those of the picture that is shown. */
async function pasteText(text, results) {
  const shownText = text.trim() || results.gallery.chosen?.infotext || "";
  return call("/ui/paste", { method: "POST", body: { text: shownText } });
}

/** Puts pasted parameters into the fields, and says what of them can't be honoured. */
export function fillPasted(form, top, { values, groups, notes }) {
  fillForm(form, values, groups);
  fillForm(top, values);
  for (const note of notes.slice(0, 8)) toast(note);
  if (!notes.length) toast(say("parameters read"));
}

/** Gives a picture to another tab. */
export async function send(page, where, picture) {
  const target = await page.open(where === "inpaint" ? "img2img" : where);
  await target?.receive?.(picture, where);
}
