// An rtnetlink socket: requests in, answers out, in order.
//
// 1. The kernel carries a request out while it is being sent, and may wait for a lock that other programs hold. So
//    sending runs on a worker thread, and whatever queues up meanwhile goes out as one batch.
// 2. When the send returns, all answers are in the receive buffer. A batch is small enough for all of them to fit; the
//    kernel would drop what does not.
// 3. A list is a batch of its own: reading it makes the kernel produce the rest of it.
// 4. A list that the kernel marks as interrupted by a change (NLM_F_DUMP_INTR) may lack entries, so it is read again.
// 5. A request that has passed its deadline is over for the caller; the kernel may still carry it out.
// 6. The kernel takes the requests of a batch in order, and answers one that fails also when no answer was asked for. So
//    of a batch of changes only the last asks for one, and that answer says that the others succeeded.

import { UnavailableError } from "@cocoon-net/core";
import { codeOf, errnoName, kernelError } from "./kernel-errors.ts";
import { closeSocket, openNetlinkSocket, receive, send } from "./libc.ts";
import {
  attributesOf,
  clearFlags,
  decodeMessages,
  encodeMessage,
  readS32,
  textOf,
} from "./netlink-message.ts";

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_REQUEST = 0x1;
const NLM_F_MULTI = 0x2;
const NLM_F_ACK = 0x4;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_ACK_TLVS = 0x200;
const NLM_F_DUMP = 0x300;
const NLMSGERR_ATTR_MSG = 1;
/** errno, and the header of the request. */
const ERROR_LENGTH = 20;

const BATCH = 64;
const DUMP_TRIES = 5;
/** The kernel fills at most 32 KiB at a time. */
const RECEIVE_BYTES = 64 * 1024;

export interface Request {
  /** What is tried, on what; the head of every error message. */
  readonly what: string;
  readonly type: number;
  readonly payload: Buffer;
  readonly flags?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface Answer {
  /** Name of the errno with which the kernel refused; undefined when it did not. */
  readonly refusal: string | undefined;
  /** What the kernel says about the refusal, in words. */
  readonly reason: string | undefined;
  readonly payloads: readonly Buffer[];
  /** See 4. */
  readonly interrupted: boolean;
}

interface Exchange {
  readonly request: Request;
  /** Shares a batch only with others that bring one small answer. */
  readonly alone: boolean;
  readonly message: Buffer;
  readonly sequence: number;
  readonly payloads: Buffer[];
  interrupted: boolean;
  settled: boolean;
  /** Monotonic milliseconds. */
  readonly deadline: number;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

const done: Answer = { refusal: undefined, reason: undefined, payloads: [], interrupted: false };

/** The kernel's rtnetlink in the network namespace in which the socket was opened. */
export class NetlinkSocket implements AsyncDisposable {
  readonly #timeoutMs: number;
  readonly #fd: number;
  readonly #buffer: Buffer = Buffer.alloc(RECEIVE_BYTES);
  #queue: Exchange[] = [];
  #sent: readonly Exchange[] = [];
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #sequence = 0;
  #closed: Promise<void> | undefined;

  /** @param timeoutMs deadline of a request, its time in the queue included */
  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
    try {
      this.#fd = openNetlinkSocket();
    } catch (error) {
      throw kernelError("open netlink socket", codeOf(error) ?? String(error));
    }
  }

  /** Changes something. */
  change(request: Request): Promise<Answer> {
    return this.#exchange(request, NLM_F_ACK, false);
  }

  /** Asks for one object. */
  get(request: Request): Promise<Answer> {
    return this.#exchange(request, 0, true);
  }

  /** Lists objects. @throws {CocoonError} when the kernel refuses, or the list keeps changing underfoot */
  async list(request: Request): Promise<readonly Buffer[]> {
    for (let tries = 0; tries < DUMP_TRIES; tries++) {
      const answer = await this.#exchange(request, NLM_F_DUMP, true);
      if (answer.refusal !== undefined) throw kernelError(request.what, answer.refusal, answer);
      if (!answer.interrupted) return answer.payloads;
    }
    throw new UnavailableError(`${request.what}: the list changed during each of ${DUMP_TRIES} tries`, {
      outcome: "none",
    });
  }

