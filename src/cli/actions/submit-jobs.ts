// Implements `qedit submit`: sends each line of a jobs file as a request, and writes the pictures of the answers.
import { randomUUID } from "node:crypto";
import { dirname, resolve } from "node:path";
import { ERRORS } from "../../edit/error-table.js";
import { type AvroCodec, openAvroCodec } from "../../server/kafka/avro-codec.js";
import { ClaimStore } from "../../server/kafka/claim-store.js";
import { type RunResponse, requestMessage, stageRequestMessage } from "../../server/kafka/kafka-messages.js";
import type { KafkaClient } from "../../server/kafka/kafka-port.js";
import { checkTopics, requestTopic, responseTopic, type Work } from "../../server/kafka/kafka-topics.js";
import { openKafka } from "../../server/kafka/platformatic-client.js";
import { openStoreFiles } from "../../server/kafka/store-files.js";
import { checkWholeWorkflow } from "../../server/kafka/workflow.js";
import { type ErrorCode, QeditError } from "../../std/errors.js";
import { fileHash } from "../../std/file-hash.js";
import { checkInputs, inputText } from "../files/input.js";
import { checkOutput, writeOutput } from "../files/output.js";
import { STREAM } from "../io.js";
import { OwnFiles } from "../jobs/files-of-jobs.js";
import { readJobs } from "../jobs/job-lines.js";
import { type Journal, openJournal } from "../jobs/journal.js";
import { failed, type JobEnd, refuseFailures, type Tally } from "../jobs/many.js";
import { journalPath, readJobsFile, resultState } from "../jobs/planned-lines.js";
import { type SendableLine, sendableLine, type UnsendableLine } from "../jobs/submitted-lines.js";
import { failureInFlags } from "../render/in-flags.js";
import type { Terminal } from "../render/terminal.js";
import { storeFolder } from "../server-socket.js";
import type { GivenSetting } from "../settings/settings.js";
import type { SubmitSettings } from "../settings/submit-options.js";

/** A call of `submit`. */
interface SubmitCall {
  readonly args: readonly string[];
  readonly settings: SubmitSettings;
  readonly given: ReadonlyMap<string, GivenSetting>;
}

type Line = SendableLine | UnsendableLine;

/** Largest picture that is taken from an answer. */
const MOST_BYTES = 256 * 1024 ** 2;

/** Sends the jobs of a file; with `wait`, writes their pictures. Throws QEDIT_E_PARTIAL if any failed. */
export async function submitJobs({ args: [file], settings, given }: SubmitCall, terminal: Terminal): Promise<void> {
  const { io } = terminal;
  checkWholeWorkflow(settings.workflow);
  checkInputs([file], io);
  const text = file === STREAM ? await inputText(STREAM, io) : await readJobsFile(file!);
  const jobs = await readJobs(text, file === STREAM ? io.cwd : dirname(resolve(file!)));
  const lines: Line[] = [];
  for (const job of jobs) lines.push(await sendableLine(job, given));
  const own = new OwnFiles();
  for (const each of lines) {
    const conflict = await own.take({ line: each.line, output: each.path, read: "read" in each ? each.read : [] });
    if (conflict !== undefined) throw conflict;
  }
  const files = await openStoreFiles(settings.store ?? storeFolder());
  const codec = await openAvroCodec(settings.schemaRegistry);
  const client = await openKafka(settings.kafka!);
  const journal = await openJournal(journalPath(`submit ${file === STREAM ? `stdin in ${io.cwd}` : resolve(file!)}`));
  try {
    const { workflow } = settings;
    await checkTopics(client, [...workflow.map(requestTopic), responseTopic(workflow.at(-1)!)], settings.kafka!);
    const store = new ClaimStore(files, MOST_BYTES);
    const tally = await new Submission({ client, codec, store, journal, settings, terminal, total: lines.length }).send(
      lines,
    );
    refuseFailures(tally, "Correct them, and run the same command with --wait --resume");
  } finally {
    await journal.close();
    await client.close();
  }
}

interface Parts {
  readonly client: KafkaClient;
  readonly codec: AvroCodec;
  readonly store: ClaimStore;
  readonly journal: Journal;
  readonly settings: SubmitSettings;
  readonly terminal: Terminal;
  readonly total: number;
}

class Submission {
  readonly #tally: Tally = { done: 0, failed: 0, skipped: 0 };
  /** Jobs without an answer, by id. */
  readonly #open = new Map<string, SendableLine>();

  constructor(private readonly parts: Parts) {}

