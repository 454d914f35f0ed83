// A video to be made: the request, as this page sends it and as others can.

import { ask, type Refusal } from "./api";
import type { Video } from "./wire";

export interface Order {
  model: string;
  prompt: string;
  seconds: string;
  size: string;
  parameters: Record<string, string>;
}

export const EMPTY: Order = { model: "", prompt: "", seconds: "", size: "", parameters: {} };

/** The fields of the request. Parameters are JSON where they can be read as such, and text where not. */
export function fields(order: Order): Record<string, unknown> {
  const { model, prompt, seconds, size } = order;
  const given = Object.entries(order.parameters).filter(([, text]) => text.trim());
  return { model, prompt, seconds, size, ...Object.fromEntries(given.map(([name, text]) => [name, value(text)])) };
}

function value(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Sends it; `attempt` names the try, so that the same one sent twice makes one video. Throws Refusal. */
export function post(order: Order, reference: Blob | null, attempt: string): Promise<Video> {
  const headers = { "idempotency-key": attempt };
  if (!reference) return ask<Video>("/v1/videos", { method: "POST", json: fields(order), headers });
  const form = new FormData();
  for (const [name, each] of Object.entries(fields(order))) form.append(name, typeof each === "string" ? each : JSON.stringify(each));
  form.append("input_reference", reference, "reference.jpg");
  return ask<Video>("/v1/videos", { method: "POST", form, headers });
}

/** Whether the next try is a new one: this one was refused. What had no answer, or a server's error, may be in the making. */
export function madeNothing(failure: Refusal): boolean {
  return failure.status >= 400 && failure.status < 500;
}

export function newAttempt(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function asCurl(order: Order, reference: boolean): string {
  const begin = [
    `curl ${location.origin}/v1/videos`,
    `-H "Authorization: Bearer $GATEWAY_KEY"`,
    `-H "Idempotency-Key: $(uuidgen)"`,
  ];
  const told = Object.entries(asked(order, reference));
  const parts = reference
    ? [...told.map(([name, each]) => `--form-string ${quoted(`${name}=${text(each)}`)}`), "-F input_reference=@reference.jpg"]
    : [`-H "Content-Type: application/json"`, `-d ${quoted(JSON.stringify(fields(order)))}`];
  return [...begin, ...parts].join(" \\\n  ");
}

export function asPython(order: Order, reference: boolean): string {
  const { model, prompt, seconds, size, ...more } = asked(order, reference);
  const named = Object.entries({ model, prompt, seconds, size }).map(([name, each]) => `    ${name}=${JSON.stringify(each)},`);
  if (Object.keys(more).length) named.push(`    extra_body=json.loads(${JSON.stringify(JSON.stringify(more))}),`);
  if (reference) named.push(`    input_reference=open("reference.jpg", "rb"),`);
  return [
    ...(Object.keys(more).length ? ["import json"] : []),
    "import os",
    "import uuid",
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${location.origin}/v1", api_key=os.environ["GATEWAY_KEY"])`,
    "video = client.videos.create(",
    ...named,
    `    extra_headers={"Idempotency-Key": uuid.uuid4().hex},`,
    ")",
    "print(video.id)",
  ].join("\n");
}

/** The fields for a program, which has the image as it is: the gateway is to cut it. */
function asked(order: Order, reference: boolean): Record<string, unknown> {
  return { ...fields(order), ...(reference && { reference_fit: "cover" }) };
}

function text(each: unknown): string {
  return typeof each === "string" ? each : JSON.stringify(each);
}

/** As one word of a shell. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
