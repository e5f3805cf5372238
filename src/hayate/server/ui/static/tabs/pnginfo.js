// PNG Info: what a picture says of itself, and where that can be sent.

import { call, say, shown } from "../api.js";
import { make, part, table } from "../dom.js";
import "../picture-drop.js";
import { fileOf, sendParameters, sendPicture } from "../sending.js";

export function mount(root, page) {
  const drop = root.querySelector("picture-drop");
  const place = part(root, "info");
  const empty = place.firstElementChild;
  drop.addEventListener("pictures", async ({ detail: [file] }) => {
    if (!file) return place.replaceChildren(empty);
    const info = await shown(async () => {
      const { name } = await call("/v1/images", { method: "POST", raw: file });
      return call(`/ui/picture-info?${new URLSearchParams({ name })}`);
    });
    if (info && drop.files[0] === file) place.replaceChildren(...described(info, file, page));
    return undefined;
  });
  return {
    /** Takes a picture of another tab. */
    async receive(picture) {
      drop.take([await fileOf(picture)]);
    },
  };
}

function described(info, file, page) {
  const size = make("p", { className: "quiet" }, `${file.name} · ${say("pnginfo.size", { format: info.format, width: info.width_px, height: info.height_px })}`);
  if (!info.parameters) return [size, make("p", { className: "empty" }, say("pnginfo.none")), ...others(info), senders(info, file, page)];
  const fields = [...(info.prompt ? [[say("prompt"), info.prompt]] : []), ...(info.negative_prompt ? [[say("negative prompt"), info.negative_prompt]] : []), ...info.fields];
  return [
    size,
    senders(info, file, page),
    section(say("pnginfo.parameters"), make("pre", { tabIndex: 0 }, info.parameters)),
    section(say("pnginfo.fields"), table(["", ""], fields)),
    ...others(info),
  ];
}

function others(info) {
  const texts = Object.entries(info.texts);
  return [
    ...(info.record ? [folded(say("pnginfo.record"), make("pre", { tabIndex: 0 }, JSON.stringify(info.record, null, 1)))] : []),
    ...(texts.length ? [folded(say("pnginfo.texts"), table(["", ""], texts))] : []),
  ];
}

const section = (title, content) => make("section", { className: "card" }, make("h3", { className: "caption" }, title), content);
const folded = (title, content) => make("details", { className: "panel" }, make("summary", {}, title), make("div", { className: "body" }, content));

function senders(info, file, page) {
  const button = (where, work) => make("button", { type: "button", onclick: () => shown(work) }, say(`send.${where}`));
  const give = (where) => sendPicture(page, where, { file, name: file.name, infotext: info.parameters ?? "" });
  return make(
    "div",
    { className: "row" },
    info.parameters && button("txt2img", () => sendParameters(page, info.parameters)),
    button("img2img", () => give("img2img")),
    button("extras", () => give("extras")),
  );
}
