// Talks to the server: JSON in, JSON out, and failures as the server explains them.

const strings = JSON.parse(document.getElementById("strings").textContent);

/** The string `key` in the page's language, with `{names}` put in. */
export function say(key, values = {}) {
  const text = strings[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** What the server refused, in its own words. */
export class Refused extends Error {
  constructor(status, { error = "", message = "", hint = "" }) {
    super(message || `HTTP ${status}`);
    Object.assign(this, { status, type: error, hint });
  }
}

/** An address of the server's, from the page on: a proxy may have it below a path of its own. */
export const at = (address) => address.replace(/^\//, "");

/** The server's answer to a request; throws Refused, or TypeError where there is no server. */
export async function call(path, { method = "GET", body, raw, headers = {}, signal } = {}) {
  const options = { method, headers: { ...headers }, signal };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  } else if (raw !== undefined) {
    options.body = raw;
    options.headers["Content-Type"] ??= raw.type || "application/octet-stream";
  }
  const response = await fetch(at(path), options);
  const isJson = (response.headers.get("Content-Type") ?? "").includes("json");
  const answer = isJson ? await response.json() : await response.text();
  if (!response.ok)
    throw new Refused(response.status, isJson ? explained(answer) : { message: `${answer}`.slice(0, 300) });
  return answer;
}

/** The server's own words for a failure, also where the framework refused the form of the request. */
function explained(answer) {
  if (!Array.isArray(answer.detail)) return answer;
  return { error: "Invalid", message: answer.detail.map((each) => `${each.loc?.join(".")}: ${each.msg}`).join("; ") };
}

/** Shows a line for a while; failures stay until they are closed. */
export function toast(message, hint = "", kind = "info") {
  const box = document.createElement("div");
  box.className = `toast ${kind}`;
  box.role = kind === "error" ? "alert" : "status";
  const line = document.createElement("p");
  line.textContent = message;
  box.append(line);
  if (hint) {
    const small = document.createElement("p");
    small.className = "hint";
    small.textContent = hint;
    box.append(small);
  }
  const close = document.createElement("button");
  close.type = "button";
  close.className = "icon";
  close.textContent = "×";
  close.ariaLabel = say("close");
  close.onclick = () => box.remove();
  box.append(close);
  const shelf = document.getElementById("toasts");
  // What is said already is said anew, not twice: a server that is away fails many calls at once.
  for (const other of [...shelf.children]) if (other.textContent === box.textContent) other.remove();
  shelf.append(box);
  if (kind !== "error") setTimeout(() => box.remove(), 5000);
}

/** Takes away what was said to have gone wrong: something new is tried. */
export function forgetFailures() {
  for (const box of document.querySelectorAll("#toasts .error")) box.remove();
}

/** Runs `work`; what goes wrong is shown, and undefined comes back. */
export async function shown(work) {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Refused) toast(error.message, error.hint, "error");
    else if (error instanceof TypeError && /fetch|network|load failed/i.test(error.message))
      toast(say("no answer"), say("no answer.hint"), "error");
    else if (error.name !== "AbortError") {
      toast(String(error.message ?? error), "", "error");
      console.error(error);
    }
    return undefined;
  }
}
