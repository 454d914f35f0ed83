import { useState } from "preact/hooks";

interface Props {
  word: string;
  question: string;
  kind?: "danger" | "quiet";
  act: () => Promise<unknown>;
}

/** For a button that sends a form: the second click of a double click would send it again. */
export function once(event: MouseEvent): void {
  if (event.detail > 1) event.preventDefault();
}

/** A button that asks before it acts. The second click of a double click is no answer: nobody has read the question yet. */
export function Sure({ word, question, kind, act }: Props) {
  const [asking, setAsking] = useState(false);
  const [acting, setActing] = useState(false);
  const press = async (event: MouseEvent) => {
    if (event.detail > 1) return;
    setAsking(!asking);
    if (!asking) return;
    setActing(true);
    await act().finally(() => setActing(false));
  };
  return (
    <button type="button" class={asking ? "danger" : kind} disabled={acting} onClick={press} onBlur={() => setAsking(false)}>
      {asking ? question : word}
    </button>
  );
}
