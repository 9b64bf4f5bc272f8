// Links that replay: #prompt=ID&seed=S&actions=CODExCOUNT.CODExCOUNT, with settings and marks where there are any.

const empty = (value) => Object.values(value ?? {}).every((one) => one === null);

/** The part behind # of a branch. @param {{prompt, seed, actions, settings, marks}} branch as `codes` tells it */
export function hashOf({ prompt, seed, actions, settings, marks }) {
  const runs = actions.map(([code, count]) => `${code}x${count}`).join(".");
  let hash = `#prompt=${encodeURIComponent(prompt)}&seed=${seed}&actions=${runs}`;
  if (!empty(settings)) hash += `&settings=${encodeURIComponent(JSON.stringify(settings))}`;
  if (marks?.length) hash += `&marks=${encodeURIComponent(JSON.stringify(marks))}`;
  return hash;
}

/**
 * What a hash asks for; null where it names no prompt.
 * @throws {Error} in plain words, where it is damaged
 */
export function parseHash(hash) {
  const fields = new URLSearchParams(hash.replace(/^#/, "").replaceAll("+", "%2B"));
  const prompt = fields.get("prompt");
  if (prompt === null) return null;
  const seed = Number(fields.get("seed") ?? 0);
  const text = fields.get("actions") ?? "";
  if (!/^(\d+x[1-9]\d*(\.\d+x[1-9]\d*)*)?$/.test(text) || !Number.isInteger(seed) || seed < 0 || seed >= 2 ** 31)
    throw new Error("This link is damaged: its actions or its seed cannot be read.");
  const actions = text ? text.split(".").map((run) => run.split("x").map(Number)) : [];
  try {
    const [settings, marks] = [JSON.parse(fields.get("settings") ?? "{}"), JSON.parse(fields.get("marks") ?? "[]")];
    return { prompt, seed, actions, settings, marks };
  } catch {
    throw new Error("This link is damaged: its settings cannot be read.");
  }
}

/**
 * Copy the link of a branch; where the browser forbids it, show it.
 * @param {{prompt, seed, actions, settings, marks}} branch
 * @param {number} most steps that the server plays again
 * @param {(text: string, kind?: string) => void} tell
 */
export async function copyLink(branch, most, tell) {
  if (steps(branch) > most) {
    const fault = `A link replays ${most} steps at most, and this game has ${steps(branch)}: go back first.`;
    tell(fault, "fault");
    return;
  }
  const link = `${location.href.split("#")[0]}${hashOf(branch)}`;
  try {
    await navigator.clipboard.writeText(link);
    const secret = new URLSearchParams(location.search).has("token") ? " It holds this server's token." : "";
    const own = branch.prompt.startsWith("upload-") ? " It shows your file to whoever opens it." : "";
    tell(`The link is copied: it replays these ${steps(branch)} steps on this server.${secret}${own}`);
  } catch {
    const field = document.getElementById("link-text");
    field.value = link;
    document.getElementById("link-dialog").showModal();
    field.select();
  }
}

const steps = ({ actions }) => actions.reduce((sum, [, count]) => sum + count, 0);
