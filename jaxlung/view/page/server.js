/** Asks the server that gave this page. Every address is an id. */

/** `status` is 0 where no answer came. `body` is the server's JSON. */
export class ServerError extends Error {
  constructor(status, body) {
    super(body?.error ?? (status ? `the server answered ${status}` : "the server does not answer"));
    this.status = status;
    this.body = body ?? {};
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options });
  } catch {
    throw new ServerError(0);
  }
  if (!response.ok) throw new ServerError(response.status, await response.json().catch(() => null));
  return response;
}

function change(method, path, body, revision, headers = {}) {
  const all = { "X-Jaxlung": "1", ...headers };
  if (revision !== undefined) all["If-Match"] = String(revision);
  return ask(path, { method, body, headers: all }).then((response) => response.json());
}

const post = (path, body, revision) =>
  change("POST", path, JSON.stringify(body), revision, { "Content-Type": "application/json" });

export const review = (since) =>
  ask(`/api/review${since === undefined ? "" : `?since=${since}`}`).then((r) => r.json());

export const film = (id) => ask(`/api/films/${id}`).then((r) => r.json());

export const thumbnail = (id) => `/api/films/${id}/thumbnail`;

/** Returns {buffer, revision} of `what`: pixels, mask or probability. */
export async function layer(id, what, slice, which) {
  const query = which ? `&which=${which}` : "";
  const response = await ask(`/api/films/${id}/${what}?slice=${slice}${query}`);
  const revision = response.headers.get("X-Revision");
  return { buffer: await response.arrayBuffer(), revision: revision && Number(revision) };
}

/** Sends a mask of 0 and 1; large ones packed. */
export async function putMask(id, slice, mask, revision) {
  let body = mask;
  const headers = { "Content-Type": "application/octet-stream" };
  if (mask.length > 2 ** 16 && globalThis.CompressionStream) {
    const packed = new Blob([mask]).stream().pipeThrough(new CompressionStream("gzip"));
    body = await new Response(packed).arrayBuffer();
    headers["Content-Encoding"] = "gzip";
  }
  return change("PUT", `/api/films/${id}/mask?slice=${slice}`, body, revision, headers);
}

export const verdict = (id, word, reason, revision) =>
  post(`/api/films/${id}/verdict`, { verdict: word, reason }, revision);

export const reviewer = (name) => post("/api/reviewer", { name });

export const finish = () => post("/api/finish", {});
