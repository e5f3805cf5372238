// One finding of the doctor's as a card: what was found, why it matters, what it would gain, and what to do.

import { say } from "./api.js";
import { draw, make } from "./dom.js";

/** A check's name in the page's language. */
export const nameOf = (check) => say(`doctor.check.${check}`);

/** The card; `press(check)` does the fix where one can be done from here, `copy(command)` takes a command along. */
export function findingCard(finding, { press, copy }) {
  const { check, severity, found, why, gain, fix } = finding;
  const source = gain.source ? `: ${gain.source}` : "";
  const rows = [
    [say("doctor.why"), english(why)],
    [say("doctor.gain"), make("span", {}, `${say(`doctor.kind.${gain.kind}`)}: `, english(gain.text))],
    [say("doctor.sure"), make("span", {}, say(`doctor.certainty.${gain.certainty}`), english(source))],
    [say("doctor.fix"), make("span", {}, english(fix.text), fix.needs && english(` (${say("doctor.needs", { what: fix.needs })})`))],
  ];
  return make(
    "article",
    { className: `card finding ${severity}`, data: { check } },
    make("div", { className: "row" }, make("span", { className: "severity" }, say(`doctor.severity.${severity}`)), make("h3", { tabIndex: -1 }, nameOf(check))),
    make("p", { className: "found" }, english(found)),
    make("dl", {}, ...rows.flatMap(([title, words]) => [make("dt", {}, title), make("dd", {}, words)])),
    fix.command && commandLine(fix.command, copy),
    finding.is_fixable && press && offer(finding, press),
  );
}

/** What the doctor wrote, in English; what stands between backquotes is code. */
export function english(text) {
  const parts = text.split("`").map((each, place) => (place % 2 ? make("code", {}, each) : each));
  return make("span", { lang: "en" }, ...parts);
}

function commandLine(command, copy) {
  const label = say("doctor.copy");
  const icon = draw("svg", { class: "i", "aria-hidden": "true" }, draw("use", { href: "#i-copy" }));
  return make(
    "div",
    { className: "command" },
    make("code", { lang: "en", tabIndex: 0 }, command),
    make("button", { type: "button", className: "icon", title: label, "aria-label": `${label}: ${command}`, onclick: () => copy(command) }, icon),
  );
}

/** What the button does and how that is undone stands before the button. */
function offer({ check, fix }, press) {
  const jobs = [...new Set(fix.actions.map((each) => each.job))];
  return make(
    "details",
    { className: "panel" },
    make("summary", {}, say("doctor.here")),
    make(
      "div",
      { className: "body" },
      make("p", {}, `${say("doctor.here.title")}:`),
      make("ul", { className: "notes" }, ...fix.actions.map(({ job, subject, value }) => make("li", {}, say(`doctor.do.${job}`, { subject, value })))),
      make("p", { className: "quiet" }, jobs.map((job) => say(`doctor.back.${job}`)).join(" ")),
      make("button", { type: "button", className: "primary", data: { act: "fix" }, onclick: () => press(check) }, say("doctor.press", { name: nameOf(check) })),
    ),
  );
}
