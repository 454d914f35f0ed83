import { useState } from "preact/hooks";

import { answer } from "../api";
import { useLoaded } from "../hooks";
import { Trouble } from "../trouble";
import { dollars, moment } from "../words";
import { nameOfKey } from "./spend";
import { Table } from "./table";

interface Line {
  video_id: string;
  api_key: string;
  key_alias: string | null;
  model: string;
  status: string;
  spend: number;
  reserved: number;
  seconds: number;
  size: string;
  prompt: string | null;
  error_code: string | null;
  startTime: string;
  endTime: string | null;
}

const PAGE = 25;

/** A line for each video of every key, newest first. */
export function Journal() {
  const [page, setPage] = useState(1);
  const read = useLoaded(
    async (signal) => {
      const told = await answer("/spend/logs", { query: { page, page_size: PAGE }, signal });
      return { lines: (await told.json()) as Line[], more: told.headers.get("x-has-more") === "true" };
    },
    [page],
    page === 1 ? 10 : 0,
  );
  return (
    <section aria-labelledby="journal">
      <header>
        <h2 id="journal">Journal</h2>
      </header>
      {read.refusal && <Trouble refusal={read.refusal} again={read.again} />}
      <Table label="Journal" heads={["When", "Key", "Model", "Video", "State", "Cost"]}>
        {read.value?.lines.map((line) => (
          <tr key={line.video_id}>
            <td>{moment(line.startTime)}</td>
            <td>{line.key_alias ?? nameOfKey(line.api_key)}</td>
            <td>
              {line.model} <small>{line.seconds} s</small>
            </td>
            <td class="said" title={line.video_id}>
              {line.prompt ?? line.video_id}
            </td>
            <td>{line.error_code ?? line.status.replace("_", " ")}</td>
            <td>{line.reserved ? `${dollars(line.reserved)} reserved` : dollars(line.spend)}</td>
          </tr>
        ))}
      </Table>
      <p class="row">
        <button type="button" disabled={page === 1} onClick={() => setPage(page - 1)}>
          Newer
        </button>
        <button type="button" disabled={!read.value?.more} onClick={() => setPage(page + 1)}>
          Older
        </button>
      </p>
    </section>
  );
}
