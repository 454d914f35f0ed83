import { useEffect, useState } from "preact/hooks";

import { advice } from "./advice";
import { isRefusal } from "./api";
import { useAddress, useSeen } from "./hooks";
import { type Seen, type Tab, TABS } from "./library";
import { image } from "./media";
import { Remove } from "./remove";
import { readSheet, type Sheet } from "./sprites";
import { Trouble } from "./trouble";
import { type Counts, type Model, unfinished, type Video } from "./wire";
import { moment, ordinal, pixels, size } from "./words";

interface Props {
  tab: Tab;
  setTab: (tab: Tab) => void;
  seen: Seen;
  models: Model[];
  open: (id: string) => void;
  deleted: (id: string) => void;
  more: () => void;
}

/** What was made and is being made, newest first. */
export function Gallery({ tab, setTab, seen, models, open, deleted, more }: Props) {
  return (
    <section class="gallery" aria-label="Videos">
      <div class="tabs" role="group" aria-label="Which videos">
        {(Object.keys(TABS) as Tab[]).map((each) => (
          <button key={each} type="button" aria-pressed={each === tab} onClick={() => setTab(each)}>
            {TABS[each].label} <span class="count">{seen.counts && counted(seen.counts, each)}</span>
          </button>
        ))}
      </div>
      {seen.trouble && <Trouble refusal={seen.trouble} />}
      {seen.loaded && !seen.videos.length && !seen.more && <p class="empty">{EMPTY[tab]}</p>}
      <ul class="cards">
        {seen.videos.map((video) => (
          <Card key={video.id} video={video} model={models.find((each) => each.id === video.model)} {...{ open, deleted }} />
        ))}
      </ul>
      {seen.more && <More key={seen.more} more={more} />}
    </section>
  );
}

const EMPTY: Record<Tab, string> = {
  all: "Nothing here yet. Say what you want to see, and make your first video.",
  running: "Nothing is being made just now.",
  done: "No video is done yet.",
  failed: "Nothing has failed.",
};

function counted(counts: Counts, tab: Tab): string {
  const sum = TABS[tab].statuses.reduce((total, status) => total + counts[status], 0);
  return `${sum.toLocaleString("en")}${counts.has_more ? "+" : ""}`;
}

/** Asks for the next page once it comes near the window; a button for whoever does not scroll. */
function More({ more }: { more: () => void }) {
  const [watch, near] = useSeen<HTMLButtonElement>();
  useEffect(() => {
    if (near) more();
  }, [near]);
  return (
    <button type="button" class="more-videos" ref={watch} onClick={more}>
      Older videos
    </button>
  );
}

interface CardProps {
  video: Video;
  model: Model | undefined;
  open: (id: string) => void;
  deleted: (id: string) => void;
}

function Card({ video, model, open, deleted }: CardProps) {
  return (
    <li class={`card ${video.status}`}>
      <button type="button" class="frame" onClick={() => open(video.id)}>
        <span class="unseen">
          {STATUS[video.status]}: {video.prompt}
        </span>
        {video.status === "completed" && <Picture video={video} variants={model?.variants ?? []} />}
        {video.status === "failed" && <span class="reason">{video.error?.code ?? "failed"}</span>}
        {unfinished(video) && <Progress video={video} />}
      </button>
      <p class="prompt">{video.prompt}</p>
      {video.status === "failed" && <p class="advice">{advice(video.error?.code ?? null)}</p>}
      <div class="meta">
        <span>{video.seconds} s</span>
        <span>{size(video.size)}</span>
        <span>{moment(video.created_at)}</span>
        {unfinished(video) && <Remove video={video} kind="quiet" removed={deleted} />}
      </div>
    </li>
  );
}

const STATUS = { queued: "Waiting", in_progress: "Being made", completed: "Done", failed: "Failed" };

export function Progress({ video }: { video: Video }) {
  const { queue, progress } = video;
  if (video.status === "queued" && !progress) {
    return (
      <span class="progress">
        <strong>{queue ? `${ordinal(queue.position)} in line` : "Starting"}</strong>
        {queue?.estimated_start && <span>begins about {moment(queue.estimated_start)}</span>}
      </span>
    );
  }
  return (
    <span class="progress">
      <strong>
        {video.progress_estimated && "about "}
        {progress} %
      </strong>
      <progress max={100} value={progress} aria-label="Progress" />
    </span>
  );
}

/** A film's thumbnail; a pointer that goes across it goes through the film. */
function Picture({ video, variants }: { video: Video; variants: string[] }) {
  const [watch, near] = useSeen<HTMLSpanElement>();
  const [thumbnail, setThumbnail] = useState<Blob | null>(null);
  const [sheet, setSheet] = useState<Sheet | null>(null);
  const [place, setPlace] = useState<number | null>(null);
  const address = useAddress(thumbnail);
  useEffect(() => {
    if (near && variants.includes("thumbnail")) image(video.id, "thumbnail").then(setThumbnail, ignore);
  }, [near]);
  const fetchSheet = () => {
    if (!sheet && variants.includes("spritesheet")) {
      image(video.id, "spritesheet").then((blob) => readSheet(blob, video.size)).then(setSheet, ignore);
    }
  };
  return (
    <span
      class="picture"
      ref={watch}
      onPointerEnter={fetchSheet}
      onPointerMove={(event) => setPlace(event.offsetX / event.currentTarget.clientWidth)}
      onPointerLeave={() => setPlace(null)}
    >
      {address ? <img src={address} alt="" /> : <span class="blank" />}
      {sheet && place !== null && <Sprite sheet={sheet} size={video.size} number={Math.floor(place * sheet.columns * sheet.rows)} />}
    </span>
  );
}

/** One picture of a sprite sheet. */
export function Sprite({ sheet, size: shape, number }: { sheet: Sheet; size: string; number: number }) {
  const address = useAddress(sheet.image);
  const [width, height] = pixels(shape);
  const last = sheet.columns * sheet.rows - 1;
  const at = Math.min(last, Math.max(0, number));
  const [column, row] = [at % sheet.columns, Math.floor(at / sheet.columns)];
  return (
    <svg class="sprite" viewBox={`0 0 ${width} ${height}`} aria-hidden="true">
      {address && (
        <image
          href={address}
          x={-column * width}
          y={-row * height}
          width={width * sheet.columns}
          height={height * sheet.rows}
          preserveAspectRatio="none"
        />
      )}
    </svg>
  );
}

/** An image that the vendor no longer has is no trouble: the film is there. */
function ignore(failure: unknown): void {
  if (!isRefusal(failure)) console.error(failure);
}
