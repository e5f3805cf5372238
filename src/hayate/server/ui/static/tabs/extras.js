// Extras: pictures made larger, one or many.

import { call, say, shown, toast } from "../api.js";
import { make } from "../dom.js";
import { readForm } from "../form.js";
import { JobRunner } from "../job-runner.js";
import "../picture-drop.js";

const AT_ONCE = 3;

export function mount(root, page) {
  const form = root.querySelector("form");
  const drop = root.querySelector("picture-drop");
  const results = root.querySelector(".results");
  const runner = new JobRunner(form, page, "upscale", {
    body: () => bodyOf(form, drop.files),
    ended: (job) => showResults(results, job, page),
  });
  runner.resume(true);
  return {
    /** Takes a picture from another tab, by its address. */
    async take(url, name = "picture.png") {
      const blob = await (await fetch(url)).blob();
      drop.empty();
      drop.take([new File([blob], name, { type: blob.type })]);
    },
  };
}

async function bodyOf(form, files) {
  if (!files.length) {
    toast(say("extras.none"), say("extras.none.hint"), "error");
    return undefined;
  }
  const { by, ...fields } = readForm(form).upscale;
  if (by === "size") delete fields.scale;
  if (!fields.upscaler_2) delete fields.visibility_2;
  return { images: await uploaded(files), ...fields };
}

/** The server's names of the files, a few of which are sent at once. */
async function uploaded(files) {
  const names = new Array(files.length);
  let next = 0;
  const send = async () => {
    while (next < files.length) {
      const place = next++;
      names[place] = (await call("/v1/images", { method: "POST", raw: files[place] })).name;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, send));
  return names;
}

function showResults(place, job, page) {
  if (!job.pictures.length) return;
  const notes = job.notes.map((note) => make("li", {}, note));
  place.replaceChildren(
    make("ul", { className: "made" }, ...job.pictures.map((picture) => made(picture, page))),
    ...(notes.length ? [make("ul", { className: "notes quiet" }, ...notes)] : []),
  );
}

function made(picture, page) {
  const size = `${picture.width_px} × ${picture.height_px} px`;
  const image = make("img", { src: picture.url, alt: picture.name, width: picture.width_px, height: picture.height_px, loading: "lazy" });
  const send = make("button", { type: "button", onclick: () => shown(() => sendTo(page, "img2img", picture)) }, say("send.img2img"));
  const link = make("a", { href: picture.url, target: "_blank", rel: "noopener" }, image);
  return make("li", {}, link, make("div", { className: "row spread" }, make("span", { className: "quiet" }, `${picture.name} · ${size}`), send));
}

async function sendTo(page, tab, picture) {
  const opened = await page.open(tab);
  await opened?.take?.(picture.url, picture.name);
}
