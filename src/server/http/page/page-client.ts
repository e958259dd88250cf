// The server as the page asks it: with the API key, which it asks for when the server wants one, and again when the server is away.
import { eventParser } from "./event-parser.js";
import type { Parameters } from "./form-values.js";
import { isEnded, type Job, type Model, type Progress, type Status } from "./page-wire.js";

/** A request that the server has refused. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint: string | undefined,
    /** JSON name of the parameter that it is about. */
    readonly parameter: string | undefined,
  ) {
    super(message);
  }
}

/** What a job is made of. */
export interface Edit {
  readonly pictures: readonly File[];
  readonly mask: File | undefined;
  readonly parameters: Parameters;
}

/** Receives what a job does. */
export interface Follower {
  readonly onJob: (job: Job) => void;
  readonly onProgress: (event: Progress) => void;
  readonly onPreview: (picture: Blob) => void;
  /** The server does not know it any more. */
  readonly onGone: () => void;
}

/** The server. Requests throw Refused, and TypeError where the server cannot be reached. */
export interface Client {
  readonly jobs: (limit: number) => Promise<readonly Job[]>;
  readonly job: (id: string) => Promise<Job>;
  readonly models: () => Promise<readonly Model[]>;
  readonly status: () => Promise<Status>;
  readonly picture: (path: string) => Promise<Blob>;
  /** Sends an edit of at most so many bytes; tries again while the server cannot be reached. */
  readonly submit: (edit: Edit, mostBytes: number) => Promise<Job>;
  readonly cancel: (id: string) => Promise<Job>;
  /** Follows a job until it ends or the signal is aborted, across restarts of the server. */
  readonly follow: (id: string, follower: Follower, signal: AbortSignal) => Promise<void>;
}

/** Milliseconds before a request is tried again: at first, and at most. */
const RETRY = { first: 500, most: 5_000 };
/** Times that an edit is sent while the server is away: about two minutes. */
const MOST_SENT = 25;
/** Times that a picture is asked for. */
const MOST_FETCHED = 5;
/** Times that a job may be unknown, while the server reads its jobs after a start. */
const MOST_UNKNOWN = 8;

/** The server of this page. `askForKey` gives the key, and is asked again with the reason if the server refuses it; `onReached` says whether the server answers. */
export function openClient({
  askForKey,
  onReached,
}: {
  askForKey: (refused: string | undefined) => Promise<string>;
  onReached: (isReached: boolean) => void;
}): Client {
  const ask = requests(askForKey, onReached);
  const json = async <Answer>(path: string, options: RequestInit = {}) =>
    (await (await ask(path, options)).json()) as Answer;
  return {
    jobs: async (limit) => (await json<{ jobs: readonly Job[] }>(`/v1/jobs?limit=${limit}`)).jobs,
    job: (id) => json<Job>(`/v1/jobs/${encodeURIComponent(id)}`),
    models: async () => (await json<{ data: readonly Model[] }>("/v1/models")).data,
    status: () => json<Status>("/v1/status"),
    picture: async (path) => (await patiently(() => ask(path, {}), MOST_FETCHED)).blob(),
    cancel: (id) => json<Job>(`/v1/jobs/${encodeURIComponent(id)}`, { method: "DELETE" }),
    async submit(edit, mostBytes) {
      // The key keeps an edit from being done twice that is sent twice.
      const headers = { "idempotency-key": randomKey(), "content-type": "application/json" };
      const body = await bodyOf(edit);
      // Browsers say of a request that is refused while it is sent only that it failed.
      if (body.size > mostBytes) throw tooLarge(body.size, mostBytes);
      return patiently(() => json<Job>("/v1/jobs", { method: "POST", headers, body }), MOST_SENT);
    },
    async follow(id, follower, signal) {
      let unknown = 0;
      for (let tried = 1; !signal.aborted; tried += 1) {
        try {
          const answer = await ask(`/v1/jobs/${encodeURIComponent(id)}/events`, { signal });
          unknown = 0;
          if (await readEvents(answer, follower)) return;
          tried = 0;
        } catch (error) {
          if (signal.aborted) return;
          if (error instanceof Refused && error.status === 404 && ++unknown > MOST_UNKNOWN) return follower.onGone();
        }
        await waiting(tried);
      }
    },
  };
}

