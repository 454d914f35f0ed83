// Server-sent events, read by `fetch`: an `EventSource` sends no key.

import { answer } from "./api";

export interface ServerEvent {
  type: string;
  id: string | null;
  data: string;
}

/** What a stream tells, until it ends. Calls `opened` once it listens. Throws Refusal, and what a broken connection throws. */
export async function* events(path: string, last: string | null, signal: AbortSignal, opened: () => void): AsyncGenerator<ServerEvent> {
  const headers: Record<string, string> = last ? { "last-event-id": last } : {};
  const { body } = await answer(path, { headers, signal });
  if (!body) return;
  opened();
  let text = "";
  for await (const piece of pieces(body.pipeThrough(new TextDecoderStream()))) {
    const blocks = (text + piece).split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const event = read(block);
      if (event.data) yield event;
    }
  }
}

/** A block of lines; a comment has no data. */
function read(block: string): ServerEvent {
  const field = (name: string) => block.match(new RegExp(`^${name}: ?(.*)$`, "m"))?.[1] ?? null;
  return { type: field("event") ?? "message", id: field("id"), data: field("data") ?? "" };
}

/** Not every browser can iterate over a stream. */
async function* pieces(stream: ReadableStream<string>): AsyncGenerator<string> {
  const reader = stream.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
