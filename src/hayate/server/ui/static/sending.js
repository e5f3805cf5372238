// From one tab to another: a picture, or the parameters that one was made from.

import { call } from "./api.js";

/** Gives a picture ({url or file, name, infotext?}) to the tab `where`. */
export async function sendPicture(page, where, picture) {
  const target = await page.open(where === "inpaint" ? "img2img" : where);
  await target?.receive?.(picture, where);
}

/** Puts parameters into the fields of txt2img. */
export async function sendParameters(page, text) {
  const filled = await call("/ui/paste", { method: "POST", body: { text } });
  const target = await page.open("txt2img");
  target?.fill?.(filled);
}

/** The file of a picture that came from another tab. The policy lets nobody fetch an address that begins with blob:. */
export async function fileOf({ file, url, name = "picture.png" }) {
  if (file) return file;
  const blob = await (await fetch(url)).blob();
  return new File([blob], name, { type: blob.type });
}
