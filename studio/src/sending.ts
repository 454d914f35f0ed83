import { useRef, useState } from "preact/hooks";

import { isRefusal, type Refusal } from "./api";
import { madeNothing, newAttempt } from "./order";

export interface Sending {
  sending: boolean;
  refusal: Refusal | null;
  /** What is sent next is something else. */
  changed: () => void;
  send: (post: (attempt: string) => Promise<void>) => Promise<void>;
}

/** Sends one request at a time, each under a name: the same request again has the same, so that it makes one video. */
export function useSending(): Sending {
  const [sending, setSending] = useState(false);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const attempt = useRef(newAttempt());
  const changed = () => {
    attempt.current = newAttempt();
    setRefusal(null);
  };
  const send = async (post: (attempt: string) => Promise<void>) => {
    if (sending) return;
    setSending(true);
    try {
      await post(attempt.current);
      changed();
    } catch (failure) {
      if (!isRefusal(failure)) throw failure;
      setRefusal(failure);
      if (madeNothing(failure)) attempt.current = newAttempt();
    } finally {
      setSending(false);
    }
  };
  return { sending, refusal, changed, send };
}
