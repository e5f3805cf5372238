import { mountPicture } from "./picture.js";

/** txt2img: pictures from a prompt alone. */
export function mount(root, page) {
  const tab = mountPicture(root, page, { isOwn: (record) => !record.body.request?.start });
  return { ...tab, receive: (picture) => tab.fill(picture) };
}
