// What txt2img and img2img have in common.

/** Makes a picture tab alive. */
export function mountPicture(root, page) {
  return { root, page };
}
