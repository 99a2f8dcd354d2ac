// Calls the HTTP API, with the key of this tab if there is one.

const KEY = "page-metadata-key";

let aheadOfServer = 0;
let keyIsNeeded = false; // the last key, or none, was refused

/** An answer that is an error. Its message is for a person to read. */
export class Problem extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Return the time of the server in milliseconds, as far as its answers tell: ages are by that. */
export function now() {
  return Date.now() - aheadOfServer;
}

/** Return the key of this tab, or null. */
export function knownKey() {
  return sessionStorage.getItem(KEY);
}

/** Say whether a call is of no use before another key is known. */
export function isKeyNeeded() {
  return keyIsNeeded;
}

/** Send this key from now on; null forgets the one there is. */
export function useKey(key) {
  keyIsNeeded = false;
  if (key === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, key);
}

/** Return the address of a call. It is relative, so that the page works below a prefix. */
export function address(path, parameters = {}) {
  const url = new URL(`./${path}`, document.baseURI);
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one) url.searchParams.append(name, one);
  }
  return url;
}

/** Call the API and return the response. Throws a `Problem`; at 401 a key is asked for. */
export async function call(url, { method = "GET", body, waitSeconds, signal } = {}) {
  const headers = {};
  if (knownKey()) headers.Authorization = `Bearer ${knownKey()}`;
  if (waitSeconds) headers.Prefer = `wait=${waitSeconds}`;
  if (body) headers["Content-Type"] = "application/json";
  const response = await send(url, { method, headers, body: body && JSON.stringify(body), signal });
  const date = Date.parse(response.headers.get("Date"));
  if (!Number.isNaN(date)) aheadOfServer = Date.now() - date;
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (problem.status === 401 && !keyIsNeeded) {
    keyIsNeeded = true;
    dispatchEvent(new CustomEvent("keyneeded", { detail: problem }));
  }
  throw problem;
}

/** Call the API and return the JSON of its answer. */
export async function read(url, options) {
  return (await call(url, options)).json();
}

async function send(url, options) {
  try {
    return await fetch(url, { ...options, cache: "no-store", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service cannot be reached.");
  }
}

async function problemOf(response) {
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  let detail = `The service answered ${response.status} ${response.statusText}`;
  try {
    detail = String((await response.json()).detail ?? detail);
  } catch { /* It is not JSON: a proxy may have answered. */ }
  return new Problem(response.status, detail, retryAfter);
}
