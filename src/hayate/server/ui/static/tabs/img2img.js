import { mountPicture } from "./picture.js";

/** img2img: pictures from a picture, or from a part of one. */
export function mount(root, page) {
  return mountPicture(root, page, { isOwn: (record) => Boolean(record.body.request?.start) });
}
