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
  encodeMessages,
  messageSize,
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

/** Messages per system call. */
const BATCH = 512;
const GROUP = 128;
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

/** Many requests of one kind that do not depend on each other. */
export interface GroupRequest extends Omit<Request, "payload"> {
  readonly payloads: readonly Buffer[];
}

export interface Answer {
  /** Name of the errno with which the kernel refused; undefined when it did not. */
  readonly refusal: string | undefined;
  /** What the kernel says about the refusal, in words. */
  readonly reason: string | undefined;
  readonly payloads: readonly Buffer[];
  /** See 4. */
  readonly interrupted: boolean;
  /** Of a group: the places of those that the kernel refused. */
  readonly refused: readonly number[];
}

interface Exchange {
  readonly request: Pick<Request, "what" | "signal">;
  /** Shares a batch only with others that bring one small answer. */
  readonly alone: boolean;
  /** One message, or those of a group behind each other. */
  readonly messages: Buffer;
  readonly lastAt: number;
  readonly count: number;
  /** Of the last message. */
  readonly sequence: number;
  readonly payloads: Buffer[];
  readonly refused: number[];
  interrupted: boolean;
  settled: boolean;
  /** Monotonic milliseconds. */
  readonly deadline: number;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: unknown) => void;
}

const done: Answer = { refusal: undefined, reason: undefined, payloads: [], interrupted: false, refused: [] };

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
    return this.#exchange(request, NLM_F_ACK, false, [request.payload]);
  }

  /** Changes many things, at the cost of few. @returns the places of those that the kernel refused, for whatever reason */
  async changeAll(request: GroupRequest): Promise<readonly number[]> {
    const { payloads, ...rest } = request;
    const groups: Promise<readonly number[]>[] = [];
    for (let from = 0; from < payloads.length; from += GROUP) {
      const group = payloads.slice(from, from + GROUP);
      const answer = this.#exchange(rest, NLM_F_ACK, false, group);
      groups.push(
        answer.then(({ refusal, refused }) => {
          const last = refusal === undefined ? [] : [group.length - 1];
          return [...refused, ...last].map((place) => from + place);
        }),
      );
    }
    return (await Promise.all(groups)).flat();
  }

  /** Asks for one object. */
  get(request: Request): Promise<Answer> {
    return this.#exchange(request, 0, true, [request.payload]);
  }

  /** Lists objects. @throws {CocoonError} when the kernel refuses, or the list keeps changing underfoot */
  async list(request: Request): Promise<readonly Buffer[]> {
    for (let tries = 0; tries < DUMP_TRIES; tries++) {
      const answer = await this.#exchange(request, NLM_F_DUMP, true, [request.payload]);
      if (answer.refusal !== undefined) throw kernelError(request.what, answer.refusal, answer);
      if (!answer.interrupted) return answer.payloads;
    }
    throw new UnavailableError(`${request.what}: the list changed during each of ${DUMP_TRIES} tries`, {
      outcome: "none",
    });
  }

  #exchange(
    request: Omit<Request, "payload">,
    flags: number,
    alone: boolean,
    payloads: readonly Buffer[],
  ): Promise<Answer> {
    const { what, type, signal } = request;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (this.#closed !== undefined)
        throw new UnavailableError(`${what}: netlink socket is closed`, { outcome: "none" });
      const settle = (action: () => void): void => {
        if (exchange.settled) return;
        exchange.settled = true;
        action();
      };
      const messages = this.#encode(type, NLM_F_REQUEST | flags | (request.flags ?? 0), payloads);
      const exchange: Exchange = {
        request,
        alone,
        messages,
        lastAt: messages.length - messageSize(payloads.at(-1)),
        count: payloads.length,
        sequence: this.#sequence,
        payloads: [],
        refused: [],
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

  #encode(type: number, flags: number, payloads: readonly Buffer[]): Buffer {
    // The numbers of a group follow each other.
    if (this.#sequence + payloads.length > 0xffff_fffe) this.#sequence = 0;
    const first = this.#sequence + 1;
    this.#sequence += payloads.length;
    if (payloads.length === 1) return encodeMessages(type, flags, first, payloads);
    const last = encodeMessages(type, flags, this.#sequence, payloads.slice(-1));
    return Buffer.concat([encodeMessages(type, flags & ~NLM_F_ACK, first, payloads.slice(0, -1)), last]); // 6
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
      for (const { messages, lastAt } of batch.slice(0, -1)) clearFlags(messages, lastAt, NLM_F_ACK); // 6
      try {
        await send(this.#fd, Buffer.concat(batch.map(({ messages }) => messages)));
      } catch (error) {
        for (const { request, reject } of batch) {
          reject(kernelError(`${request.what}: netlink send`, codeOf(error) ?? String(error)));
        }
        continue;
      }
      try {
        this.#receive(batch);
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
    let count = 0;
    let taken = 0;
    for (const next of this.#queue) {
      if (batch.length > 0 && (next.alone || count + next.count > BATCH)) break;
      taken++;
      if (next.settled) continue;
      if (next.request.signal?.aborted) {
        next.reject(next.request.signal.reason);
        continue;
      }
      batch.push(next);
      count += next.count;
      if (next.alone) break;
    }
    this.#queue.splice(0, taken);
    return batch;
  }

  /** Reads the answers to a batch, all of which the kernel has given by now, in the order of the requests. */
  #receive(batch: readonly Exchange[]): void {
    for (let next = 0; next < batch.length; ) {
      const length = receive(this.#fd, this.#buffer);
      for (const message of decodeMessages(this.#buffer.subarray(0, length))) {
        const at = batch.findIndex(({ sequence, count }, index) => {
          return index >= next && message.sequence <= sequence && message.sequence > sequence - count;
        });
        const exchange = batch[at];
        if (exchange === undefined) continue;
        for (; next < at; next++) batch[next]?.resolve(done); // 6
        if (message.sequence < exchange.sequence) {
          exchange.refused.push(message.sequence - exchange.sequence + exchange.count - 1);
          continue;
        }
        exchange.interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0;
        const isLast = message.type === NLMSG_ERROR || message.type === NLMSG_DONE;
        // The buffer is used again.
        if (!isLast) exchange.payloads.push(Buffer.from(message.payload));
        if (!isLast && (message.flags & NLM_F_MULTI) !== 0) continue;
        next = at + 1;
        const errno = isLast && message.payload.length >= 4 ? -readS32(message.payload, 0) : 0;
        const hasReason = message.type === NLMSG_ERROR && (message.flags & NLM_F_ACK_TLVS) !== 0;
        const { payloads, interrupted, refused } = exchange;
        exchange.resolve({
          refusal: errno > 0 ? errnoName(errno) : undefined,
          reason: hasReason
            ? textOf(attributesOf(message.payload, ERROR_LENGTH).get(NLMSGERR_ATTR_MSG))
            : undefined,
          payloads,
          interrupted,
          refused,
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