  #exchange(request: Request, flags: number, alone: boolean): Promise<Answer> {
    const { what, type, payload, signal } = request;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (this.#closed !== undefined)
        throw new UnavailableError(`${what}: netlink socket is closed`, { outcome: "none" });
      this.#sequence = (this.#sequence % 0xffff_fffe) + 1;
      const sequence = this.#sequence;
      const settle = (action: () => void): void => {
        if (exchange.settled) return;
        exchange.settled = true;
        action();
      };
      const exchange: Exchange = {
        request,
        alone,
        sequence,
        message: encodeMessage({
          type,
          flags: NLM_F_REQUEST | flags | (request.flags ?? 0),
          sequence,
          payload,
        }),
        payloads: [],
        interrupted: false,
        settled: false,
        deadline: performance.now() + this.#timeoutMs,
        resolve: (answer) => settle(() => resolve(answer)),
        reject: (error) => settle(() => reject(error)),
      };
      this.#queue.push(exchange);
      this.#timer ??= setTimeout(() => this.#expire(), this.#timeoutMs);
      this.#running ??= this.#run();
    });
  }

  /** One timer for all: they have the same time, so the oldest is the first to run out of it. */
  #expire(): void {
    this.#timer = undefined;
    const now = performance.now();
    for (const [outcome, exchanges] of [
      ["unknown", this.#sent],
      ["none", this.#queue],
    ] as const) {
      for (const { request, deadline, settled, reject } of exchanges) {
        if (settled) continue;
        if (deadline > now) {
          this.#timer ??= setTimeout(() => this.#expire(), deadline - now);
          break;
        }
        const message = `${request.what}: no answer from the kernel within ${this.#timeoutMs} ms`;
        reject(new UnavailableError(message, { outcome }));
      }
    }
  }

  async #run(): Promise<void> {
    // Callers of this turn of the event loop get into the first batch.
    await new Promise(setImmediate);
    for (let batch = this.#nextBatch(); batch.length > 0; batch = this.#nextBatch()) {
      this.#sent = batch;
      for (const { message } of batch.slice(0, -1)) clearFlags(message, NLM_F_ACK); // 6
      try {
        await send(this.#fd, Buffer.concat(batch.map(({ message }) => message)));
      } catch (error) {
        for (const { request, reject } of batch) {
          reject(kernelError(`${request.what}: netlink send`, codeOf(error) ?? String(error)));
        }
        continue;
      }
      try {
        this.#receive(new Map(batch.map((exchange) => [exchange.sequence, exchange])));
      } catch (cause) {
        for (const { request, reject } of batch) {
          const message = `${request.what}: no answer from the kernel: ${codeOf(cause) ?? String(cause)}`;
          reject(new UnavailableError(message, { outcome: "unknown", cause }));
        }
      }
    }
    this.#sent = [];
    this.#running = undefined;
    if (this.#queue.length === 0) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    }
  }

  #nextBatch(): Exchange[] {
    const batch: Exchange[] = [];
    let taken = 0;
    for (const next of this.#queue) {
      if (batch.length === BATCH || (next.alone && batch.length > 0)) break;
      taken++;
      if (next.settled) continue;
      if (next.request.signal?.aborted) {
        next.reject(next.request.signal.reason);
        continue;
      }
      batch.push(next);
      if (next.alone) break;
    }
    this.#queue.splice(0, taken);
    return batch;
  }

  /** Reads the answers to a batch, all of which the kernel has given by now. */
  #receive(waiting: Map<number, Exchange>): void {
    while (waiting.size > 0) {
      const length = receive(this.#fd, this.#buffer);
      for (const message of decodeMessages(this.#buffer.subarray(0, length))) {
        const exchange = waiting.get(message.sequence);
        if (exchange === undefined) continue;
        exchange.interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0;
        const isLast = message.type === NLMSG_ERROR || message.type === NLMSG_DONE;
        // The buffer is used again.
        if (!isLast) exchange.payloads.push(Buffer.from(message.payload));
        if (!isLast && (message.flags & NLM_F_MULTI) !== 0) continue;
        for (const [sequence, earlier] of waiting) {
          waiting.delete(sequence);
          if (earlier === exchange) break;
          earlier.resolve(done); // 6
        }
        const errno = isLast && message.payload.length >= 4 ? -readS32(message.payload, 0) : 0;
        const hasReason = message.type === NLMSG_ERROR && (message.flags & NLM_F_ACK_TLVS) !== 0;
        const { payloads, interrupted } = exchange;
        exchange.resolve({
          refusal: errno > 0 ? errnoName(errno) : undefined,
          reason: hasReason
            ? textOf(attributesOf(message.payload, ERROR_LENGTH).get(NLMSGERR_ATTR_MSG))
            : undefined,
          payloads,
          interrupted,
        });
      }
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    for (const { request, reject } of this.#queue.splice(0)) {
      reject(new UnavailableError(`${request.what}: netlink socket was closed`, { outcome: "none" }));
    }
    // The number of the descriptor must not go to another file while a worker thread still uses it.
    await this.#running;
    closeSocket(this.#fd);
  }
}
