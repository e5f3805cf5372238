import { PictureTab } from "./picture.js";

/** txt2img: pictures from a prompt alone. */
class TextToImageTab extends PictureTab {
  constructor(root, page) {
    super(root, page, { isOwn: (record) => !record.body.request?.start });
    document.addEventListener("hayate:model", ({ detail }) => this.showSize(detail.size_px, detail.size_px));
    const known = Number(document.documentElement.dataset.nativeSize);
    if (known) this.showSize(known, known);
  }
}

export const mount = (root, page) => new TextToImageTab(root, page);
