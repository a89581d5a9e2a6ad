// The messages of many guests, as a relay that speaks for them passes them on (RFC 2131, RFC 1542 §4.1).

/** Offsets of what is read and changed in place. */
export const XID = 4;
const CIADDR = 12;
const YIADDR = 16;
const GIADDR = 24;
const CHADDR = 28;
const COOKIE = 236;
const OPTIONS = 240;
const MAGIC = 0x63_82_53_63;
/** RFC 1542 §2.1: shorter ones are not sent. */
const SHORTEST = 300;

export const messageTypes = { discover: 1, offer: 2, request: 3, ack: 5, nak: 6 } as const;
const OPTION = { requested: 50, leaseTime: 51, type: 53, server: 54, wanted: 55, end: 255 } as const;
/** What guests ask for: mask, router, name servers, host name, domain, broadcast address. */
const wanted = [1, 3, 6, 12, 15, 28];

export interface Guest {
  /** The last four bytes of its MAC. */
  readonly number: number;
  readonly relay: number;
}

export interface Answer {
  readonly type: number;
  readonly xid: number;
  readonly address: number;
  /** The last four bytes of the MAC. */
  readonly guest: number;
  /** 0 when the answer does not name it. */
  readonly server: number;
  readonly leaseSeconds: number;
}

export const messageBytes: number = SHORTEST;

export function discover(into: Buffer, guest: Guest): void {
  write(into, guest, 0, [OPTION.type, 1, messageTypes.discover]);
}

/** SELECTING: takes the address that a server has offered. */
export function select(into: Buffer, guest: Guest, address: number, server: number): void {
  const named = [OPTION.requested, 4, ...bytesOf(address), OPTION.server, 4, ...bytesOf(server)];
  write(into, guest, 0, [OPTION.type, 1, messageTypes.request, ...named]);
}

/** RENEWING (RFC 2131 §4.3.2): the address in ciaddr, neither option 50 nor 54. */
export function renew(into: Buffer, guest: Guest, address: number): void {
  write(into, guest, address, [OPTION.type, 1, messageTypes.request]);
}

function write(into: Buffer, { number, relay }: Guest, ciaddr: number, options: readonly number[]): void {
  into.fill(0);
  into.set([1, 1, 6, 1]);
  into.writeUInt32BE(ciaddr, CIADDR);
  into.writeUInt32BE(relay, GIADDR);
  into.writeUInt16BE(0x02_42, CHADDR);
  into.writeUInt32BE(number, CHADDR + 2);
  into.writeUInt32BE(MAGIC, COOKIE);
  into.set([...options, OPTION.wanted, wanted.length, ...wanted, OPTION.end], OPTIONS);
}

/** What a server answers that knows nothing: the guest's number counts addresses from the first. */
export function answerTo(
  message: DataView,
  into: Buffer,
  first: number,
  server: number,
  leaseSeconds: number,
): void {
  const isDiscover = message.getUint8(OPTIONS + 2) === messageTypes.discover;
  const number = message.getUint32(CHADDR + 2);
  into.set([2, 1, 6, 1]);
  into.writeUInt32BE(message.getUint32(XID), XID);
  into.writeUInt32BE(message.getUint32(CIADDR), CIADDR);
  into.writeUInt32BE(first + number, YIADDR);
  into.writeUInt32BE(message.getUint32(GIADDR), GIADDR);
  into.writeUInt16BE(message.getUint16(CHADDR), CHADDR);
  into.writeUInt32BE(number, CHADDR + 2);
  into.writeUInt32BE(MAGIC, COOKIE);
  into.set([OPTION.type, 1, isDiscover ? messageTypes.offer : messageTypes.ack], OPTIONS);
  into.set([OPTION.server, 4], OPTIONS + 3);
  into.writeUInt32BE(server, OPTIONS + 5);
  into.set([OPTION.leaseTime, 4], OPTIONS + 9);
  into.writeUInt32BE(leaseSeconds, OPTIONS + 11);
  into[OPTIONS + 15] = OPTION.end;
}

/** Reads an answer; undefined when it is none that a guest would take. */
export function readAnswer(message: DataView, length: number): Answer | undefined {
  if (length < OPTIONS || message.getUint8(0) !== 2 || message.getUint32(COOKIE) !== MAGIC) return undefined;
  let type = 0;
  let server = 0;
  let leaseSeconds = 0;
  for (let at = OPTIONS; at < length; ) {
    const code = message.getUint8(at);
    if (code === OPTION.end) break;
    if (code === 0) {
      at++;
      continue;
    }
    if (at + 2 > length) return undefined;
    const size = message.getUint8(at + 1);
    if (at + 2 + size > length) return undefined;
    if (code === OPTION.type && size === 1) type = message.getUint8(at + 2);
    else if (code === OPTION.server && size === 4) server = message.getUint32(at + 2);
    else if (code === OPTION.leaseTime && size === 4) leaseSeconds = message.getUint32(at + 2);
    at += 2 + size;
  }
  return {
    type,
    xid: message.getUint32(XID),
    address: message.getUint32(YIADDR),
    guest: message.getUint32(CHADDR + 2),
    server,
    leaseSeconds,
  };
}

function bytesOf(address: number): number[] {
  return [address >>> 24, (address >>> 16) & 255, (address >>> 8) & 255, address & 255];
}
