// The videos of the key, as the server tells them: pages of a tab, kept up to date.

import { ask, isRefusal, type Refusal } from "./api";
import { events, type ServerEvent } from "./events";
import { type Counts, type Page, type Status, unfinished, type Video } from "./wire";

export type Tab = "all" | "running" | "done" | "failed";

export const TABS: Record<Tab, { label: string; statuses: Status[] }> = {
  all: { label: "All", statuses: ["queued", "in_progress", "completed", "failed"] },
  running: { label: "Running", statuses: ["queued", "in_progress"] },
  done: { label: "Done", statuses: ["completed"] },
  failed: { label: "Failed", statuses: ["failed"] },
};

const PAGE = 24; // videos
const MOST_ASKED = 24; // videos that are asked for one by one in a round
// Milliseconds between rounds. Changes come by themselves while a video is made; places in the queue do not.
const TOLD = 10_000;
const UNTOLD = 2_000; // where the gateway lets no more calls wait
const IDLE = 15_000; // another tab or program may start a video
const TROUBLED = 5_000;
const COUNTED = 1_000; // until changes that were heard of are counted

/** One list of the server, read from its newest video on: all videos, or those of one status. */
interface Source {
  status: Status | undefined;
  last: string | null;
  more: boolean;
}

/** `more` says where the lists go on, and is null where they do not. */
export interface Seen {
  videos: Video[];
  more: string | null;
  counts: Counts | null;
  loaded: boolean;
  trouble: Refusal | null;
}

/** What one tab shows. `listen` is called with it after each change, until `stop`. */
export class Library {
  private readonly known = new Map<string, Video>();
  private readonly gone = new Set<string>(); // deleted videos, which no late answer brings back
  private readonly sources: Source[];
  private counts: Counts | null = null;
  private counted = "";
  private loaded = false;
  private trouble: Refusal | null = null;
  private timer = 0;
  private counting = 0;
  private stopped = false;
  private busy: Promise<void> | null = null;
  private stream: AbortController | null = null;
  private listening = false;
  private lastEvent: string | null = null;

  constructor(
    private readonly tab: Tab,
    private readonly listen: (seen: Seen) => void,
  ) {
    const statuses = tab === "all" ? [undefined] : TABS[tab].statuses;
    this.sources = statuses.map((status) => ({ status, last: null, more: true }));
    document.addEventListener("visibilitychange", this.look);
    void this.refresh();
  }

  stop(): void {
    this.stopped = true;
    this.stream?.abort();
    clearTimeout(this.timer);
    clearTimeout(this.counting);
    document.removeEventListener("visibilitychange", this.look);
  }

  /** Shows a video as an answer to a change told it. */
  put(video: Video): void {
    this.keep(video);
    this.tell();
    void this.refresh();
  }

  drop(id: string): void {
    this.forget(id);
    this.tell();
    void this.refresh();
  }

  /** Asks the server for everything that may have changed. One round runs at a time. */
  refresh(): Promise<void> {
    this.busy ??= this.round().finally(() => {
      this.busy = null;
    });
    return this.busy;
  }

  /** Reads the next page of each list that has one. */
  async more(): Promise<void> {
    await this.guarded(async () => {
      for (const source of this.sources.filter((each) => each.more && each.last)) {
        const page = await this.page(source, source.last);
        this.extend(source, page);
      }
    });
  }

  private look = (): void => {
    if (document.hidden) this.stream?.abort();
    else void this.refresh();
  };

  private async round(): Promise<void> {
    clearTimeout(this.timer);
    try {
      await this.guarded(async () => {
        for (const source of this.sources) {
          const page = await this.page(source, null);
          await this.ask(this.doubtful(source, page));
          if (source.last === null) this.extend(source, page);
        }
        this.loaded = true;
        await this.count();
      });
    } finally {
      this.goOn(); // an answer that is cut off must not be the last one
    }
  }

  private goOn(): void {
    if (this.stopped) return;
    this.attend();
    this.timer = window.setTimeout(() => (document.hidden ? undefined : this.refresh()), this.pause());
  }

  private pause(): number {
    if (this.trouble) return TROUBLED;
    if (!this.isBusy()) return IDLE;
    return this.listening ? TOLD : UNTOLD;
  }

