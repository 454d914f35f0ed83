import { useEffect, useRef, useState } from "preact/hooks";

import { pixels, size as sizeInWords } from "./words";

interface Props {
  size: string;
  source: Blob | null;
  setSource: (source: Blob | null) => void;
  setReference: (reference: Blob | null) => void;
}

/** Which part of an image is used: its middle as a part of what may move, and how much it is enlarged. */
interface Cut {
  x: number;
  y: number;
  zoom: number;
}

const MIDDLE: Cut = { x: 0.5, y: 0.5, zoom: 1 };
const STEP = 0.05; // of an arrow key
const KINDS = "image/jpeg,image/png,image/webp";

/** The image that a video begins with: dropped, pasted or chosen, and cut to the video's size here. */
export function Reference({ size, source, setSource, setReference }: Props) {
  const [over, setOver] = useState(false);
  const [complaint, setComplaint] = useState<string | null>(null);
  const take = (files: FileList | null | undefined) => {
    const file = [...(files ?? [])].find((each) => KINDS.includes(each.type) && each.type);
    setComplaint(file ? null : "That is no JPEG, PNG or WebP image.");
    if (file) setSource(file);
  };
  useEffect(() => {
    const pasted = (event: ClipboardEvent) => {
      // Programs for tables and texts add a picture of what was copied: there, text is meant.
      const data = event.clipboardData;
      if (data?.files.length && !data.types.includes("text/plain")) take(data.files);
    };
    document.addEventListener("paste", pasted);
    return () => document.removeEventListener("paste", pasted);
  }, []);
  return (
    <div
      class={over ? "reference over" : "reference"}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        take(event.dataTransfer?.files);
      }}
    >
      {source ? (
        <Cutter {...{ size, source, setReference }} remove={() => setSource(null)} broken={setComplaint} />
      ) : (
        <label>
          Reference image
          <span class="hint">Drop or paste one here, or choose a file. The video begins with it.</span>
          <input type="file" accept={KINDS} onChange={(event) => take(event.currentTarget.files)} />
        </label>
      )}
      {complaint && <p role="alert">{complaint}</p>}
    </div>
  );
}

interface CutterProps {
  size: string;
  source: Blob;
  setReference: (reference: Blob | null) => void;
  remove: () => void;
  broken: (complaint: string) => void;
}

function Cutter({ size, source, setReference, remove, broken }: CutterProps) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [bitmap, setBitmap] = useState<ImageBitmap | null>(null);
  const [cut, setCut] = useState(MIDDLE);
  const [width, height] = pixels(size);
  useEffect(() => {
    let gone = false;
    setReference(null);
    setCut(MIDDLE);
    createImageBitmap(source).then(
      (made) => (gone ? made.close() : setBitmap(made)),
      () => {
        broken("That image cannot be read.");
        remove();
      },
    );
    return () => {
      gone = true;
    };
  }, [source]);
  useEffect(() => {
    const pen = canvas.current?.getContext("2d");
    if (!bitmap || !pen) return;
    let gone = false;
    setReference(null);
    const part = partOf(bitmap, width, height, cut);
    pen.drawImage(bitmap, part.x, part.y, part.width, part.height, 0, 0, width, height);
    const timer = setTimeout(() => canvas.current?.toBlob((blob) => !gone && setReference(blob), "image/jpeg", 0.93), 150);
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [bitmap, size, cut]);
  const move = (x: number, y: number) => setCut((last) => ({ ...last, x: within(last.x + x), y: within(last.y + y) }));
  return (
    <div class="cutter">
      <canvas
        ref={canvas}
        width={width}
        height={height}
        tabIndex={0}
        role="img"
        aria-label={`Reference image, cut to ${sizeInWords(size)}. Arrow keys move it.`}
        onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
        onPointerMove={(event) => {
          if (!event.currentTarget.hasPointerCapture(event.pointerId)) return;
          move(-event.movementX / event.currentTarget.clientWidth, -event.movementY / event.currentTarget.clientHeight);
        }}
        onKeyDown={(event) => {
          const steps: Record<string, [number, number]> = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
          const step = steps[event.key];
          if (!step) return;
          event.preventDefault();
          move(...step);
        }}
      />
      <div class="row">
        <label>
          Zoom
          <input
            type="range"
            min={1}
            max={4}
            step={0.05}
            value={cut.zoom}
            onInput={(event) => setCut({ ...cut, zoom: event.currentTarget.valueAsNumber })}
          />
        </label>
        <button type="button" class="quiet" onClick={remove}>
          Remove image
        </button>
      </div>
    </div>
  );
}

/** The part of an image that fills the size, in the image's own pixels. */
function partOf(image: { width: number; height: number }, width: number, height: number, cut: Cut) {
  const scale = Math.max(width / image.width, height / image.height) * cut.zoom;
  const [across, down] = [width / scale, height / scale];
  return { x: (image.width - across) * cut.x, y: (image.height - down) * cut.y, width: across, height: down };
}

function within(part: number): number {
  return Math.min(1, Math.max(0, part));
}