  get #last(): Work {
    return this.parts.settings.workflow.at(-1)!;
  }

  async send(lines: readonly Line[]): Promise<Tally> {
    const { client, settings, terminal } = this.parts;
    // Answers from here on.
    const starts = (await client.offsets(responseTopic(this.#last))).map(({ next }) => next);
    for (const line of lines) {
      terminal.signal.throwIfAborted();
      const end = await this.#endWithoutRun(line);
      if (end === undefined) await this.#sendOne(line as SendableLine);
      else await this.#record(line, end);
    }
    if (settings.wait && this.#open.size > 0) await this.#answers(starts);
    return this.#tally;
  }

  async #endWithoutRun(line: Line): Promise<JobEnd | undefined> {
    if ("error" in line) return failed(line.error);
    const { settings, journal, terminal } = this.parts;
    const state = settings.resume ? await resultState(line, journal) : "nothing";
    if (state === "done") return { status: "skipped", reason: "done before" };
    if (state === "changed") return { status: "skipped", reason: "done before, and changed since" };
    if (!settings.wait) return undefined;
    try {
      await checkOutput(line.path, { force: line.isForced || state === "ours" }, terminal);
    } catch (error) {
      return failed(error);
    }
    return undefined;
  }

  async #sendOne(line: SendableLine): Promise<void> {
    const { client, codec, store, settings, terminal } = this.parts;
    const id = randomUUID();
    try {
      const [mask, images] = [await line.mask(), await store.pack(await line.pictures())];
      const packedMask = mask && (await store.pack([mask]))[0];
      const request = { images, mask: packedMask ?? null, parameters: line.parameters };
      const [first] = settings.workflow as readonly [Work];
      const value =
        first === "run"
          ? codec.encode("run.request", requestMessage(id, request))
          : codec.encode(`${first}.request`, stageRequestMessage(id, settings.workflow, request));
      await client.produce({ topic: requestTopic(first), key: id, value });
    } catch (error) {
      // Without brokers nothing of the rest arrives either.
      if (error instanceof QeditError && error.code === "QEDIT_E_NETWORK") throw error;
      return this.#record(line, failed(error));
    }
    this.#open.set(id, line);
    if (settings.wait) return;
    const record = { job: line.index, line: line.line, status: "submitted", id, output: line.path };
    terminal.item(record, JSON.stringify(record));
  }

  async #answers(starts: readonly bigint[]): Promise<void> {
    const { client, codec, terminal } = this.parts;
    const { signal } = terminal;
    for await (const { key, value } of client.read(responseTopic(this.#last), starts, signal)) {
      const line = this.#open.get(key?.toString("utf8") ?? "");
      if (line === undefined) continue;
      this.#open.delete(key!.toString("utf8"));
      let end: JobEnd;
      let seed: string | undefined;
      try {
        const response = await codec.decode(`${this.#last}.response`, value);
        await this.#write(line, response);
        const { drift, seconds } = response.result!;
        seed = response.result!.seed;
        const sum = Object.values(seconds).reduce((all, each) => all + each, 0);
        end = {
          status: "done",
          seconds: Number(sum.toFixed(3)),
          drift: drift === null ? null : (JSON.parse(drift) as object),
        };
      } catch (error) {
        end = failed(error);
      }
      await this.#record(line, end, seed);
      if (this.#open.size === 0) return;
    }
    signal.throwIfAborted();
  }

  async #write({ path, line, content, isForced }: SendableLine, { result, error }: RunResponse): Promise<void> {
    const { store, journal, settings, terminal } = this.parts;
    if (result === null) throw failureOfAnswer(error);
    const bytes = await store.unpack(result.picture);
    const hash = await fileHash(bytes);
    if (hash !== result.sha256)
      throw new QeditError(
        "QEDIT_E_NETWORK",
        `Cannot use the answer: the SHA-256 of its picture is ${hash}, wanted ${result.sha256}`,
      );
    const isOurs = settings.resume && (await resultState({ path, content }, journal)) === "ours";
    const entry = { output: resolve(path), line, content, hash };
    await journal.append({ ...entry, state: "writing" });
    await writeOutput(path, bytes, { force: isForced || isOurs, terminal });
    await journal.append({ ...entry, state: "done" });
  }

  // The same lines as those of a batch.
  async #record(line: Line, end: JobEnd, seed?: string): Promise<void> {
    const { terminal, journal, total } = this.parts;
    const { index, name, path } = line;
    this.#tally[end.status] += 1;
    const error = end.error && failureInFlags(end.error);
    const printed = {
      ...{ job: index, line: line.line, ...end },
      ...(error ? { error } : {}),
      output: path ?? null,
      ...(seed === undefined ? {} : { seed }),
    };
    terminal.item(printed, JSON.stringify(printed));
    terminal.emit({ kind: "job", state: end.status, job: name, index, total, ...(error ? { error } : {}) });
    if (error === undefined || error.code === "QEDIT_E_EXISTS") return;
    const { code, message } = error;
    const output = path === undefined ? undefined : resolve(path);
    const content = "content" in line ? line.content : undefined;
    await journal.append({ output, line: line.line, content, state: "failed", error: { code, message } });
  }
}

// A newer worker may know codes that are unknown here.
function failureOfAnswer(error: RunResponse["error"]): QeditError {
  const { code = "QEDIT_E_INTERNAL", message = "There is no picture and no error", hint } = error ?? {};
  const known = (code in ERRORS ? code : "QEDIT_E_INTERNAL") as ErrorCode;
  return new QeditError(known, message, { hint: hint ?? undefined });
}
