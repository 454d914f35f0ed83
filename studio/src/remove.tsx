import { useState } from "preact/hooks";

import { ask, isRefusal, type Refusal } from "./api";
import { Sure } from "./sure";
import { Trouble } from "./trouble";
import { unfinished, type Video } from "./wire";

interface Props {
  video: Video;
  kind: "danger" | "quiet";
  removed: (id: string) => void;
}

/** Deletes a video; cancels one that is not made yet. */
export function Remove({ video, kind, removed }: Props) {
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const act = () =>
    ask(`/v1/videos/${video.id}`, { method: "DELETE" }).then(
      () => removed(video.id),
      (failure: unknown) => {
        if (!isRefusal(failure)) throw failure;
        setRefusal(failure);
      },
    );
  const [word, question] = unfinished(video) ? ["Cancel", "Cancel? Once begun, it may still cost its price."] : ["Delete", "Delete for good?"];
  return (
    <>
      <Sure {...{ word, question, kind, act }} />
      {refusal && <Trouble refusal={refusal} />}
    </>
  );
}
