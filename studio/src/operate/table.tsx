import type { ComponentChild, ComponentChildren } from "preact";

interface Props {
  label: string;
  heads: ComponentChild[];
  children: ComponentChildren;
}

/** A table that is moved sideways where the window is narrow. */
export function Table({ label, heads, children }: Props) {
  return (
    <div class="wide" tabIndex={0} role="region" aria-label={label}>
      <table>
        <thead>
          <tr>
            {heads.map((each, number) => (
              <th key={number} scope="col">
                {each}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
