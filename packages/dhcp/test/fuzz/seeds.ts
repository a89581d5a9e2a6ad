import { readFileSync } from "node:fs";

/** A message of a real client, taken apart. */
export interface Seed {
  readonly client: string;
  readonly state: string;
  /** The first 44 bytes: op to chaddr. */
  readonly header: Uint8Array;
  readonly options: readonly (readonly [code: number, value: Uint8Array])[];
  /** Of the whole packet. */
  readonly size: number;
}

interface Captured {
  readonly client: string;
  readonly state: string;
  readonly header: string;
  readonly options: string;
  readonly size: number;
}

/**
 * What dhclient 4.4.3, udhcpc 1.35, dhcpcd 9.4.1 and systemd-networkd 252 sent in `real-clients.test.ts` (run it with
 * CAPTURE=file), and what the option lists that Microsoft and Intel publish say that Windows 10/11 and PXE ROMs send;
 * those are put together here, not captured.
 */
export function seeds(): Seed[] {
  const text = readFileSync(new URL("./captured-packets.json", import.meta.url), "utf8");
  const captured = (JSON.parse(text) as Captured[]).map(({ header, options, ...rest }) => ({
    ...rest,
    header: Buffer.from(header, "hex"),
    options: readAll(Buffer.from(options, "hex")),
  }));
  return [...captured, ...windows(), ...pxe()];
}

function readAll(field: Uint8Array): (readonly [number, Uint8Array])[] {
  const options: (readonly [number, Uint8Array])[] = [];
  for (let at = 0; at < field.length && field[at] !== 255; ) {
    const length = field[at + 1] ?? 0;
    options.push([field[at] ?? 0, field.subarray(at + 2, at + 2 + length)]);
    at += 2 + length;
  }
  return options;
}

const mac = [0x52, 0x54, 0, 0, 0, 1];
const ip = (last: number): Uint8Array => Uint8Array.of(10, 0, 0, last);
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

function header(flags: number, ciaddr: Uint8Array = new Uint8Array(4)): Uint8Array {
  const bytes = new Uint8Array(44);
  bytes.set([1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, flags >> 8, flags & 255]);
  bytes.set(ciaddr, 12);
  bytes.set(mac, 28);
  return bytes;
}

/** Constructed. */
function windows(): Seed[] {
  const client = "Windows 10/11, constructed";
  const list: readonly [number, Uint8Array] = [
    55,
    Uint8Array.of(1, 3, 6, 15, 31, 33, 43, 44, 46, 47, 119, 121, 249, 252),
  ];
  const id: readonly [number, Uint8Array] = [61, Uint8Array.of(1, ...mac)];
  const host: readonly [number, Uint8Array] = [12, text("DESKTOP-1A2B3C")];
  const fqdn: readonly [number, Uint8Array] = [81, Uint8Array.of(0, 0, 0, ...text("DESKTOP-1A2B3C"))];
  const vendor: readonly [number, Uint8Array] = [60, text("MSFT 5.0")];
  const type = (value: number): readonly [number, Uint8Array] => [53, Uint8Array.of(value)];
  const size = 342;
  return [
    {
      client,
      state: "DISCOVER",
      header: header(0),
      options: [type(1), id, [50, ip(9)], host, vendor, list],
      size,
    },
    {
      client,
      state: "REQUEST selecting",
      header: header(0),
      options: [type(3), id, [50, ip(9)], [54, ip(1)], host, fqdn, vendor, list],
      size,
    },
    {
      client,
      state: "REQUEST renewing",
      header: header(0, ip(9)),
      options: [type(3), id, host, fqdn, vendor, list],
      size,
    },
    {
      client,
      state: "REQUEST rebooting",
      header: header(0),
      options: [type(3), id, [50, ip(9)], host, fqdn, vendor, list],
      size,
    },
    { client, state: "INFORM", header: header(0, ip(9)), options: [type(8), id, host, vendor, list], size },
    { client, state: "RELEASE", header: header(0, ip(9)), options: [type(7), [54, ip(1)], id], size },
    { client, state: "DECLINE", header: header(0), options: [type(4), id, [50, ip(9)], [54, ip(1)]], size },
  ];
}

/** Constructed. */
function pxe(): Seed[] {
  const client = "PXE ROM, constructed";
  const list = [
    1, 2, 3, 4, 5, 6, 11, 12, 13, 15, 16, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67,
  ];
  const common: readonly (readonly [number, Uint8Array])[] = [
    [57, Uint8Array.of(5, 192)],
    [55, Uint8Array.from(list)],
    [97, new Uint8Array(17)],
    [93, Uint8Array.of(0, 7)],
    [94, Uint8Array.of(1, 3, 16)],
    [60, text("PXEClient:Arch:00007:UNDI:003016")],
  ];
  return [
    {
      client,
      state: "DISCOVER",
      header: header(0x8000),
      options: [[53, Uint8Array.of(1)], ...common],
      size: 590,
    },
    {
      client,
      state: "REQUEST selecting",
      header: header(0x8000),
      options: [[53, Uint8Array.of(3)], [50, ip(9)], [54, ip(1)], ...common],
      size: 590,
    },
  ];
}
