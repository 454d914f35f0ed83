// Objects of the API, as far as this page reads them.

export type Status = "queued" | "in_progress" | "completed" | "failed";

export interface Video {
  id: string;
  model: string;
  status: Status;
  progress: number;
  progress_estimated: boolean;
  created_at: number;
  completed_at: number | null;
  expires_at: number | null;
  prompt: string;
  size: string;
  seconds: string;
  remixed_from_video_id: string | null;
  error: { code: string | null; message: string | null; upstream_request_id: string | null } | null;
  queue: { position: number; estimated_start: number | null } | null;
  fallback_from: string | null;
  request_id: string | null;
}

export interface Page<T> {
  data: T[];
  last_id: string | null;
  has_more: boolean;
}

export type Counts = Record<Status, number> & { has_more: boolean };

export interface Model {
  id: string;
  sizes: string[];
  any_size: boolean;
  seconds: string[];
  parameters: Record<string, string>;
  variants: string[];
  remix: boolean;
  retires: string | null;
}

export interface Key {
  key_id: string;
  key_name: string | null;
  key_alias: string | null;
  token: string;
  status: "active" | "expired" | "revoked" | "deleted";
  spend: number;
  reserved: number;
  max_budget: number | null;
  budget_duration: string | null;
  budget_reset_at: string | null;
  running: number;
  blocked: boolean;
  models: string[];
  expires: string | null;
}

/** Who has signed in: the operator, whose key has no limits, or a key. */
export type Caller = { operator: true; key: null } | { operator: false; key: Key };

export const unfinished = (video: Video): boolean => video.status === "queued" || video.status === "in_progress";
