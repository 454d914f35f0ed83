import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import { isRefusal, type Refusal } from "./api";

export interface Loaded<T> {
  value: T | null;
  refusal: Refusal | null;
  again: () => void;
}

/** What `load` gives, asked for again when `keys` change, and every so many seconds while the page is seen. */
export function useLoaded<T>(load: (signal: AbortSignal) => Promise<T>, keys: unknown[], seconds = 0): Loaded<T> {
  const [value, setValue] = useState<T | null>(null);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    load(stop.signal).then(
      (found) => {
        if (stop.signal.aborted) return;
        setValue(found);
        setRefusal(null);
      },
      (failure: unknown) => {
        if (!stop.signal.aborted && isRefusal(failure)) setRefusal(failure);
      },
    );
    return () => stop.abort();
  }, [...keys, turn]);
  const again = useCallback(() => setTurn((last) => last + 1), []);
  useTimer(again, seconds * 1000);
  return { value, refusal, again };
}

/** Calls `tick` every so many milliseconds while the page is seen, and at once when it is seen again; 0 is never. */
export function useTimer(tick: () => void, milliseconds: number): void {
  const latest = useRef(tick);
  latest.current = tick;
  useEffect(() => {
    if (!milliseconds) return;
    const look = () => {
      if (!document.hidden) latest.current();
    };
    const timer = setInterval(look, milliseconds);
    document.addEventListener("visibilitychange", look);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [milliseconds]);
}

/** State that a reload of this tab keeps. */
export function useKept<T>(name: string, first: T): [T, (value: T) => void] {
  const [value, setValue] = useState<T>(() => {
    const kept = sessionStorage.getItem(name);
    return kept === null ? first : (JSON.parse(kept) as T);
  });
  const keep = useCallback(
    (next: T) => {
      sessionStorage.setItem(name, JSON.stringify(next));
      setValue(next);
    },
    [name],
  );
  return [value, keep];
}

/** The address of a blob's bytes, as long as it is shown. */
export function useAddress(blob: Blob | null): string | null {
  const [address, setAddress] = useState<string | null>(null);
  useEffect(() => {
    if (!blob) return setAddress(null);
    const made = URL.createObjectURL(blob);
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return address;
}

/** Whether an element has been near the window. */
export function useSeen<T extends Element>(): [(element: T | null) => void, boolean] {
  const [seen, setSeen] = useState(false);
  const observer = useRef<IntersectionObserver | null>(null);
  const watch = useCallback((element: T | null) => {
    observer.current?.disconnect();
    if (!element) return;
    observer.current = new IntersectionObserver((entries) => {
      if (entries.some((each) => each.isIntersecting)) setSeen(true);
    }, { rootMargin: "300px" });
    observer.current.observe(element);
  }, []);
  return [watch, seen];
}
