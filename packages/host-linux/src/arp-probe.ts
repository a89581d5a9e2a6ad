import { AuthError, NotFoundError, parseAddress } from "@cocoon-net/core";
import { checkInterfaceName } from "./interface-name.ts";
import { codeOf, kernelError } from "./kernel-errors.ts";
import { closeSocket, receive } from "./libc.ts";
import { formatMAC, parseMAC } from "./mac-address.ts";
import { openPacketSocket, type PacketSocket, sendNow } from "./packet-socket.ts";

export interface ArpProbeOptions {
  /** Default `cni0`. */
  readonly device?: string | undefined;
  /** How long to wait for an answer; the question is put twice in that time. Default 400, at most 500. */
  readonly timeoutMs?: number | undefined;
}

/** Asks a link by ARP who uses an address (RFC 5227 §2.1.1). */
export interface ArpProbe extends AsyncDisposable {
  /**
   * @returns the MAC of who uses the address, lowercase; undefined when nobody answers in time
   * @throws {NotFoundError} when there is no such link
   * @throws {AuthError} without CAP_NET_RAW
   */
  probe(ip: string): Promise<string | undefined>;
}

const ETHERTYPE_ARP = 0x0806;
const ETHERNET_BYTES = 14;
const FRAME_BYTES = 60;
/** A guest on the same host answers well within a millisecond. */
const pollMs = 2;

export function openArpProbe(options: ArpProbeOptions = {}): ArpProbe {
  const timeoutMs = Math.min(500, options.timeoutMs ?? 400);
  return new LinkProbe(checkInterfaceName(options.device ?? "cni0"), timeoutMs);
}

interface Question {
  readonly frame: Buffer;
  readonly answer: Promise<string | undefined>;
  readonly settle: (mac: string | undefined) => void;
  readonly until: number;
  /** When to ask again; Infinity when that was done. */
  againAt: number;
}

/** The socket is open only while something is asked: at other times ARP traffic would fill its buffer. */
class LinkProbe implements ArpProbe {
  readonly #device: string;
  readonly #timeoutMs: number;
  readonly #questions = new Map<string, Question>();
  readonly #buffer: Buffer = Buffer.alloc(2048);
  #socket: PacketSocket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(device: string, timeoutMs: number) {
    this.#device = device;
    this.#timeoutMs = timeoutMs;
  }

  async probe(ip: string): Promise<string | undefined> {
    const asked = this.#questions.get(ip);
    if (asked !== undefined) return asked.answer;
    if (this.#isClosed) return undefined;
    try {
      this.#socket ??= openPacketSocket(this.#device, ETHERTYPE_ARP);
      const { promise, resolve } = Promise.withResolvers<string | undefined>();
      const now = performance.now();
      const question: Question = {
        frame: requestFrame(this.#socket.mac, ip),
        answer: promise,
        settle: resolve,
        until: now + this.#timeoutMs,
        againAt: now + this.#timeoutMs / 3,
      };
      sendNow(this.#socket.fd, question.frame);
      this.#questions.set(ip, question);
      this.#timer ??= setInterval(() => this.#look(), pollMs);
      return promise;
    } catch (error) {
      this.#closeIfIdle();
      throw this.#explain(error);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    for (const { settle } of this.#questions.values()) settle(undefined);
    this.#questions.clear();
    this.#closeIfIdle();
  }

  #look(): void {
    try {
      this.#receiveAll();
    } catch {
      // The link is gone or down: nobody answers.
    }
    const now = performance.now();
    for (const [ip, question] of this.#questions) {
      if (question.until <= now) this.#answer(ip, undefined);
      else if (question.againAt <= now) {
        question.againAt = Number.POSITIVE_INFINITY;
        try {
          if (this.#socket !== undefined) sendNow(this.#socket.fd, question.frame);
        } catch {
          // Likewise.
        }
      }
    }
    this.#closeIfIdle();
  }

  #receiveAll(): void {
    while (this.#socket !== undefined) {
      let length: number;
      try {
        length = receive(this.#socket.fd, this.#buffer);
      } catch (error) {
        if (codeOf(error) === "EAGAIN" || codeOf(error) === "EWOULDBLOCK") return;
        throw error;
      }
      const sender = senderOf(this.#buffer.subarray(0, length));
      if (sender !== undefined && sender.mac !== this.#socket.mac) this.#answer(sender.ip, sender.mac);
    }
  }

  #answer(ip: string, mac: string | undefined): void {
    this.#questions.get(ip)?.settle(mac);
    this.#questions.delete(ip);
  }

  #closeIfIdle(): void {
    if (this.#questions.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#socket !== undefined) closeSocket(this.#socket.fd);
    this.#socket = undefined;
  }

  #explain(error: unknown): unknown {
    const what = `ask by ARP on ${this.#device}`;
    const code = codeOf(error);
    if (code === "ENODEV") return new NotFoundError(`${what}: there is no link of that name`);
    if (code === "EPERM" || code === "EACCES") {
      return new AuthError(`${what}: ${code}`, { hint: "run as root, or with CAP_NET_RAW" });
    }
    return code === undefined ? error : kernelError(what, code);
  }
}

/** Sender address 0.0.0.0: a question that changes nobody's ARP cache (RFC 5227 §1.1). */
function requestFrame(mac: string, ip: string): Buffer {
  const frame = Buffer.alloc(FRAME_BYTES);
  frame.fill(0xff, 0, 6);
  frame.set(parseMAC(mac), 6);
  frame.writeUInt16BE(ETHERTYPE_ARP, 12);
  frame.set([0, 1, 8, 0, 6, 4, 0, 1], ETHERNET_BYTES);
  frame.set(parseMAC(mac), 22);
  frame.writeUInt32BE(parseAddress(ip), 38);
  return frame;
}

/** Whoever sends an ARP packet from an address uses it, request or reply (RFC 5227 §2.1.1). */
function senderOf(frame: Buffer): { readonly mac: string; readonly ip: string } | undefined {
  if (frame.length < 42 || frame.readUIntBE(ETHERNET_BYTES, 6) !== 0x000108000604) return undefined;
  return { mac: formatMAC(frame.subarray(22, 28)), ip: frame.subarray(28, 32).join(".") };
}
