// Films and images of videos. They are fetched with the key, which an `<img>` or `<video>` cannot send.

import { bytes } from "./api";

export type Variant = "video" | "thumbnail" | "spritesheet";

const MOST_KEPT = 150; // images
const MOST_AT_ONCE = 4;

const kept = new Map<string, Promise<Blob>>();
let running = 0;
const waiting: (() => void)[] = [];

/** An image of a video; asked for once, a few at a time. Throws Refusal. */
export function image(id: string, variant: Variant): Promise<Blob> {
  const name = `${id}/${variant}`;
  const found = kept.get(name) ?? inTurn(() => content(id, variant));
  kept.delete(name);
  kept.set(name, found);
  found.catch(() => kept.delete(name));
  for (const oldest of kept.keys()) {
    if (kept.size <= MOST_KEPT) break;
    kept.delete(oldest);
  }
  return found;
}

/** The bytes of a video or an image of it, by way of the gateway: the policy lets no storage be asked. Throws Refusal. */
export function content(id: string, variant: Variant, signal?: AbortSignal): Promise<Blob> {
  return bytes(`/v1/videos/${id}/content`, { query: { variant, delivery: "proxy" }, ...(signal ? { signal } : {}) });
}

async function inTurn<T>(step: () => Promise<T>): Promise<T> {
  if (running >= MOST_AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  running += 1;
  try {
    return await step();
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}

/** The last picture of a film that a player has loaded, as a PNG of the film's own size. */
export async function lastFrame(player: HTMLVideoElement): Promise<Blob> {
  player.pause();
  const end = player.duration - 0.01; // less than a picture is shown
  if (Math.abs(player.currentTime - end) > 0.001) {
    await new Promise((resolve) => {
      player.addEventListener("seeked", resolve, { once: true });
      player.currentTime = end;
    });
  }
  const canvas = new OffscreenCanvas(player.videoWidth, player.videoHeight);
  canvas.getContext("2d")?.drawImage(player, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}
