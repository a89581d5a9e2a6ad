import { type Change, type Revision, UnavailableError } from "@cocoon-net/core";
import type { IEvent, IWatchResponse } from "etcd3";
import type { EtcdConnection } from "./connection.ts";
import { toCocoonError } from "./errors.ts";
import type { KeyRange, Keyspace } from "./keyspace.ts";
import { endStream } from "./shared-client.ts";

/** All changes of one revision under the watched range; none where the server only says how far it is. */
export interface Step {
  readonly revision: Revision;
  readonly changes: readonly Change[];
}

/** The revision to go on from has been compacted away. */
export class HistoryGoneError extends Error {}

/** Changes kept for a consumer that is slow. Beyond it the stream is let go and taken up again later. */
const maxWaiting = 10_000;
/** Deadline of a stream's first frame. */
const createTimeoutMs = 5_000;

/**
 * One watch stream: every change after revision `after`, in order. Throws {@link HistoryGoneError}, or an
 * UnavailableError when the stream breaks, falls silent or overflows, in any case only after what had
 * arrived was taken; the caller goes on from there. Ends at the time `until`, by `performance.now`, and when `ended`
 * aborts.
 */
export async function* followChanges(
  connection: EtcdConnection,
  keyspace: Keyspace,
  range: KeyRange,
  after: Revision,
  ended: AbortSignal,
  until: number,
): AsyncGenerator<Step, void, void> {
  const call = { what: "watch", where: connection.where, writes: false };
  const stream = await connection.watchStream(ended);
  const fail = (error: unknown) => steps.close(toCocoonError(error, call));
  const onEnded = () => steps.close(undefined);
  const probed = { range, heard: true, ask: () => stream.write({ progress_request: {} }), fail };
  const probing = connection.watchProbes.add(probed);
  const creating = setTimeout(() => fail(new Error("no sign of life")), createTimeoutMs);
  const ending = Number.isFinite(until) ? setTimeout(onEnded, until - performance.now()) : undefined;
  const steps = new StepQueue(keyspace, () => {
    probing[Symbol.dispose]();
    clearTimeout(creating);
    clearTimeout(ending);
    ended.removeEventListener("abort", onEnded);
    endStream(stream);
  });
  ended.addEventListener("abort", onEnded, { once: true });
  stream.on("data", (frame) => {
    clearTimeout(creating);
    probed.heard = true;
    steps.take(frame);
  });
  stream.on("error", fail);
  stream.on("end", () => fail(new Error("the server ended the stream")));
  try {
    stream.write({
      create_request: { ...range, start_revision: String(after + 1), progress_notify: true, fragment: true },
    });
    for (;;) {
      const step = await steps.next();
      if (step === undefined || ended.aborted) return;
      yield step;
    }
  } finally {
    steps.close(undefined);
  }
}

/** Makes steps of frames, and holds them until they are taken. */
class StepQueue {
  readonly #keyspace: Keyspace;
  readonly #onClose: () => void;
  readonly #steps: Step[] = [];
  #fragments: IEvent[] = [];
  #watchId: string | undefined;
  #waiting = 0;
  #closed: { readonly error: Error | undefined } | undefined;
  #wake: () => void = () => {};

  /** `onClose` runs once, when nothing more will be taken in. */
  constructor(keyspace: Keyspace, onClose: () => void) {
    this.#keyspace = keyspace;
    this.#onClose = onClose;
  }

  take(frame: IWatchResponse): void {
    if (this.#closed !== undefined) return;
    if (frame.canceled) {
      // Without a compacted revision: refused, because of a token that expired or for good. The probe before
      // the next try tells which.
      const compacted = Number(frame.compact_revision) > 0;
      const reason = `watch canceled: ${frame.cancel_reason}`;
      this.close(
        compacted ? new HistoryGoneError(reason) : new UnavailableError(reason, { outcome: "none" }),
      );
      return;
    }
    if (frame.created) {
      this.#watchId = frame.watch_id;
      return;
    }
    this.#fragments.push(...frame.events);
    if (frame.fragment) return;
    const events = this.#fragments;
    this.#fragments = [];
    if (events.length > 0) this.#add(events);
    // Answers to our own progress requests carry no watch's id. Servers before 3.5.8 may send them ahead of
    // changes that are not newer, so they are a sign of life only.
    else if (frame.watch_id === this.#watchId)
      this.#push({ revision: Number(frame.header.revision), changes: [] });
  }

  /** What was taken in stays to be read; then comes the error, or without one the end. */
  close(error: Error | undefined): void {
    if (this.#closed !== undefined) return;
    this.#closed = { error };
    this.#onClose();
    this.#wake();
  }

  async next(): Promise<Step | undefined> {
    for (;;) {
      const step = this.#steps.shift();
      if (step !== undefined) {
        this.#waiting -= step.changes.length;
        return step;
      }
      if (this.#closed?.error !== undefined) throw this.#closed.error;
      if (this.#closed !== undefined) return undefined;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
  }

  /** etcd never splits a revision over two frames, save into fragments, and those are joined by now. */
  #add(events: readonly IEvent[]): void {
    let changes: Change[] = [];
    let revision: Revision | undefined;
    for (const event of events) {
      const eventRevision = Number(event.kv.mod_revision);
      if (revision !== undefined && revision !== eventRevision) {
        this.#push({ revision, changes });
        changes = [];
      }
      revision = eventRevision;
      changes.push(
        event.type === "Delete"
          ? { type: "delete", key: this.#keyspace.relative(event.kv.key), revision }
          : { type: "put", entry: this.#keyspace.entry(event.kv) },
      );
    }
    if (revision !== undefined) this.#push({ revision, changes });
    if (this.#waiting > maxWaiting) {
      this.close(
        new UnavailableError("watch: the changes are not taken as fast as they come", { outcome: "none" }),
      );
    }
  }

  #push(step: Step): void {
    this.#steps.push(step);
    this.#waiting += step.changes.length;
    this.#wake();
  }
}
