// Extras: pictures made larger, one or many.

import { at, call, say, shown, toast } from "../api.js";
import { make, part } from "../dom.js";
import { readForm } from "../form.js";
import "../gallery.js";
import { JobRunner } from "../job-runner.js";
import "../picture-drop.js";
import { fileOf, sendPicture } from "../sending.js";

const AT_ONCE = 3;

export function mount(root, page) {
  const form = root.querySelector("form");
  const drop = root.querySelector("picture-drop");
  const results = livenResults(root, page);
  const runner = new JobRunner(form, page, "upscale", {
    body: () => bodyOf(form, drop.files),
    ended: (job) => results.show(job),
  });
  runner.resume(true);
  return {
    /** Takes a picture of another tab. */
    async receive(picture) {
      const file = await fileOf(picture);
      drop.empty();
      drop.take([file]);
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

/** The pictures that came of it, one of them large. */
function livenResults(root, page) {
  const gallery = root.querySelector("hayate-gallery");
  const about = part(root, "about");
  gallery.addEventListener("choose", ({ detail: { name, width_px, height_px } }) => {
    part(root, "name").textContent = `${name} · ${width_px} × ${height_px} px`;
  });
  for (const button of about.querySelectorAll("[data-send]")) button.addEventListener("click", () => shown(() => sendPicture(page, button.dataset.send, gallery.chosen)));
  return {
    show({ pictures, notes }) {
      if (!pictures.length) return;
      about.hidden = false;
      part(root, "empty").hidden = true;
      part(root, "notes").replaceChildren(...notes.map((note) => make("li", {}, note)));
      const places = ({ url }) => ({ url: at(url), thumb: at(`${url}?thumb=128`) });
      gallery.show(pictures.map((each) => ({ ...each, ...places(each), alt: each.name })));
    },
  };
}
