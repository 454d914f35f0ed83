import { ask } from "../api";
import { useKept, useLoaded } from "../hooks";
import { Trouble } from "../trouble";
import { dollars, plural } from "../words";

interface Sum {
  day?: string;
  key?: string;
  key_alias?: string | null;
  model?: string;
  videos: number;
  spend: number;
}

type Group = "day" | "key" | "model";

const DAYS = [7, 30, 90];

/** What was spent, by day, key and model, as pictures. */
export function Spend() {
  const [days, setDays] = useKept("days", 30);
  const by = (group: Group) => (signal: AbortSignal) =>
    ask<Sum[]>("/spend/report", { query: { group_by: group, start_date: dayBefore(days - 1), end_date: dayBefore(0) }, signal });
  const byDay = useLoaded(by("day"), [days], 30);
  const byKey = useLoaded(by("key"), [days], 30);
  const byModel = useLoaded(by("model"), [days], 30);
  const total = byDay.value?.reduce((sum, each) => sum + each.spend, 0);
  return (
    <section aria-labelledby="spend">
      <header>
        <h2 id="spend">Spend</h2>
        <label>
          of the last
          <select value={days} onChange={(event) => setDays(Number(event.currentTarget.value))}>
            {DAYS.map((each) => (
              <option key={each} value={each}>
                {each} days
              </option>
            ))}
          </select>
        </label>
        {total !== undefined && <strong class="total">{dollars(total)}</strong>}
      </header>
      {byDay.refusal && <Trouble refusal={byDay.refusal} again={byDay.again} />}
      {byDay.value && <Days days={days} sums={byDay.value} />}
      <div class="halves">
        <Ranking name="By key" sums={byKey.value} label={(sum) => sum.key_alias ?? nameOfKey(sum.key ?? "")} />
        <Ranking name="By model" sums={byModel.value} label={(sum) => sum.model ?? ""} />
      </div>
    </section>
  );
}

/** A day of UTC, as the gateway counts them. */
function dayBefore(days: number): string {
  return new Date(Date.now() - days * 86_400_000).toISOString().slice(0, 10);
}

export function nameOfKey(id: string): string {
  return id === "key_00000000" ? "Operator" : id;
}

const HEIGHT = 120;

function Days({ days, sums }: { days: number; sums: Sum[] }) {
  const known = new Map(sums.map((sum) => [sum.day, sum]));
  const each = Array.from({ length: days }, (_, at) => dayBefore(days - 1 - at));
  const most = Math.max(...sums.map((sum) => sum.spend), 0.01);
  return (
    <figure class="days">
      <svg viewBox={`0 0 ${days * 10} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={`Spend by day: ${inWords(sums)}`}>
        {each.map((day, at) => {
          const sum = known.get(day);
          const height = sum?.spend ? Math.max(2, (sum.spend / most) * HEIGHT) : 1;
          return (
            <rect key={day} class={sum?.spend ? "" : "none"} x={at * 10 + 1} y={HEIGHT - height} width={8} height={height}>
              <title>{`${day}: ${dollars(sum?.spend ?? 0)}, ${plural(sum?.videos ?? 0, "video")}`}</title>
            </rect>
          );
        })}
      </svg>
      <figcaption>
        <span>{each[0]}</span>
        <span>most on a day: {dollars(most === 0.01 ? 0 : most)}</span>
        <span>{each.at(-1)}</span>
      </figcaption>
    </figure>
  );
}

function inWords(sums: Sum[]): string {
  return sums.map((sum) => `${sum.day} ${dollars(sum.spend)}`).join(", ") || "none";
}

interface RankingProps {
  name: string;
  sums: Sum[] | null;
  label: (sum: Sum) => string;
}

const MOST_RANKED = 8;

function Ranking({ name, sums, label }: RankingProps) {
  const sorted = [...(sums ?? [])].sort((one, other) => other.spend - one.spend);
  const most = sorted[0]?.spend || 1;
  return (
    <div class="ranking">
      <h3>{name}</h3>
      {sums && !sorted.length && <p class="hint">Nothing was spent.</p>}
      <ol>
        {sorted.slice(0, MOST_RANKED).map((sum) => (
          <li key={sum.key ?? sum.model}>
            <span class="name">{label(sum)}</span>
            <span class="amount">
              {dollars(sum.spend)} <small>{plural(sum.videos, "video")}</small>
            </span>
            <svg viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
              <rect width={(sum.spend / most) * 100} height="4" />
            </svg>
          </li>
        ))}
      </ol>
      {sorted.length > MOST_RANKED && <p class="hint">and {sorted.length - MOST_RANKED} more</p>}
    </div>
  );
}
