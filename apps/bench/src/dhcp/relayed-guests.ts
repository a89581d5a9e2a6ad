import { formatAddress, parseAddress } from "@cocoon-net/core";
import { BatchSocket, type Endpoint, realTimeMs } from "./batch-socket.ts";
import {
  type Answer,
  discover,
  type Guest,
  messageBytes,
  messageTypes,
  readAnswer,
  renew,
  select,
  XID,
} from "./guest-messages.ts";
import { quantile } from "./search.ts";

export interface GuestsOptions {
  /** The relay that speaks for them. */
  readonly relay: Endpoint;
  readonly server: Endpoint;
  readonly count: number;
  /** What the server is configured to give. */
  readonly leaseSeconds: number;
  /** What comes later than that is no answer. Default 1,000. */
  readonly patienceMs?: number;
}

export interface Outcome {
  /** Exchanges or renewals. */
  readonly begun: number;
  /** Messages that are to be answered. */
  readonly sent: number;
  /** Answered in time, and rightly. */
  readonly answered: number;
  /** Of these, ACKs. */
  readonly acks: number;
  /** Answers that were not what the guest may expect, and the first of them. */
  readonly wrong: number;
  readonly example?: string;
  /** From the first beginning to the last. */
  readonly tookMs: number;
  /** Of the answered, in milliseconds: from the moment before the message was handed to the kernel to the answer's arrival. */
  readonly p50: number;
  readonly p99: number;
  /** Processor time of the generator, in milliseconds. */
  readonly cpuMs: number;
}

/** Short, so that messages go out one by one: a server that gets three at once is woken once, and seems to cost less. */
const tickMs = 0.2;
/** So much faster than the rate do messages go out after a lost time slice: a burst would test a server's queue. */
const haste = 1.25;
/** What is made up for at once of such a slice. */
const longestTickMs = 2;
const mostPasses = 20;

/**
 * Many guests behind one relay, in one loop that never waits for an answer. The messages are encoded beforehand; what
 * changes is the transaction id, which counts up, so that an answer says by it which message it is for.
 */
export class RelayedGuests implements Disposable {
  readonly #socket: BatchSocket;
  readonly #server: number;
  readonly #leaseSeconds: number;
  readonly #guests: readonly Guest[];
  /** By guest; 0 as long as it has no lease. */
  readonly #addresses: Uint32Array;
  readonly #bed = new Int32Array(new SharedArrayBuffer(4));
  readonly #patienceMs: number;
  #nextXid = 1;

  constructor(options: GuestsOptions) {
    this.#server = parseAddress(options.server.address);
    this.#leaseSeconds = options.leaseSeconds;
    this.#patienceMs = options.patienceMs ?? 1_000;
    const relay = parseAddress(options.relay.address);
    this.#guests = Array.from({ length: options.count }, (_, number) => ({ number, relay }));
    this.#addresses = new Uint32Array(options.count);
    this.#socket = new BatchSocket(options.relay, options.server, options.count);
  }