  private isBusy(): boolean {
    return [...this.known.values()].some(unfinished);
  }

  /** Listens while something is made: a stream keeps an instance of the gateway awake. */
  private attend(): void {
    if (!this.isBusy()) this.stream?.abort();
    else if (!this.stream && !document.hidden) void this.follow();
  }

  /** Hears of changes until the stream ends, which the gateway ends after minutes. */
  private async follow(): Promise<void> {
    const stream = new AbortController();
    this.stream = stream;
    const opened = () => {
      this.listening = true;
      void this.refresh(); // what has changed before
    };
    try {
      for await (const event of events("/v1/videos/events", this.lastEvent, stream.signal, opened)) this.hear(event);
    } catch {
      // Refused, cut off, or given up here: until the next try, rounds alone tell of changes.
    } finally {
      this.stream = null;
      this.listening = false;
    }
  }

  private hear(event: ServerEvent): void {
    if (event.type === "error") return;
    this.lastEvent = event.id;
    const told = JSON.parse(event.data) as Video;
    if (event.type === "video.deleted") this.forget(told.id);
    else this.keep(told);
    this.trouble = null;
    this.tell();
    this.counting ||= window.setTimeout(() => this.countAgain(), COUNTED);
  }

  /** Once for all that was heard in a while. */
  private countAgain(): void {
    this.counting = 0;
    void this.guarded(() => this.count());
  }

  private forget(id: string): void {
    this.known.delete(id);
    this.gone.add(id);
  }

  /** Keeps what was told last. An answer may come late: from before a video's end, or from before it was deleted. */
  private keep(video: Video): void {
    if (this.gone.has(video.id)) return;
    const known = this.known.get(video.id);
    if (!known || unfinished(known) || !unfinished(video)) this.known.set(video.id, video);
  }

  private async page(source: Source, after: string | null): Promise<Page<Video>> {
    const query = { limit: PAGE, status: source.status, after: after ?? undefined };
    const page = await ask<Page<Video>>("/v1/videos", { query });
    for (const video of page.data) this.keep(video);
    return page;
  }

  private extend(source: Source, page: Page<Video>): void {
    source.last = page.last_id;
    source.more = page.has_more;
  }

  /** Videos that the first page does not tell of: they were deleted, changed, or are further back and unfinished. */
  private doubtful(source: Source, page: Page<Video>): string[] {
    const told = new Set(page.data.map((video) => video.id));
    const end = page.has_more ? (page.last_id ?? "") : "video_~";
    const mine = [...this.known.values()].filter((video) => !source.status || video.status === source.status);
    const doubted = mine.filter((video) => !told.has(video.id) && (video.id <= end || unfinished(video)));
    return doubted.map((video) => video.id).slice(0, MOST_ASKED);
  }

  private async ask(ids: string[]): Promise<void> {
    for (const id of ids) {
      const video = await ask<Video>(`/v1/videos/${id}`).catch((failure: unknown) => {
        if (isRefusal(failure) && failure.status === 404) return null;
        throw failure;
      });
      if (video) this.keep(video);
      else this.forget(id);
    }
  }

  /** Counts again where something has changed since. */
  private async count(): Promise<void> {
    const now = [...this.known.values()].map((video) => video.id + video.status).join();
    if (this.counts && now === this.counted) return;
    this.counts = await ask<Counts>("/v1/videos/counts");
    this.counted = now;
  }

  private async guarded(step: () => Promise<void>): Promise<void> {
    try {
      await step();
      this.trouble = null;
    } catch (failure) {
      if (!isRefusal(failure)) throw failure;
      this.trouble = failure;
    }
    this.tell();
  }

  private tell(): void {
    if (this.stopped) return;
    // Behind the end of a list that goes on, videos of the other list would stand alone.
    const ends = this.sources.filter((each) => each.more && each.last).map((each) => each.last ?? "");
    const statuses = TABS[this.tab].statuses;
    const mine = [...this.known.values()].filter((each) => statuses.includes(each.status) && ends.every((end) => each.id <= end));
    this.listen({
      videos: mine.sort((one, other) => (one.id < other.id ? -1 : 1)),
      more: ends.length ? ends.join() : null,
      counts: this.counts,
      loaded: this.loaded,
      trouble: this.trouble,
    });
  }
}
