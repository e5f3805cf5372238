// img2img: the picture and its mask are handed in first; the job names them.

import "../canvas.js";
import { Refused, call, say, toast } from "../api.js";
import { setValue } from "../form.js";
import { fileOf } from "../sending.js";
import { PictureTab } from "./picture.js";

/** img2img: pictures from a picture, or from a part of one. */
class ImageToImageTab extends PictureTab {
  constructor(root, page) {
    const canvas = root.querySelector("hayate-canvas");
    super(root, page, { isOwn: (record) => Boolean(record.body.request?.start), starts: () => starts(canvas) });
    this.canvas = canvas;
    canvas.addEventListener("picture", () => this.showSize(canvas.image?.width, canvas.image?.height));
    document.addEventListener("paste", (event) => {
      if (!root.hidden && !event.defaultPrevented) canvas.loadAll(event.clipboardData.files);
    });
  }

  /** Takes a picture of another tab, with its prompt where there is none yet. */
  async receive(picture, where) {
    await this.canvas.load(await fileOf(picture));
    if (!this.prompt.value) {
      const [prompt, negative] = promptsOf(picture.infotext ?? "");
      setValue(this.prompt, prompt);
      setValue(this.negative, negative);
    }
    this.canvas.layer.value = "mask";
    if (where === "inpaint") this.root.querySelector("[data-group=mask] > details").open = true;
    toast(say("picture received"));
  }
}

/** Hands in the pictures and the mask; what they are called is what the jobs start from, one for each picture. */
async function starts(canvas) {
  const content = await canvas.content();
  if (!content) throw new Refused(422, { message: say("no start picture") });
  const mask = content.mask && (await handIn(content.mask));
  const made = [];
  for (const each of [content.picture, ...content.others])
    made.push({ path: await handIn(each), ...(mask && { mask }) });
  return made;
}

const handIn = async (picture) => (await call("/v1/images", { method: "POST", raw: picture })).name;

/** Prompt and negative prompt of a picture's parameters. */
function promptsOf(infotext) {
  const text = infotext.replace(/\n?Steps: [^\n]*$/, "");
  const [prompt, negative = ""] = text.split(/\n?Negative prompt: /);
  return [prompt, negative];
}

export const mount = (root, page) => new ImageToImageTab(root, page);
