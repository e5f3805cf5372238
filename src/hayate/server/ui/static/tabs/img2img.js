import { mountPicture } from "./picture.js";

export const mount = (root, page) => mountPicture(root, page);
