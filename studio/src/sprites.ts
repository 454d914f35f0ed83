// A sprite sheet has pictures of a film in rows, in the order of time. Nothing says how many columns and rows it
// has: they are found by the film's shape, by the seams between pictures, and by how alike neighbours are.

import { pixels } from "./words";

export interface Sheet {
  image: Blob;
  columns: number;
  rows: number;
}

const MOST_COLUMNS = 12;
const SHAPE = 0.06; // how far a picture's shape may be from the film's, as a part of it
const SEAM = 1.3; // how much more a seam changes than lines elsewhere
const ALIKE = 1.4; // how much less alike neighbours may be than in the grid where they are most alike
const SAMPLES = 12; // points of a picture that are compared, in each direction

/** The sheet with its columns and rows. */
export async function readSheet(image: Blob, size: string): Promise<Sheet> {
  const bitmap = await createImageBitmap(image);
  const [width, height] = pixels(size);
  const shapes = grids(bitmap.width / bitmap.height, width / height);
  const [columns, rows] = chosen(lightOf(bitmap), shapes);
  return { image, columns, rows };
}

/** A picture's light, row after row. */
export interface Light {
  values: Uint8Array;
  width: number;
  height: number;
}

type Grid = [columns: number, rows: number];

/** The grid of the most pictures that has seams and neighbours that are alike; the fewest where none has. */
export function chosen(light: Light, shapes: Grid[]): Grid {
  const unlike = shapes.map((grid) => difference(light, grid));
  const least = Math.min(...unlike.filter((each) => each > 0));
  const fitting = shapes.filter((grid, at) => (unlike[at] ?? 0) <= least * ALIKE && hasSeams(light, grid));
  return fitting.at(-1) ?? shapes[0] ?? [1, 1];
}

/** Columns and rows by which pictures have the film's shape, few before many. */
function grids(sheet: number, film: number): Grid[] {
  const found: Grid[] = [];
  for (let columns = 1; columns <= MOST_COLUMNS; columns += 1) {
    const rows = Math.round((columns * film) / sheet);
    if (rows > 0 && Math.abs((sheet * rows) / columns / film - 1) < SHAPE) found.push([columns, rows]);
  }
  return found;
}

/** How much each picture differs from the one before it. */
function difference({ values, width, height }: Light, [columns, rows]: Grid): number {
  const point = (picture: number, sample: number): number => {
    const x = (picture % columns) + ((sample % SAMPLES) + 0.5) / SAMPLES;
    const y = Math.floor(picture / columns) + (Math.floor(sample / SAMPLES) + 0.5) / SAMPLES;
    return values[Math.floor((y / rows) * height) * width + Math.floor((x / columns) * width)] ?? 0;
  };
  let sum = 0;
  for (let picture = 1; picture < columns * rows; picture += 1) {
    for (let sample = 0; sample < SAMPLES ** 2; sample += 1) sum += Math.abs(point(picture, sample) - point(picture - 1, sample));
  }
  return sum / (columns * rows - 1 || 1);
}

/** Whether the picture changes more at each line between columns and rows than it does on average. */
function hasSeams({ values, width, height }: Light, [columns, rows]: Grid): boolean {
  return stands(changes(values, height, width, width, 1), columns) && stands(changes(values, width, height, 1, width), rows);
}

function stands(changes: number[], parts: number): boolean {
  const mean = changes.reduce((sum, each) => sum + each, 0) / changes.length;
  const seams = Array.from({ length: parts - 1 }, (_, at) => Math.round(((at + 1) * (changes.length + 1)) / parts) - 1);
  // JPEG blurs a seam, and sizes are rounded: the strongest change nearby counts.
  return seams.every((at) => Math.max(...changes.slice(Math.max(0, at - 1), at + 2)) > mean * SEAM);
}

/** How much each line differs from the one before it. */
function changes(light: Uint8Array, length: number, lines: number, along: number, between: number): number[] {
  return Array.from({ length: lines - 1 }, (_, line) => {
    let sum = 0;
    for (let at = 0; at < length; at += 1) {
      const here = line * between + at * along;
      sum += Math.abs((light[here + between] ?? 0) - (light[here] ?? 0));
    }
    return sum / length;
  });
}

function lightOf(bitmap: ImageBitmap): Light {
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen?.drawImage(bitmap, 0, 0);
  const data = pen?.getImageData(0, 0, width, height).data ?? new Uint8ClampedArray();
  const values = Uint8Array.from({ length: width * height }, (_, at) => ((data[at * 4] ?? 0) + (data[at * 4 + 1] ?? 0) + (data[at * 4 + 2] ?? 0)) / 3);
  return { values, width, height };
}
