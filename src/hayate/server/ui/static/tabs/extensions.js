// Extensions: what others add, what it takes, and a switch for each.

import { call, say, shown, toast } from "../api.js";
import { act, fixed, make, part, table } from "../dom.js";

export async function mount(root) {
  act(root, "refresh").addEventListener("click", () => shown(() => load(root)));
  await shown(() => load(root));
}

async function load(root) {
  const rows = await call("/v1/extensions");
  const titles = [
    say("extensions.name"),
    say("extensions.on"),
    say("extensions.adds"),
    say("extensions.import"),
    say("extensions.hooks"),
    say("extensions.about"),
  ];
  part(root, "list").replaceChildren(table(titles, rows.map((each) => row(root, each))));
}

function row(root, each) {
  const origin = make("span", { className: "quiet" }, say(`extensions.origin.${each.origin}`));
  return [
    make("span", {}, make("b", {}, each.name), ` ${each.version} `, origin),
    each.state === "unusable" ? "–" : switchOf(root, each),
    each.hooks.join(", "),
    each.last_at_s ? `${fixed(each.import_s)} s` : "–",
    each.last_at_s ? `${fixed(each.hook_s)} s` : "–",
    each.problem ? make("span", { className: "bad" }, each.problem) : each.summary,
  ];
}

function switchOf(root, { name, state }) {
  const label = say("extensions.switch", { name });
  const box = make("input", { type: "checkbox", role: "switch", checked: state === "on", "aria-label": label });
  box.addEventListener("change", () =>
    shown(async () => {
      const isOn = box.checked;
      try {
        await call(`/v1/extensions/${encodeURIComponent(name)}`, { method: "PATCH", body: { is_on: isOn } });
        toast(isOn ? say("extensions.is on", { name }) : say("extensions.is off", { name }));
      } finally {
        await load(root);
      }
    }),
  );
  return box;
}
