import { useEffect, useRef, useState } from "preact/hooks";

import { advice } from "./advice";
import { ask } from "./api";
import { Progress, Sprite } from "./gallery";
import { useAddress, useLoaded } from "./hooks";
import { content, image, lastFrame } from "./media";
import { Remove } from "./remove";
import { useSending } from "./sending";
import { readSheet } from "./sprites";
import { once } from "./sure";
import { Trouble } from "./trouble";
import { type Model, unfinished, type Video } from "./wire";
import { dollars, moment, size } from "./words";

interface Props {
  id: string;
  known: Video | null;
  models: Model[];
  close: () => void;
  open: (id: string) => void;
  remixed: (video: Video) => void;
  deleted: (id: string) => void;
  useFrame: (frame: Blob, video: Video) => void;
  again: (prompt: string) => void;
}

/** One video, in front of everything else. */
export function Look({ id, known, close, ...rest }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const asked = useLoaded((signal) => (known ? Promise.resolve(known) : ask<Video>(`/v1/videos/${id}`, { signal })), [known]);
  const video = known ?? asked.value;
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog
      ref={dialog}
      class="look"
      aria-label="Video"
      onClose={close}
      onClick={(event) => event.target === dialog.current && dialog.current?.close()}
    >
      <button type="button" class="close" aria-label="Close" onClick={() => dialog.current?.close()}>
        ×
      </button>
      {asked.refusal && !video && <Trouble refusal={asked.refusal} />}
      {video && <Shown video={video} {...rest} />}
    </dialog>
  );
}

type ShownProps = Omit<Props, "id" | "known" | "close"> & { video: Video };

function Shown({ video, models, open, remixed, deleted, useFrame, again }: ShownProps) {
  const model = models.find((each) => each.id === video.model);
  const player = useRef<HTMLVideoElement>(null);
  const done = video.status === "completed";
  const film = useLoaded((signal) => (done ? content(video.id, "video", signal) : Promise.resolve(null)), [video.id, done]);
  const address = useAddress(film.value);
  return (
    <div class="shown">
      <div class="screen">
        {done && address && <video ref={player} src={address} controls autoplay muted loop playsinline aria-label={video.prompt} />}
        {done && !address && (film.refusal ? <Trouble refusal={film.refusal} again={film.again} /> : <p class="hint">Loading the film …</p>)}
        {unfinished(video) && <Progress video={video} />}
        {video.status === "failed" && <Failure video={video} />}
        {done && model?.variants.includes("spritesheet") && <Strip video={video} player={player} />}
      </div>
      <div class="about">
        <h2>{video.prompt}</h2>
        <p class="meta">
          <span>{video.model}</span>
          <span>{video.seconds} s</span>
          <span>{size(video.size)}</span>
          <span>{moment(video.created_at)}</span>
        </p>
        {video.fallback_from && <p class="hint">Made in place of {video.fallback_from}.</p>}
        {video.expires_at && <p class="hint">Kept until {moment(video.expires_at)}.</p>}
        <History video={video} open={open} />
        {done && (model?.remix ? <Remix key={video.id} video={video} remixed={remixed} /> : <p class="hint">Its model cannot remix.</p>)}
        <div class="row">
          {address && (
            <a class="button" href={address} download={`${video.id}.mp4`}>
              Download
            </a>
          )}
          {address && (
            <button type="button" onClick={async () => player.current && useFrame(await lastFrame(player.current), video)}>
              Go on from the last frame
            </button>
          )}
          <button type="button" onClick={() => again(video.prompt)}>
            Use this prompt again
          </button>
          <Remove video={video} kind="danger" removed={deleted} />
        </div>
        <p class="ids">
          <code>{video.id}</code>
        </p>
      </div>
    </div>
  );
}

function Failure({ video }: { video: Video }) {
  return (
    <div class="failure">
      <p>
        <strong>{video.error?.message ?? "The video failed."}</strong>
      </p>
      <p>{advice(video.error?.code ?? null)}</p>
      <p>It cost nothing.</p>
      <p class="ids">
        <code>{video.error?.code}</code>
        {video.request_id && <code>{video.request_id}</code>}
        {video.error?.upstream_request_id && <code>{video.error.upstream_request_id}</code>}
      </p>
    </div>
  );
}

/** The sprite sheet as a strip: each picture leads to its moment. */
function Strip({ video, player }: { video: Video; player: { current: HTMLVideoElement | null } }) {
  const sheet = useLoaded(async () => readSheet(await image(video.id, "spritesheet"), video.size), [video.id]).value;
  if (!sheet) return null;
  const count = sheet.columns * sheet.rows;
  const begin = (number: number) => (Number(video.seconds) * number) / count;
  const seek = (number: number) => {
    if (!player.current) return;
    player.current.pause();
    player.current.currentTime = begin(number);
  };
  return (
    <div class="strip" role="group" aria-label="Moments">
      {Array.from({ length: count }, (_, number) => (
        <button key={number} type="button" aria-label={`Go to ${begin(number).toFixed(1)} s`} onClick={() => seek(number)}>
          <Sprite sheet={sheet} size={video.size} number={number} />
        </button>
      ))}
    </div>
  );
}

const MOST_SOURCES = 8;

/** The prompts that led here: a remix's own prompt tells only what changed. */
function History({ video, open }: { video: Video; open: (id: string) => void }) {
  const sources = useLoaded(async (signal) => {
    const found: Video[] = [];
    for (let id = video.remixed_from_video_id; id && found.length < MOST_SOURCES; ) {
      const source: Video | null = await ask<Video>(`/v1/videos/${id}`, { signal }).catch(() => null);
      if (!source) break; // it was deleted
      found.unshift(source);
      id = source.remixed_from_video_id;
    }
    return found;
  }, [video.id]).value;
  if (!sources?.length) return null;
  return (
    <section class="history">
      <h3>Made from</h3>
      <ol>
        {sources.map((each) => (
          <li key={each.id}>
            <button type="button" class="quiet" onClick={() => open(each.id)}>
              {each.prompt}
            </button>
          </li>
        ))}
      </ol>
    </section>
  );
}

function Remix({ video, remixed }: { video: Video; remixed: (video: Video) => void }) {
  const [prompt, setPrompt] = useState("");
  const { sending, refusal, changed, send } = useSending();
  const { model, seconds, size: shape } = video;
  const json = { model, seconds, size: shape };
  const price = useLoaded((signal) => ask<{ cost: number }>("/spend/calculate", { method: "POST", json, signal }), [video.id]).value;
  const submit = async (event: Event) => {
    event.preventDefault();
    await send(async (attempt) => {
      const headers = { "idempotency-key": attempt };
      remixed(await ask<Video>(`/v1/videos/${video.id}/remix`, { method: "POST", json: { prompt }, headers }));
    });
  };
  return (
    <form class="remix" onSubmit={submit}>
      <label>
        Change it
        <textarea
          rows={2}
          required
          placeholder="Make the cat jump higher"
          value={prompt}
          onInput={(event) => {
            changed();
            setPrompt(event.currentTarget.value);
          }}
        />
      </label>
      <button type="submit" class="primary" onClick={once} disabled={sending}>
        {sending ? "Sending …" : price ? `Remix for ${dollars(price.cost)}` : "Remix"}
      </button>
      {refusal && <Trouble refusal={refusal} />}
    </form>
  );
}
