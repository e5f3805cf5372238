import { mountPicture, showSize } from "./picture.js";

/** txt2img: pictures from a prompt alone. */
export function mount(root, page) {
  const tab = mountPicture(root, page, { isOwn: (record) => !record.body.request?.start });
  const show = ({ detail }) => showSize(tab.form, detail.size_px, detail.size_px);
  document.addEventListener("hayate:model", show);
  const known = Number(document.documentElement.dataset.nativeSize);
  if (known) showSize(tab.form, known, known);
  return { ...tab, receive: (picture) => tab.fill(picture) };
}
