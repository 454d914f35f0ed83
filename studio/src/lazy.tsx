import type { FunctionComponent } from "preact";
import { useEffect, useState } from "preact/hooks";

/** A component whose code is fetched when it is first shown. A page of before a new release asks for files that are gone. */
export function lazy<P>(load: () => Promise<FunctionComponent<P>>): FunctionComponent<P> {
  let loaded: FunctionComponent<P> | null = null;
  return function Lazy(props) {
    const [state, setState] = useState<"waits" | "ready" | "gone">(loaded ? "ready" : "waits");
    useEffect(() => {
      if (loaded) return;
      load().then(
        (component) => {
          loaded = component;
          setState("ready");
        },
        () => setState("gone"),
      );
    }, []);
    const Loaded = loaded;
    if (Loaded) return <Loaded {...props} />;
    return state === "gone" ? <Gone /> : <p class="hint">Loading …</p>;
  };
}

function Gone() {
  return (
    <div class="trouble" role="alert">
      <p>This part of the page cannot be loaded. There may be a new version.</p>
      <button type="button" onClick={() => location.reload()}>
        Load the page again
      </button>
    </div>
  );
}
