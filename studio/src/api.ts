// The gateway's API, as this page asks it: on its own origin, with the key of this tab.

import { fresh } from "./entra";

const KEY = "key";

/** Told to the window, with the Refusal, when a key is no good, or no longer. */
export const KEY_REFUSED = "key-refused";

export const session = {
  get key(): string | null {
    return sessionStorage.getItem(KEY);
  },
  begin(key: string): void {
    sessionStorage.setItem(KEY, key);
  },
  end(): void {
    sessionStorage.clear();
  },
};

/** A refusal by the gateway; status 0 says that it was not reached. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly param: string | null,
    readonly requestId: string | null,
  ) {
    super(message);
  }
}

export type Query = Record<string, string | number | boolean | undefined>;

interface Asked {
  method?: "GET" | "POST" | "DELETE";
  query?: Query;
  json?: unknown;
  form?: FormData;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** What the gateway answers, as JSON. Throws Refusal. */
export async function ask<T>(path: string, asked: Asked = {}): Promise<T> {
  return (await answer(path, asked)).json() as Promise<T>;
}

/** The bytes of a file. Throws Refusal. */
export async function bytes(path: string, asked: Asked = {}): Promise<Blob> {
  return (await answer(path, asked)).blob();
}

/** An answer that is no error. Throws Refusal. */
export async function answer(path: string, asked: Asked = {}): Promise<Response> {
  const key = await current();
  const headers: Record<string, string> = { authorization: `Bearer ${key ?? ""}`, ...asked.headers };
  if (asked.json !== undefined) headers["content-type"] = "application/json";
  const given = {
    method: asked.method ?? "GET",
    headers,
    body: asked.form ?? (asked.json === undefined ? null : JSON.stringify(asked.json)),
    signal: asked.signal ?? null,
  };
  const response = await fetch(path + search(asked.query), given).catch((failure: unknown) => {
    if (asked.signal?.aborted) throw failure;
    throw new Refusal(0, "unreachable", "The gateway cannot be reached.", null, null);
  });
  if (response.ok) return response;
  const refused = await refusal(response);
  if (response.status === 401 && key === session.key) dispatchEvent(new CustomEvent(KEY_REFUSED, { detail: refused }));
  throw refused;
}

/** The key to send. A token that was renewed takes the old one's place, unless somebody has signed out meanwhile. */
async function current(): Promise<string | null> {
  const before = session.key;
  const key = await fresh(before);
  if (key && key !== before && session.key === before) session.begin(key);
  return key;
}

function search(query: Query = {}): string {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined);
  return pairs.length ? `?${new URLSearchParams(pairs.map(([name, value]) => [name, String(value)]))}` : "";
}

async function refusal(response: Response): Promise<Refusal> {
  const id = response.headers.get("x-request-id");
  const told = await response.json().catch(() => ({}));
  const { code = "unexpected", message = `The gateway answered ${response.status}.`, param = null } = told?.error ?? {};
  return new Refusal(response.status, code, message, param, id);
}

export function isRefusal(failure: unknown): failure is Refusal {
  return failure instanceof Refusal;
}