// Tries again while the server is away or, with 503, stops.
async function patiently<Answer>(ask: () => Promise<Answer>, most: number): Promise<Answer> {
  for (let tried = 1; ; tried += 1) {
    try {
      return await ask();
    } catch (error) {
      const isAway = error instanceof Refused ? error.status === 503 : error instanceof TypeError;
      if (!isAway || tried >= most) throw error;
      await waiting(tried);
    }
  }
}

// Reads a job's stream to its end; whether the job has ended.
async function readEvents(answer: Response, follower: Follower): Promise<boolean> {
  const parse = eventParser();
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  let hasEnded = false;
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    for (const { name, data } of parse(piece.value)) {
      const value: unknown = JSON.parse(data);
      if (name === "state") {
        follower.onJob(value as Job);
        hasEnded = isEnded(value as Job);
      } else if (name === "progress") follower.onProgress(value as Progress);
      else if (name === "preview") follower.onPreview(pictureOf(value as { type: string; b64_json: string }));
    }
  }
  return hasEnded;
}

function requests(
  askForKey: (refused: string | undefined) => Promise<string>,
  onReached: (isReached: boolean) => void,
): (path: string, options: RequestInit) => Promise<Response> {
  let key = sessionStorage.getItem("qedit.key") ?? undefined;
  let asking: Promise<void> | undefined;
  // One dialog for all requests that wait for the key.
  const newKey = (refused: string | undefined): Promise<void> => {
    asking ??= askForKey(refused)
      .then((given) => {
        key = given;
        sessionStorage.setItem("qedit.key", given);
      })
      .finally(() => (asking = undefined));
    return asking;
  };
  return async (path, options) => {
    for (;;) {
      const used = key;
      const headers = new Headers(options.headers);
      if (used !== undefined) headers.set("authorization", `Bearer ${used}`);
      let answer: Response;
      try {
        answer = await fetch(path, { ...options, headers, credentials: "omit" });
      } catch (error) {
        if (!options.signal?.aborted) onReached(false);
        throw error;
      }
      onReached(true);
      if (answer.ok) return answer;
      if (answer.status !== 401) throw await refusalOf(answer);
      const refused = used === undefined ? undefined : (await refusalOf(answer)).message;
      // Another request may have got a new one meanwhile.
      if (used === key) await newKey(refused);
    }
  };
}

async function refusalOf(answer: Response): Promise<Refused> {
  const body: unknown = await answer.json().catch(() => undefined);
  const error = (body as { error?: Record<string, unknown> } | undefined)?.error;
  const text = (name: string) => (typeof error?.[name] === "string" ? error[name] : undefined);
  const message = text("message") ?? `The server answered ${answer.status} ${answer.statusText}`;
  return new Refused(answer.status, message, text("hint"), text("param"));
}

// JSON, since a form would turn the line breaks of a prompt into others.
async function bodyOf({ pictures, mask, parameters }: Edit): Promise<Blob> {
  const images = await Promise.all(pictures.map(fileOf));
  const body = { ...parameters, images, ...(mask && { mask: await fileOf(mask) }), previews: true };
  return new Blob([JSON.stringify(body)], { type: "application/json" });
}

function tooLarge(bytes: number, most: number): Refused {
  const megabytes = (count: number) => `${Number((count / 1e6).toPrecision(2))} MB`;
  const message = `Cannot send the pictures: they take ${megabytes(bytes)}, the server accepts ${megabytes(most)}`;
  return new Refused(413, message, "Make them smaller, or save them as JPEG", "image");
}

function fileOf(file: File): Promise<{ name: string; data: string }> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve({ name: file.name, data: (reader.result as string).replace(/^[^,]*,/, "") });
    reader.onerror = () => reject(new Refused(0, `Cannot read ${file.name}`, "Choose it again", "image"));
    reader.readAsDataURL(file);
  });
}

function pictureOf({ type, b64_json }: { type: string; b64_json: string }): Blob {
  const text = atob(b64_json);
  return new Blob([Uint8Array.from(text, (character) => character.charCodeAt(0))], { type });
}

// crypto.randomUUID is only there over https and on this machine.
function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function waiting(tried: number): Promise<void> {
  const milliseconds = Math.min(RETRY.most, RETRY.first * 2 ** (tried - 1));
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