  /**
   * Every guest gets a lease, by DORA; those that come away empty-handed try again. @returns what came of the first try
   * @throws when some remain without
   */
  lease(rate: number): Outcome {
    const everybody = this.#guests.map(({ number }) => number);
    const first = this.#exchange(everybody, rate);
    for (let pass = 1; pass < mostPasses; pass++) {
      const without = everybody.filter((guest) => this.#addresses[guest] === 0);
      if (without.length === 0) break;
      this.#exchange(without, rate / 2);
    }
    const without = this.#addresses.filter((address) => address === 0).length;
    if (without > 0) throw new Error(`${without} of ${this.#guests.length} guests have got no lease`);
    for (const guest of this.#guests) {
      renew(this.#slot(guest.number), guest, this.#addresses[guest.number] ?? 0);
    }
    return first;
  }

  /** The guests renew in turn, at an even pace. */
  renew(rate: number, seconds: number): Outcome {
    const trial = new Trial(Math.round(rate * seconds), 1, this.#patienceMs);
    const { length } = this.#guests;
    const firstXid = this.#take(trial.count);
    return this.#run(trial, {
      rate,
      begin: (index) => {
        const guest = index % length;
        this.#socket.setWord(guest, XID, firstXid + index);
        this.#socket.send(guest);
      },
      answer: (answer, at) => {
        const index = answer.xid - firstXid;
        if (index < 0 || index >= trial.count) return; // of an earlier trial
        const guest = index % length;
        const isRight = answer.type === messageTypes.ack && answer.address === this.#addresses[guest];
        if (!isRight || answer.guest !== guest || !this.#isWhole(answer)) trial.wrong(answer);
        else trial.answered(index, at, true);
      },
    });
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }

  #exchange(guests: readonly number[], rate: number): Outcome {
    const trial = new Trial(guests.length, 2, this.#patienceMs);
    const firstXid = this.#take(trial.count);
    for (const guest of guests) discover(this.#slot(guest), this.#guest(guest));
    const offered = new Uint32Array(guests.length);
    return this.#run(trial, {
      rate,
      begin: (index) => {
        const guest = guests[index] ?? 0;
        this.#socket.setWord(guest, XID, firstXid + index);
        this.#socket.send(guest);
      },
      answer: (answer, at) => {
        const index = answer.xid - firstXid;
        const guest = guests[index];
        if (guest === undefined) return;
        const known = offered[index] ?? 0;
        const isOffer = answer.type === messageTypes.offer && answer.address !== 0;
        const isAck = answer.type === messageTypes.ack && known !== 0 && answer.address === known;
        if (!(isOffer || isAck) || answer.guest !== guest || !this.#isWhole(answer)) trial.wrong(answer);
        else if (isAck) {
          if (trial.answered(trial.count + index, at, true)) this.#addresses[guest] = answer.address;
        } else if (trial.answered(index, at, false)) {
          offered[index] = answer.address;
          select(this.#slot(guest), this.#guest(guest), answer.address, answer.server);
          this.#socket.setWord(guest, XID, firstXid + index);
          this.#socket.send(guest);
          trial.sent(trial.count + index, realTimeMs());
        }
      },
    });
  }

  #run(trial: Trial, { rate, begin, answer }: Script): Outcome {
    const cpu = process.cpuUsage();
    const start = realTimeMs();
    let now = start;
    let begun = 0;
    let allowance = 1;
    let lastBegun = start;
    const take = (message: DataView, length: number, at: number): void => {
      const read = readAnswer(message, length);
      if (read !== undefined) answer(read, at);
    };
    for (;;) {
      const due = Math.min(trial.count, Math.ceil(((now - start) / 1_000) * rate));
      for (; begun < due && allowance >= 1; begun++, allowance--) {
        begin(begun);
        trial.sent(begun, now);
        lastBegun = now;
      }
      this.#socket.flush();
      this.#socket.receive(take);
      this.#socket.flush();
      if (begun === trial.count && (trial.isComplete || now > lastBegun + trial.patienceMs)) break;
      Atomics.wait(this.#bed, 0, 0, tickMs);
      const before = now;
      now = realTimeMs();
      allowance = Math.min(1, allowance) + haste * rate * (Math.min(longestTickMs, now - before) / 1_000);
    }
    const used = process.cpuUsage(cpu);
    return trial.outcome(lastBegun - start, (used.user + used.system) / 1_000);
  }

  #take(count: number): number {
    const first = this.#nextXid;
    this.#nextXid += count;
    return first;
  }

  #isWhole({ server, leaseSeconds }: Answer): boolean {
    return server === this.#server && leaseSeconds === this.#leaseSeconds;
  }

  #slot(guest: number): Buffer {
    return this.#socket.slot(guest, messageBytes);
  }

  #guest(number: number): Guest {
    const guest = this.#guests[number];
    if (guest === undefined) throw new Error(`there is no guest ${number}`);
    return guest;
  }
}

interface Script {
  /** Messages to begin each second. */
  readonly rate: number;
  readonly begin: (index: number) => void;
  readonly answer: (answer: Answer, atMs: number) => void;
}

/** What has been sent and what came back. */
class Trial {
  readonly count: number;
  /** After the last one has begun, no answer can be in time. */
  readonly patienceMs: number;
  readonly #longestMs: number;
  readonly #sentAt: Float64Array;
  readonly #tookMs: Float64Array;
  #sent = 0;
  #answered = 0;
  #acks = 0;
  #wrong = 0;
  #example: Answer | undefined;

  /** @param parts how many messages of a guest are to be answered, one after the other */
  constructor(count: number, parts: number, patienceMs: number) {
    this.count = count;
    this.patienceMs = parts * patienceMs;
    this.#longestMs = patienceMs;
    this.#sentAt = new Float64Array(count * parts);
    this.#tookMs = new Float64Array(count * parts).fill(Number.NaN);
  }

  sent(message: number, at: number): void {
    this.#sent++;
    this.#sentAt[message] = at;
  }

  /** @returns whether it is the first answer, and in time */
  answered(message: number, at: number, isAck: boolean): boolean {
    const took = at - (this.#sentAt[message] ?? 0);
    if (took > this.#longestMs || !Number.isNaN(this.#tookMs[message] ?? 0)) return false;
    this.#tookMs[message] = Math.max(0, took);
    this.#answered++;
    if (isAck) this.#acks++;
    return true;
  }

  wrong(answer: Answer): void {
    this.#wrong++;
    this.#example ??= answer;
  }

  /** Whether there is nothing more to wait for. */
  get isComplete(): boolean {
    return this.#answered + this.#wrong >= this.#tookMs.length;
  }

  outcome(tookMs: number, cpuMs: number): Outcome {
    const ascending = this.#tookMs.filter((took) => !Number.isNaN(took)).sort();
    return {
      begun: this.count,
      sent: this.#sent,
      answered: this.#answered,
      acks: this.#acks,
      wrong: this.#wrong,
      ...(this.#example && { example: describe(this.#example) }),
      tookMs,
      p50: quantile(ascending, 0.5),
      p99: quantile(ascending, 0.99),
      cpuMs,
    };
  }
}

function describe({ type, address, guest, leaseSeconds }: Answer): string {
  return `type ${type}, ${formatAddress(address)} for ${leaseSeconds} s, to guest ${guest}`;
}
