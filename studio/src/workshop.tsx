import { useEffect, useRef, useState } from "preact/hooks";

import { Gallery } from "./gallery";
import { useKept } from "./hooks";
import { Library, type Seen, type Tab } from "./library";
import { Look } from "./look";
import { Make } from "./make";
import { EMPTY, type Order } from "./order";
import type { Caller, Model, Video } from "./wire";

interface Props {
  caller: Caller;
  models: Model[];
  spent: () => void;
}

const NOTHING: Seen = { videos: [], more: null, counts: null, loaded: false, trouble: null };

/** Making on one side, everything that was made on the other, and one video to look at in front. */
export function Workshop({ caller, models, spent }: Props) {
  const [tab, setTab] = useKept<Tab>("tab", "all");
  const [seen, setSeen] = useState<Seen>(NOTHING);
  const [order, setOrder] = useKept<Order>("order", EMPTY);
  const [image, setImage] = useState<Blob | null>(null);
  const [opened, setOpened] = useKept<string | null>("opened", null);
  const library = useRef<Library | null>(null);
  useEffect(() => {
    setSeen((last) => ({ ...NOTHING, counts: last.counts }));
    library.current = new Library(tab, setSeen);
    return () => library.current?.stop();
  }, [tab]);
  useEffect(spent, [JSON.stringify(seen.counts)]);

  const changed = (video: Video) => {
    library.current?.put(video);
    spent();
  };
  const deleted = (id: string) => {
    if (opened === id) setOpened(null);
    library.current?.drop(id);
    spent();
  };
  const useFrame = (frame: Blob, video: Video) => {
    setImage(frame);
    setOrder({ ...order, model: video.model, size: video.size });
    setOpened(null);
  };
  return (
    <div class="workshop">
      <Make
        {...{ caller, models, order, setOrder, image, setImage }}
        earlier={[...new Set(seen.videos.map((video) => video.prompt))].slice(0, 8)}
        made={changed}
      />
      <Gallery {...{ tab, setTab, seen, models, deleted }} open={setOpened} more={() => library.current?.more()} />
      {opened && (
        <Look
          key={opened}
          id={opened}
          known={seen.videos.find((video) => video.id === opened) ?? null}
          {...{ models, deleted, useFrame }}
          close={() => setOpened(null)}
          open={setOpened}
          remixed={(video) => {
            changed(video);
            setOpened(video.id);
          }}
          again={(prompt) => {
            setOrder({ ...order, prompt });
            setOpened(null);
          }}
        />
      )}
    </div>
  );
}
