// img2img: the picture and its mask are handed in first; the job names them.

import "../canvas.js";
import { Refused, call, say, toast } from "../api.js";
import { control } from "../form.js";
import { mountPicture, showSize } from "./picture.js";

/** img2img: pictures from a picture, or from a part of one. */
export function mount(root, page) {
  const canvas = root.querySelector("hayate-canvas");
  const tab = mountPicture(root, page, {
    isOwn: (record) => Boolean(record.body.request?.start),
    start: () => start(canvas),
  });
  canvas.addEventListener("picture", () => showSize(tab.form, canvas.image?.width, canvas.image?.height));
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
    if (!root.hidden && file && !event.defaultPrevented) canvas.load(file);
  });
  return { ...tab, canvas, receive: (picture, where) => receive({ ...tab, canvas, root }, picture, where) };
}

/** Hands in the picture and its mask; what they are called is what the job starts from. */
async function start(canvas) {
  const content = await canvas.content();
  if (!content) throw new Refused(422, { message: say("no start picture") });
  const [picture, mask] = await Promise.all(
    [content.picture, content.mask].map((each) => each && call("/v1/images", { method: "POST", raw: each })),
  );
  return { path: picture.name, ...(mask && { mask: mask.name }) };
}

/** Takes a picture of another tab, with its prompt. */
async function receive({ canvas, form, root }, picture, where) {
  const response = await fetch(picture.url);
  await canvas.load(await response.blob());
  const [prompt, rest = ""] = (picture.infotext ?? "").split(/\n(?=Negative prompt: )/);
  if (!control(form, "request.prompt").value) {
    control(form, "request.prompt").value = prompt.replace(/\nSteps: [^\n]*$/, "");
    control(form, "request.negative_prompt").value = rest
      .replace(/^Negative prompt: /, "")
      .replace(/\n?Steps: [^\n]*$/, "");
  }
  canvas.layer.value = "mask";
  if (where === "inpaint") root.querySelector("[data-group=mask] > details").open = true;
  toast(say("picture received"));
}
