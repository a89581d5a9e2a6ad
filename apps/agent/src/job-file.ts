import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import { type CloudJob, type JobStep, type RecordSchema, recordSchema as z } from "@cocoon-net/core";
import { replaceFile } from "./durable-file.ts";
import { readRecord } from "./state-directory.ts";

interface JobRecord {
  readonly id: string;
  readonly kind: string;
  readonly steps: readonly JobStep[];
}

const schema: RecordSchema<JobRecord> = z.object({
  id: z.string(),
  kind: z.string(),
  steps: z.array(
    z.object({
      action: z.string(),
      phase: z.oneOf(["intent", "done", "failed"]),
      key: z.string(),
      detail: z.exactOptional(z.record(z.string())),
    }),
  ),
});

/** A node's own cloud job, kept in a file (G11). A job of the same kind that a crash left is taken up again. */
export class FileJob implements CloudJob {
  readonly id: string;
  readonly steps: JobStep[];
  readonly #path: string;
  readonly #kind: string;

  private constructor(path: string, record: JobRecord) {
    this.id = record.id;
    this.steps = [...record.steps];
    this.#path = path;
    this.#kind = record.kind;
  }

  /** What a job that did not end has written down. */
  static async leftSteps(path: string): Promise<readonly JobStep[]> {
    return (await readRecord(path, schema))?.steps ?? [];
  }

  static async open(path: string, kind: string): Promise<FileJob> {
    const left = await readRecord(path, schema);
    const record = left?.kind === kind ? left : { id: randomUUID(), kind, steps: left?.steps ?? [] };
    const job = new FileJob(path, record);
    await job.#write();
    return job;
  }

  async record(step: JobStep): Promise<void> {
    this.steps.push(step);
    await this.#write();
  }

  /** Everything is done and recorded elsewhere: the note goes. */
  async finish(): Promise<void> {
    await rm(this.#path, { force: true });
  }

  async #write(): Promise<void> {
    const record: JobRecord = { id: this.id, kind: this.#kind, steps: this.steps };
    await replaceFile(this.#path, `${JSON.stringify(record, null, 2)}\n`);
  }
}
